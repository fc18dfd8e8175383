"""A linear codec that is fitted in closed form: the principal components of blocks of pixels.

For tiny pictures and tests it beats a network: seconds to fit, the same to the bit every time, decodes a stream with no
state, and an average of latents is an average of pictures. Blocks of t x h x w pixels are projected on their first C
principal components, all on one scale: latents have unit spread as a whole, and strong components stay strong.
For real pictures use `codec_tiny` or a public autoencoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from lpm_train.encoders.codec import PatchCodec, State, denormalize, normalize
from lpm_train.storage import DataError


class PrincipalCodec:
    """Pixels of a block to their first principal components."""

    first_alone = False

    def __init__(self, stride: tuple[int, int, int], basis_DC: Tensor, centre_D: Tensor, scale: float) -> None:
        """Make the codec from an orthonormal basis of blocks with D = 3thw values; see `fit`."""
        self._fold = PatchCodec(stride)
        if basis_DC.shape[0] != self._fold.channels or centre_D.shape != basis_DC.shape[:1] or scale <= 0:
            raise DataError(f"principal codec: a basis of {list(basis_DC.shape)} does not fit blocks of {stride}")
        self.stride, self.channels = stride, basis_DC.shape[1]
        self.basis_DC, self.centre_D = basis_DC, centre_D
        self.name = f"principal {'x'.join(map(str, stride))}x{self.channels}"
        self.mean, self.std = torch.zeros(self.channels), torch.full((self.channels,), scale)

    @classmethod
    def fit(cls, clips: Iterable[Tensor], stride: tuple[int, int, int], channels: int) -> Self:
        """Fit to clips [B, F', 3, H', W'] in [-1, 1].

        Raises:
            DataError: there is no clip, or more channels are wanted than a block has values.
        """
        fold = PatchCodec(stride)
        count, total = 0, torch.zeros(fold.channels, dtype=torch.float64)
        square = torch.zeros(fold.channels, fold.channels, dtype=torch.float64)
        for clip in clips:
            x = fold.encode(clip).transpose(1, 2).flatten(2).transpose(1, 2).flatten(0, 1).double()
            count, total, square = count + len(x), total + x.sum(0), square + x.T @ x
        if not count or not 1 <= channels <= fold.channels:
            raise DataError(f"principal codec: {count} blocks cannot give {channels} of {fold.channels} components")
        centre = total / count
        values, vectors = torch.linalg.eigh(square / count - torch.outer(centre, centre))
        basis = vectors.flip(1)[:, :channels]
        basis = basis * torch.where(basis.sum(0) < 0, -1.0, 1.0)  # the sign of an eigenvector is arbitrary
        scale = float(values.flip(0)[:channels].mean().clamp_min(1e-12).sqrt())
        return cls(stride, basis.float(), centre.float(), scale)

    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Project: [B, F', 3, H', W'] -> [B, F'/t, C, H'/h, W'/w]."""
        x = self._fold.encode(frames_BFCHW) - self.centre_D.to(frames_BFCHW)[:, None, None]
        return normalize(self, torch.einsum("bfdhw,dc->bfchw", x, self.basis_DC.to(x)))

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Rebuild the pictures; there is nothing to carry."""
        x = torch.einsum("bfchw,dc->bfdhw", denormalize(self, latents_BFCHW), self.basis_DC.to(latents_BFCHW))
        frames, _ = self._fold.decode(x + self.centre_D.to(x)[:, None, None])
        return frames.clamp(-1, 1), None

    def save(self, path: str | Path) -> None:
        """Write basis and scale to a file."""
        parts = {"basis": self.basis_DC, "centre": self.centre_D, "scale": float(self.std[0])}
        torch.save({"stride": list(self.stride), **parts}, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of `save`.

        Raises:
            DataError: there is no such file, or it is none of ours.
        """
        try:
            x = torch.load(path, map_location="cpu", weights_only=True)
            t, h, w = x["stride"]
            return cls((t, h, w), x["basis"], x["centre"], x["scale"])
        except FileNotFoundError as e:
            raise DataError(f"no codec at {path}: fit one with PrincipalCodec.fit") from e
        except (KeyError, TypeError, ValueError, RuntimeError) as e:
            raise DataError(f"{path} is not a principal codec: {e}") from e
