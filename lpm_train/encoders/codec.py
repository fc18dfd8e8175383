"""Between pictures and latents: the interface every codec has, its frame accounting, and an exact codec for tests.

A codec turns [B, F', 3, H', W'] pictures in [-1, 1] into [B, F, C, H, W] latents of about unit spread, and decodes a
stream of latents piece by piece with a carried state. With stride t in time a codec is of one of two kinds: every
latent covers t frames (F = F'/t), or the first covers one frame alone and all others t (F = 1 + (F'-1)/t), as the
public causal video autoencoders do. All frame arithmetic of the package is in this file; it costs nothing.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from lpm_train.storage import DataError

State = Any  # what a decoder carries from piece to piece; opaque, and None before the first piece


class Codec(Protocol):
    """Pictures to latents and back."""

    name: str
    stride: tuple[int, int, int]  # (frames, rows, columns) of pictures in one latent
    channels: int
    first_alone: bool  # True: the first latent of a clip covers one frame only
    mean: Tensor  # mean of raw latents by channel, [C]; `encode` subtracts it
    std: Tensor  # spread of raw latents by channel, [C]; `encode` divides by it

    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Encode whole clips: [B, F', 3, H', W'] in [-1, 1] -> [B, F, C, H, W]."""

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Decode the next latents of a stream: [B, F, C, H, W] -> ([B, F', 3, H', W'], state for the next call)."""


def latent_frames(codec: Codec, frames: int) -> int:
    """Return how many latents `frames` pictures make.

    Raises:
        DataError: that number of pictures does not fill its last latent.
    """
    t, first = codec.stride[0], int(codec.first_alone)
    if frames < 1 or (frames - first) % t:
        near = whole_frames(codec, frames)
        raise DataError(
            f"{frames} frames do not fit {codec.name}, whose latents cover {t} frames"
            f"{' after a first one of its own' if first else ''}; use {near or first + (1 - first) * t} or {near + t}"
        )
    return first + (frames - first) // t


def picture_frames(codec: Codec, latents: int) -> int:
    """Return how many pictures a stream of `latents` latents decodes to, from its start."""
    return latents * codec.stride[0] - (codec.stride[0] - 1 if codec.first_alone and latents else 0)


def whole_frames(codec: Codec, frames: int) -> int:
    """Return the largest number of pictures <= `frames` that makes whole latents; 0 if there is none."""
    t, first = codec.stride[0], int(codec.first_alone)
    return 0 if frames < (first or t) else first + (frames - first) // t * t


def latent_span(codec: Codec, index: int) -> tuple[int, int]:
    """Return the pictures [start, stop) that latent `index` of a clip covers."""
    return picture_frames(codec, index), picture_frames(codec, index + 1)


def latent_size(codec: Codec, height: int, width: int) -> tuple[int, int]:
    """Return (H, W) of latents for pictures of that size.

    Raises:
        DataError: the size is not a multiple of the codec's stride.
    """
    _, h, w = codec.stride
    if height % h or width % w or min(height, width) < 1:
        raise DataError(f"pictures of {width}x{height} do not fit {codec.name}: sides must be multiples of {w}x{h}")
    return height // h, width // w


def encode_images(codec: Codec, images_BCHW: Tensor) -> Tensor:
    """Encode pictures as single latents [B, C, H, W]: a still of as many frames as the first latent covers."""
    n = 1 if codec.first_alone else codec.stride[0]
    return codec.encode(images_BCHW[:, None].expand(-1, n, -1, -1, -1))[:, 0]


@torch.no_grad()
def grey(codec: Codec, height: int, width: int, device: str = "cpu") -> Tensor:
    """Return what a grey picture that lasts is coded as, [C, H, W]: image-to-video bases see it where none is given."""
    frames = 2 * codec.stride[0] + int(codec.first_alone)
    return codec.encode(torch.zeros(1, frames, 3, height, width, device=device))[0, -1].float().cpu()


class PatchCodec:
    """Fold blocks of t x h x w pixels into channels: exactly invertible, no weights; for tests and tiny pictures."""

    first_alone = False

    def __init__(self, stride: tuple[int, int, int] = (1, 4, 4), mean: float = 0.0, std: float = 1.0) -> None:
        """Make the codec; inversion is exact to the bit when `mean` is 0 and `std` a power of two."""
        if min(stride) < 1 or std <= 0:
            raise DataError(f"patch codec: stride {stride} must be positive, and std {std} too")
        self.stride = stride
        self.channels = 3 * stride[0] * stride[1] * stride[2]
        self.name = "patch " + "x".join(map(str, stride))
        self.mean, self.std = torch.full((self.channels,), mean), torch.full((self.channels,), std)

    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Fold: [B, F', 3, H', W'] -> [B, F'/t, 3thw, H'/h, W'/w]."""
        (t, h, w), (B, n, c, H, W) = self.stride, frames_BFCHW.shape
        F, (rows, columns) = latent_frames(self, n), latent_size(self, H, W)
        x = frames_BFCHW.reshape(B, F, t, c, rows, h, columns, w).permute(0, 1, 2, 3, 5, 7, 4, 6)
        return normalize(self, x.reshape(B, F, self.channels, rows, columns))

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Unfold; there is nothing to carry."""
        (t, h, w), (B, F, _, H, W) = self.stride, latents_BFCHW.shape
        x = denormalize(self, latents_BFCHW).reshape(B, F, t, 3, h, w, H, W).permute(0, 1, 2, 3, 6, 4, 7, 5)
        return x.reshape(B, F * t, 3, H * h, W * w), None


def normalize(codec: Codec, raw_BFCHW: Tensor) -> Tensor:
    """Bring raw latents to zero mean and unit spread by channel."""
    mean, std = (v.to(raw_BFCHW)[:, None, None] for v in (codec.mean, codec.std))
    return (raw_BFCHW - mean) / std


def denormalize(codec: Codec, latents_BFCHW: Tensor) -> Tensor:
    """Undo `normalize`."""
    mean, std = (v.to(latents_BFCHW)[:, None, None] for v in (codec.mean, codec.std))
    return latents_BFCHW * std + mean
