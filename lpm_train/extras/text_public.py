"""T5 and CLIP text encoders through transformers, as an extra; read from a local directory, nothing is downloaded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lpm_train.codec import digest
from lpm_train.storage import DataError


class PublicText:
    """Last hidden states of a frozen text encoder."""

    def __init__(self, kind: str, model: Any, tokenizer: Any, length: int) -> None:
        """Wrap a model and its tokenizer."""
        self._model, self._tokenizer, self._lock = model.eval().requires_grad_(False), tokenizer, threading.Lock()
        self.length, self.width = length, int(model.config.hidden_size)
        self.name = f"{kind}:{length}x{self.width}"
        self.fingerprint = digest(self.name, *(v for _, v in sorted(model.state_dict().items())))

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


def load_public_text(kind: str, directory: str) -> PublicText:
    """Load a text encoder from a directory that transformers wrote.

    Raises:
        DataError: transformers is not installed, or the directory holds no such model.
    """
    try:
        from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel
    except ImportError as e:
        raise DataError(f"{kind}: needs transformers (pip install transformers): {e}") from e
    try:
        model = (T5EncoderModel if kind == "t5" else CLIPTextModel).from_pretrained(directory, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as e:
        raise DataError(f"no {kind} text encoder in {directory}: {e}") from e
    return PublicText(kind, model, tokenizer, 77 if kind == "clip" else 128)
