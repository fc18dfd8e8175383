"""T5, umT5 and CLIP text encoders through transformers, as an extra; read from a directory, nothing is downloaded."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lpm_train.extras.audio_public import pretrained
from lpm_train.storage import DataError


class PublicText:
    """Last hidden states of a frozen text encoder."""

    def __init__(self, kind: str, model: Any, tokenizer: Any, length: int, dtype: str = "") -> None:
        """Wrap a model and its tokenizer; a chosen number type is said in the name, for it decides the numbers."""
        self._model, self._tokenizer, self._lock = model.eval().requires_grad_(False), tokenizer, threading.Lock()
        self.length, self.width = length, int(model.config.hidden_size)
        self.name = f"{kind} {length}x{self.width}" + f", {dtype}" * bool(dtype)

    @classmethod
    def t5(cls, directory: str, length: int = 128, dtype: str = "") -> Self:
        """Load T5's encoder from a directory that transformers wrote.

        Args:
            directory: config, weights and tokenizer.
            length: token places of a text.
            dtype: float32 or bfloat16, in which it computes; empty: as transformers reads it.

        Raises:
            DataError: there is none, or it is an umT5, whose layers have position biases of their own.
        """
        file = Path(directory) / "config.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("model_type") == "umt5":
            raise DataError(f"{directory} holds an umT5: choose data.text=umt5")
        words = pretrained("AutoTokenizer", directory)
        return cls("t5", pretrained("T5EncoderModel", directory, dtype), words, length, dtype)

    @classmethod
    def umt5(cls, directory: str, tokenizer: str = "", length: int = 512, dtype: str = "") -> Self:
        """Load umT5's encoder, which Wan reads; its tokenizer is there too, or in `tokenizer` beside it."""
        beside = Path(directory).parent / "tokenizer"
        words = tokenizer or (str(beside) if beside.is_dir() else directory)
        model = pretrained("UMT5EncoderModel", directory, dtype)
        return cls("umt5", model, pretrained("AutoTokenizer", words), length, dtype)

    @classmethod
    def clip(cls, directory: str, length: int = 77, dtype: str = "") -> Self:
        """Load CLIP's text encoder."""
        words = pretrained("AutoTokenizer", directory)
        return cls("clip", pretrained("CLIPTextModel", directory, dtype), words, length, dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """Move the network, and change its number type if one is given; embeddings come back in float32 on the CPU."""
        self._model.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode: -> (token states [B, L, Dt], mask [B, L]); an empty text has no token."""
        with self._lock:
            coded = self._tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
            )
            ids, seen = (x.to(self._model.device) for x in (coded.input_ids, coded.attention_mask))
            hidden = self._model(ids, attention_mask=seen).last_hidden_state.float().cpu()
        mask = coded.attention_mask.bool() & torch.tensor([bool(t.strip()) for t in texts])[:, None]
        return hidden * mask[..., None], mask
