"""Random weights in the published layout of the tiny autoencoders, and what the published code makes of them.

The layout is written down here from that of `taew2_1` and `taew2_2`; the passes follow the published one step by step,
a frame at a time through all layers, with nothing of the codec under test.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as fn

Weights = dict[str, Tensor]
TIMES = {"encoder": {2: 2, 7: 2, 12: 1}, "decoder": {7: 1, 13: 2, 19: 2}}  # place: frames in, or frames out
MEMORY = {"encoder": (4, 5, 6, 9, 10, 11, 14, 15, 16), "decoder": (3, 4, 5, 9, 10, 11, 15, 16, 17)}


def layout(channels: int = 16, fold: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the published names and shapes: 128 of them."""
    pixels, out = 3 * fold**2, dict[str, tuple[int, ...]]()

    def conv(name: str, outputs: int, inputs: int, side: int = 3, bias: bool = True) -> None:
        out[f"{name}.weight"] = (outputs, inputs, side, side)
        if bias:
            out[f"{name}.bias"] = (outputs,)

    conv("encoder.0", 64, pixels)
    for at, frames in TIMES["encoder"].items():
        conv(f"encoder.{at}.conv", 64, 64 * frames, 1, False)
        conv(f"encoder.{at + 1}", 64, 64, 3, False)
    conv("encoder.17", channels, 64)
    conv("decoder.1", 256, channels)
    for (at, frames), (before, after) in zip(
        TIMES["decoder"].items(), ((256, 128), (128, 64), (64, 64)), strict=True
    ):  # fmt: skip
        conv(f"decoder.{at}.conv", before * frames, before, 1, False)
        conv(f"decoder.{at + 1}", after, before, 3, False)
    conv("decoder.22", pixels, 64)
    for part, widths in (("encoder", (64, 64, 64)), ("decoder", (256, 128, 64))):
        for at, width in zip(MEMORY[part], (w for w in widths for _ in range(3)), strict=True):
            for k in (0, 2, 4):
                conv(f"{part}.{at}.conv.{k}", width, 2 * width if k == 0 else width)
    return out


@functools.cache
def weights(channels: int = 16, fold: int = 1, seed: int = 0) -> Weights:
    """Draw weights that neither fade nor grow from layer to layer, always the same; colours lie around the middle."""
    g, out = torch.Generator().manual_seed(seed), Weights()
    for name, shape in layout(channels, fold).items():
        fan = shape[1] * shape[2] * shape[3] if len(shape) == 4 else 100
        small = 0.3 if ".conv.4." in name else 1.0
        out[name] = torch.randn(shape, generator=g) * small * (1.4 / fan**0.5 if len(shape) == 4 else 0.1)
    out["decoder.22.weight"] *= 0.3
    out["decoder.22.bias"] = out["decoder.22.bias"] + 0.5
    return out


def written(file: Path, stored: Weights) -> Path:
    """Write as published, in half precision, in the format that the name tells."""
    half = {name: tensor.half().contiguous() for name, tensor in stored.items()}
    if file.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(half, file)
    else:
        torch.save(half, file)
    return file


class Steps:
    """One half of the published network, fed a frame [B, C, H, W] at a time."""

    def __init__(self, stored: Weights, part: str) -> None:
        self.stored = {n.removeprefix(f"{part}."): w for n, w in stored.items() if n.startswith(part)}
        self.part, self.before, self.waiting = part, dict[int, Tensor](), dict[int, list[Tensor]]()

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.stored[f"{name}.weight"]
        return fn.conv2d(x, weight, self.stored.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)

    def feed(self, x: Tensor, at: int = 0) -> Iterator[Tensor]:
        """Yield what comes out once this frame is at a place of the network."""
        encoder, last = self.part == "encoder", 17 if self.part == "encoder" else 22
        if at > last:
            yield x
        elif at in MEMORY[self.part]:
            y = torch.cat([x, self.before.get(at, torch.zeros_like(x))], 1)
            self.before[at] = x
            for k in (0, 2, 4):
                y = self.conv(f"{at}.conv.{k}", y)
                y = fn.relu(y) if k < 4 else y
            yield from self.feed(fn.relu(y + x), at + 1)
        elif at in TIMES[self.part] and encoder:
            held = self.waiting.setdefault(at, [])
            held.append(x)
            if len(held) == TIMES["encoder"][at]:
                joined = torch.cat(held, 1)
                held.clear()
                yield from self.feed(self.conv(f"{at}.conv", joined), at + 1)
        elif at in TIMES[self.part]:
            for part in self.conv(f"{at}.conv", x).chunk(TIMES["decoder"][at], 1):
                yield from self.feed(part, at + 1)
        elif f"{at}.weight" in self.stored:
            yield from self.feed(self.conv(str(at), x, 2 if encoder and at in (3, 8, 13) else 1), at + 1)
        elif not encoder and at == 0:
            yield from self.feed(torch.tanh(x / 3) * 3, at + 1)
        elif not encoder and at in (6, 12, 18):
            yield from self.feed(x.repeat_interleave(2, 2).repeat_interleave(2, 3), at + 1)
        else:
            yield from self.feed(fn.relu(x), at + 1)


@torch.no_grad()
def encoded(stored: Weights, frames_BFCHW: Tensor, fold: int = 1) -> Tensor:
    """Encode pictures in [-1, 1] as the published code does, the last frame standing for those after the end."""
    steps, out = Steps(stored, "encoder"), list[Tensor]()
    n = frames_BFCHW.shape[1]
    for i in range(-(-n // 4) * 4):
        out += steps.feed(fn.pixel_unshuffle(frames_BFCHW[:, min(i, n - 1)] * 0.5 + 0.5, fold))
    return torch.stack(out, 1)


@torch.no_grad()
def decoded(stored: Weights, latents_BFCHW: Tensor, fold: int = 1) -> Tensor:
    """Decode to pictures in [-1, 1], the first three left out."""
    steps, out = Steps(stored, "decoder"), list[Tensor]()
    for latent in latents_BFCHW.unbind(1):
        out += steps.feed(latent)
    return torch.stack([fn.pixel_shuffle(x, fold).clamp(0, 1) * 2 - 1 for x in out[3:]], 1)
