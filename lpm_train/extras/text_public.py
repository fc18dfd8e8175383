"""T5 and CLIP text encoders through transformers, as an extra; read from a local directory, nothing is downloaded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from lpm_train.extras.audio_public import pretrained


class PublicText:
    """Last hidden states of a frozen text encoder."""

    def __init__(self, kind: str, model: Any, tokenizer: Any, length: int) -> None:
        """Wrap a model and its tokenizer."""
        self._model, self._tokenizer, self._lock = model.eval().requires_grad_(False), tokenizer, threading.Lock()
        self.length, self.width = length, int(model.config.hidden_size)
        self.name = f"{kind} {length}x{self.width}"

    @classmethod
    def t5(cls, directory: str, length: int = 128) -> Self:
        """Load T5's encoder from a directory that transformers wrote. Raises DataError, as `clip` does."""
        return cls("t5", pretrained("T5EncoderModel", directory), pretrained("AutoTokenizer", directory), length)

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
