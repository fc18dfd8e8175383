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

    def __init__(self, kind: str, model: Any, tokenizer: Any, length: int) -> None:
        """Wrap a model and its tokenizer."""
        self._model, self._tokenizer, self._lock = model.eval().requires_grad_(False), tokenizer, threading.Lock()
        self.length, self.width = length, int(model.config.hidden_size)
        self.name = f"{kind} {length}x{self.width}"

    @classmethod
    def t5(cls, directory: str, length: int = 128) -> Self:
        """Load T5's encoder from a directory that transformers wrote.

        Raises:
            DataError: there is none, or it is an umT5, whose layers have position biases of their own.
        """
        file = Path(directory) / "config.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("model_type") == "umt5":
            raise DataError(f"{directory} holds an umT5: choose data.text=umt5")
        return cls("t5", pretrained("T5EncoderModel", directory), pretrained("AutoTokenizer", directory), length)

    @classmethod
    def umt5(cls, directory: str, tokenizer: str = "", length: int = 512) -> Self:
        """Load umT5's encoder, which Wan reads; its tokenizer is there too, or in `tokenizer` beside it."""
        beside = Path(directory).parent / "tokenizer"
        words = tokenizer or (str(beside) if beside.is_dir() else directory)
        return cls("umt5", pretrained("UMT5EncoderModel", directory), pretrained("AutoTokenizer", words), length)

    @classmethod
    def clip(cls, directory: str, length: int = 77) -> Self:
        """Load CLIP's text encoder."""
        return cls("clip", pretrained("CLIPTextModel", directory), pretrained("AutoTokenizer", directory), length)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode: -> (token states [B, L, Dt], mask [B, L]); an empty text has no token."""
        with self._lock:
            coded = self._tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
            )
            hidden = self._model(coded.input_ids, attention_mask=coded.attention_mask).last_hidden_state.float()
        mask = coded.attention_mask.bool() & torch.tensor([bool(t.strip()) for t in texts])[:, None]
        return hidden * mask[..., None], mask
