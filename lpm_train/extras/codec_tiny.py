"""A small video autoencoder that is trained here: no download, causal in time, decodes a stream exactly.

Pictures pass convolutions one by one; the only look in time is that each residual block also sees what it saw at the
frame before (so a decoder's state is one frame of activations a block), and that t frames are folded into one latent.
The shape follows TAESD and TAEHV (Bohan, github.com/madebyollin): ReLU blocks, nearest upsampling, no normalisation
layers, latents bounded by a soft clip; the mean of each block goes beside the layers, so that training starts from a
mosaic. Deterministic, with noise on the latents in training instead of a KL term, so that near latents decode to near
pictures. About 1 M weights at width 64.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpm_train.encoders.codec import State, denormalize, latent_frames, latent_size, normalize
from lpm_train.extras.remembering import run_remembering
from lpm_train.storage import DataError

_BOUND = 3.0  # latents before normalisation lie in (-3, 3), as TAESD's do


@dataclass(frozen=True)
class TinyConfig:
    """Shape of the autoencoder."""

    stride: tuple[int, int, int] = (4, 8, 8)  # (frames, rows, columns) in a latent, powers of two; rows equal columns
    channels: int = 16
    width: int = 64
    blocks: int = 2  # residual blocks at each scale

    def __post_init__(self) -> None:
        t, h, w = self.stride
        if h != w or t < 1 or h < 2 or t & (t - 1) or h & (h - 1) or t > h:
            raise DataError(f"tiny codec: stride {self.stride}: powers of two, rows = columns >= 2 and >= frames")
        if min(self.channels, self.width, self.blocks) < 1:
            raise DataError("tiny codec: channels, width and blocks must be at least 1")


def _each(module: nn.Module, x_BFCHW: Tensor) -> Tensor:
    """Apply a picture module to every frame."""
    y: Tensor = module(x_BFCHW.flatten(0, 1))
    return y.reshape(*x_BFCHW.shape[:2], *y.shape[1:])


class MemoryBlock(nn.Module):
    """Residual block over a frame and its predecessor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x_BFCHW: Tensor, before_BCHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply to the next frames of a stream; -> (frames, what the next call needs). A stream starts as a still."""
        first = x_BFCHW[:, 0] if before_BCHW is None else before_BCHW
        past = torch.cat([first[:, None], x_BFCHW[:, :-1]], 1)
        y = _each(self.body, torch.cat([x_BFCHW, past], 2))
        return F.relu(x_BFCHW + y), x_BFCHW[:, -1]


class Fold(nn.Module):
    """Join pairs of frames into one or split each frame into two."""

    def __init__(self, width: int, join: bool) -> None:
        super().__init__()
        self.mix, self.join = nn.Conv2d(*((2 * width, width) if join else (width, 2 * width)), 1), join

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        """Halve or double the frames."""
        B, n, C, H, W = x_BFCHW.shape
        if self.join:
            return _each(self.mix, x_BFCHW.reshape(B, n // 2, 2 * C, H, W))
        return _each(self.mix, x_BFCHW).reshape(B, 2 * n, C, H, W)


class PerFrame(nn.Module):
    """Apply a picture module to every frame."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        """Apply to [B, F, ...]."""
        return _each(self.body, x_BFCHW)


class TinyVideoAE(nn.Module):
    """The default codec; see the module's text."""

    first_alone = False
    mean: Tensor
    std: Tensor

    def __init__(self, config: TinyConfig = TinyConfig()) -> None:
        super().__init__()
        self.config, self.stride, self.channels = config, config.stride, config.channels
        self.name = f"tiny {'x'.join(map(str, config.stride))}x{config.channels}"
        scales, folds, width = int(math.log2(config.stride[1])), int(math.log2(config.stride[0])), config.width
        # Half the size is folded into channels at both ends: convolutions at full size would be most of the cost.
        encoder: list[nn.Module] = [PerFrame(nn.PixelUnshuffle(2), nn.Conv2d(12, width, 3, padding=1), nn.ReLU())]
        decoder: list[nn.Module] = [PerFrame(nn.Conv2d(config.channels, width, 3, padding=1), nn.ReLU())]
        for i in range(scales):
            encoder += [PerFrame(nn.Conv2d(width, width, 3, stride=2, padding=1))] if i else []
            encoder += [Fold(width, True)] if i >= scales - folds else []
            encoder += [MemoryBlock(width) for _ in range(config.blocks)]
            decoder += [MemoryBlock(width) for _ in range(config.blocks)]
            decoder += [Fold(width, False)] if i < folds else []
            up = [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
            decoder += [PerFrame(*up)] if i < scales - 1 else []
        encoder += [PerFrame(nn.Conv2d(width, config.channels, 3, padding=1))]
        decoder += [PerFrame(nn.ReLU(), nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2))]
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.shrink, self.grow = nn.Conv2d(3, config.channels, 1, bias=False), nn.Conv2d(config.channels, 3, 1)
        for module in self.modules():  # without normalisation layers, PyTorch's own start lets the signal fade
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias) if module.bias is not None else None
        for module in [m.body[2] for m in self.modules() if isinstance(m, MemoryBlock)] + [encoder[-1], decoder[-1]]:
            for weight in module.parameters():
                weight.data.mul_(0.1)
        for mosaic in (self.shrink, self.grow):  # it starts as the mean of each block
            nn.init.eye_(mosaic.weight.data[:, :, 0, 0])
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("std", torch.ones(config.channels))

    def raw_encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Encode without normalisation; in (-3, 3)."""
        latent_frames(self, frames_BFCHW.shape[1]), latent_size(self, *frames_BFCHW.shape[-2:])
        z = run_remembering(self.encoder, frames_BFCHW, None, MemoryBlock)[0]
        means = F.avg_pool3d(frames_BFCHW.transpose(1, 2), self.stride).transpose(1, 2)
        return torch.tanh((z + _each(self.shrink, means)) / _BOUND) * _BOUND

    def raw_decode(self, raw_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Decode latents that are not normalised."""
        y, state = run_remembering(self.decoder, raw_BFCHW, state, MemoryBlock)
        t, h, w = self.stride
        means = _each(self.grow, raw_BFCHW).repeat_interleave(t, 1)
        return y + means.repeat_interleave(h, 3).repeat_interleave(w, 4), state

    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Encode whole clips; [B, F', 3, H', W'] -> [B, F'/t, C, H'/h, W'/w]."""
        return normalize(self, self.raw_encode(frames_BFCHW))

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Decode the next latents of a stream."""
        frames, state = self.raw_decode(denormalize(self, latents_BFCHW), state)
        return frames.clamp(-1, 1), state

    def save(self, path: str | Path) -> None:
        """Write shape and weights to a file."""
        torch.save({"config": asdict(self.config), "weights": self.state_dict()}, path)

    @classmethod
    def load(cls, path: str | Path) -> TinyVideoAE:
        """Read a file of `save`; the codec is frozen.

        Raises:
            DataError: there is no such file, or it is none of ours.
        """
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            stored["config"]["stride"] = tuple(stored["config"]["stride"])
            codec = cls(TinyConfig(**stored["config"]))
            codec.load_state_dict(stored["weights"])
        except FileNotFoundError as e:
            raise DataError(
                f"no codec at {path}: train one with `lpm train codec DATASET --out {path}`, or use data.codec=patch"
            ) from e
        except (KeyError, TypeError, RuntimeError, EOFError, struct.error, pickle.UnpicklingError) as e:
            raise DataError(f"{path} is not a codec written by this package: {e}") from e
        return codec.eval().requires_grad_(False)


def train_codec(
    codec: TinyVideoAE, clips: Iterator[Tensor], steps: int, *, lr: float = 1e-3, latent_noise: float = 0.05,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:  # fmt: skip
    """Train on clips [B, F', 3, H', W'] in [-1, 1], then measure the normalisation; -> loss by step.

    The loss is L1 + L2 of the pictures and L1 of their change from frame to frame (without it, small fast motion such
    as lips is averaged away first). The learning rate falls to zero along a half cosine.
    """
    optimizer = torch.optim.AdamW(codec.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 + 0.5 * math.cos(math.pi * i / steps))
    device = next(codec.parameters()).device
    codec.train().requires_grad_(True)
    losses = []
    for step in range(steps):
        x = next(clips).to(device)
        z = codec.raw_encode(x)
        y, _ = codec.raw_decode(z + latent_noise * torch.randn_like(z))
        loss = F.l1_loss(y, x) + F.mse_loss(y, x) + F.l1_loss(y.diff(dim=1), x.diff(dim=1))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if report is not None:
            report(step, losses[-1])
    codec.eval().requires_grad_(False)
    measure_normalisation(codec, clips)
    return losses


@torch.no_grad()
def measure_normalisation(codec: TinyVideoAE, clips: Iterator[Tensor], batches: int = 8) -> None:
    """Set mean and spread of raw latents by channel from some clips."""
    device = next(codec.parameters()).device
    z = torch.cat([codec.raw_encode(next(clips).to(device)).transpose(1, 2).flatten(2) for _ in range(batches)])
    codec.mean.copy_(z.mean(dim=(0, 2)))
    codec.std.copy_(z.std(dim=(0, 2)).clamp_min(1e-3))
