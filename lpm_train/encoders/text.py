"""Text to embeddings: a fixed number of token places and a mask, from a small sentence encoder or a hash.

`HashedWords` needs no weights and says in its name what it is: each word becomes a fixed random vector, so equal words
are equal and nothing else is known of them. `minilm` is a real encoder (see `text_minilm`); T5 and CLIP are
extras. Encoders are frozen, so their output belongs into `precompute`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lpm_train.batch import sample_seed


class TextEncoder(Protocol):
    """Sentences to token embeddings."""

    name: str
    width: int  # features Dt of a token
    length: int  # token places L; longer texts are cut there

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode: -> (embeddings [B, L, Dt], bool mask [B, L]); an empty text has no token."""


class HashedWords:
    """Bag of hashed words: one fixed Gaussian vector of unit spread a word, in order. No meaning, no weights."""

    def __init__(self, width: int = 64, length: int = 48) -> None:
        self.width, self.length = width, length
        self.name = f"hashed-words {width}x{length}"

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode: -> ([B, L, Dt], [B, L])."""
        out = torch.zeros(len(texts), self.length, self.width)
        mask = torch.zeros(out.shape[:2], dtype=torch.bool)
        for b, text in enumerate(texts):
            for i, word in enumerate(re.findall(r"\w+", text.lower())[: self.length]):
                draw = np.random.default_rng(sample_seed("word", word)).standard_normal(self.width, np.float32)
                out[b, i], mask[b, i] = torch.from_numpy(draw), True
        return out, mask
