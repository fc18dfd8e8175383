"""What an image encoder sees in the picture that a clip begins with: asked for by image-to-video bases of Wan 2.1."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class PictureEncoder(Protocol):
    """Pictures to tokens."""

    name: str
    width: int  # features P of a token; 0: nothing is seen

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Encode: [B, 3, H', W'] in [-1, 1] -> [B, I, P]."""


class Unseen:
    """No image encoder."""

    name, width = "none", 0

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Give no token."""
        return images_BCHW.new_zeros(len(images_BCHW), 0, 0)
