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

    def __init__(self, model: Any, mean: list[float], std: list[float]) -> None:
        """Wrap a model and its normalisation."""
        self._model, self._lock = model.eval().requires_grad_(False), threading.Lock()
        self.width, self.size = int(model.config.hidden_size), int(model.config.image_size)
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        self.name = f"clip-vision {self.width}"

    @classmethod
    def load(cls, directory: str) -> Self:
        """Load from a directory that transformers wrote; the processor is there, or beside it as in pipelines.

        Raises:
            DataError: there is no such model, or no processor.
        """
        beside = Path(directory).parent / "image_processor"
        made = pretrained("CLIPImageProcessor", str(beside) if beside.is_dir() else directory)
        return cls(pretrained("CLIPVisionModel", directory), made.image_mean, made.image_std)

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
            tokens: Tensor = self._model(x, output_hidden_states=True).hidden_states[-2]
        return tokens.float()
