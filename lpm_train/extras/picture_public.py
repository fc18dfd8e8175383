"""CLIP's image encoder through transformers, as an extra; read from a local directory, nothing is downloaded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lpm_train.extras.audio_public import pretrained


class ClipPicture:
    """States of all tokens one layer before the last, as Wan 2.1 reads them."""

    def __init__(self, model: Any, mean: list[float], std: list[float], dtype: str = "") -> None:
        """Wrap a model and its normalisation; `dtype` is said in the name where it is chosen."""
        self._model, self._lock = model.eval().requires_grad_(False), threading.Lock()
        self.width, self.size = int(model.config.hidden_size), int(model.config.image_size)
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        self.name = f"clip-vision {self.width}" + f", {dtype}" * bool(dtype)

    @classmethod
    def load(cls, directory: str, dtype: str = "") -> Self:
        """Load from a directory that transformers wrote; the processor is there, or beside it as in pipelines.

        Args:
            directory: config and weights.
            dtype: float32 or bfloat16, in which it computes; empty: as transformers reads it.

        Raises:
            DataError: there is no such model, or no processor.
        """
        beside = Path(directory).parent / "image_processor"
        made = pretrained("CLIPImageProcessor", str(beside) if beside.is_dir() else directory)
        return cls(pretrained("CLIPVisionModel", directory, dtype), made.image_mean, made.image_std, dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """Move the network, and change its number type if one is given; tokens come back in float32 on the CPU."""
        self._model.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Encode: [B, 3, H', W'] in [-1, 1] -> [B, I, P]; the middle, as large as the model sees."""
        H, W = images_BCHW.shape[-2:]
        scale = self.size / min(H, W)
        size = [max(self.size, round(H * scale)), max(self.size, round(W * scale))]
        x = F.interpolate((images_BCHW.float().cpu() + 1) / 2, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (size[0] - self.size) // 2, (size[1] - self.size) // 2
        x = (x[..., top : top + self.size, left : left + self.size] - self.mean) / self.std
        with self._lock:
            seen = x.to(self._model.device, self._model.dtype)
            tokens: Tensor = self._model(seen, output_hidden_states=True).hidden_states[-2]
        return tokens.float().cpu()
