"""The published tiny autoencoders for Wan's latents: `taew2_1` (Wan 2.1, 2.2 A14B) and `taew2_2` (Wan 2.2 5B) of TAEHV.

They make of the same latents nearly the same pictures as Wan's own autoencoder, for a small share of its work: ReLU
convolutions in rows and columns, and in time blocks that see a frame and the one before it. Weights are MIT, by Ollin
Boer Bohan (https://github.com/madebyollin/taehv); they are read from a file of yours, .pth or .safetensors, and never
downloaded. Modules have the names of that file, so its keys say where each tensor belongs.

Decoding is causal and streams exactly. Each latent gives four frames; of a stream's first latent the last one alone is
shown, as Wan codes a clip's first frame alone. Encoding is as published, which is not causal: latent i is made of
frames 4i to 4i+3 and those before, three more than Wan's sees, and the clip's last frame stands for those after its
end. Latents are those that the networks read (zero mean, unit spread); pictures inside are in [0, 1].
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lpm_train.encoders.codec import State, latent_frames, latent_size
from lpm_train.extras.remembering import run_remembering
from lpm_train.storage import DataError

_FORMS = {16: ("2.1", 1), 48: ("2.2", 2)}
"""Latent channels: which Wan's they are, and the sides of the pixel blocks that are folded into channels."""
_BOUND = 3.0  # latents are drawn softly into (-3, 3) before they are decoded
_WIDTHS = (256, 128, 64, 64)  # of the decoder, from small pictures to large; the encoder has the last throughout


class Conv(nn.Conv2d):
    """A convolution of 3 x 3, or 1 x 1, over every frame of [B, F, C, H, W]."""

    def __init__(self, inputs: int, outputs: int, side: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, side, stride=stride, padding=side // 2, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply to each frame."""
        y = super().forward(input.flatten(0, 1))
        return y.reshape(*input.shape[:2], *y.shape[1:])


class Memory(nn.Module):
    """A residual block over a frame and the one before it; nothing, zeros, is before a stream's first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            Conv(2 * width, width), nn.ReLU(), Conv(width, width), nn.ReLU(), Conv(width, width)
        )  # fmt: skip

    def forward(self, x_BFCHW: Tensor, before_BCHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply to the next frames of a stream; -> (frames, what the next call needs)."""
        before = torch.zeros_like(x_BFCHW[:, 0]) if before_BCHW is None else before_BCHW
        past = torch.cat([before[:, None], x_BFCHW[:, :-1]], 1)
        return fn.relu(self.conv(torch.cat([x_BFCHW, past], 2)) + x_BFCHW), x_BFCHW[:, -1]


class Pool(nn.Module):
    """Join `stride` frames into one."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv, self.stride = Conv(width * stride, width, 1, bias=False), stride

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        """Divide the frames by the stride; their number must be a multiple of it."""
        B, n, C, H, W = x_BFCHW.shape
        joined: Tensor = self.conv(x_BFCHW.reshape(B, n // self.stride, self.stride * C, H, W))
        return joined


class Grow(nn.Module):
    """Split each frame into `stride` frames."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv, self.stride = Conv(width, width * stride, 1, bias=False), stride

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        """Multiply the frames by the stride."""
        B, n, C, H, W = x_BFCHW.shape
        grown: Tensor = self.conv(x_BFCHW)
        return grown.reshape(B, n * self.stride, C, H, W)


class Bound(nn.Module):
    """Draw latents softly into (-3, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each value."""
        return torch.tanh(x / _BOUND) * _BOUND


class Double(nn.Module):
    """Double rows and columns of every frame."""

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        """Repeat each value in both directions."""
        y = fn.interpolate(x_BFCHW.flatten(0, 1), scale_factor=2)
        return y.reshape(*x_BFCHW.shape[:2], *y.shape[1:])


class TaewCodec(nn.Module):
    """The autoencoder; see the module's text."""

    first_alone = True
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 16) -> None:
        """Make it with fresh weights, for latents of 16 channels (Wan 2.1) or 48 (Wan 2.2)."""
        super().__init__()
        if channels not in _FORMS:
            raise DataError(f"taew: latents of {channels} channels are no Wan's; 16 and 48 are")
        kind, self.fold = _FORMS[channels]
        self.channels, self.stride = channels, (4, 8 * self.fold, 8 * self.fold)
        self.name = f"taew {kind} {'x'.join(map(str, self.stride))}x{channels}"
        pixels, width = 3 * self.fold**2, _WIDTHS[-1]
        encoder: list[nn.Module] = [Conv(pixels, width), nn.ReLU()]
        for stride in (2, 2, 1):
            encoder += [Pool(width, stride), Conv(width, width, stride=2, bias=False), *_memory(width)]
        decoder: list[nn.Module] = [Bound(), Conv(channels, _WIDTHS[0]), nn.ReLU()]
        for stride, before, after in zip((1, 2, 2), _WIDTHS, _WIDTHS[1:], strict=False):
            decoder += [*_memory(before), Double(), Grow(before, stride), Conv(before, after, bias=False)]
        # Places in these lists are those of the published file.
        self.encoder = nn.ModuleList([*encoder, Conv(width, channels)])
        self.decoder = nn.ModuleList([*decoder, nn.ReLU(), Conv(width, pixels)])
        self.register_buffer("mean", torch.zeros(channels), persistent=False)
        self.register_buffer("std", torch.ones(channels), persistent=False)

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a published file, of any float type, into a frozen codec in float32.

        Raises:
            DataError: there is no such file, it is damaged, or it is not of this form; what is wrong is named.
        """
        stored = _read(Path(path))
        try:
            codec = cls(_channels(stored))
            _fit(stored, codec.state_dict())
        except DataError as e:
            raise DataError(
                f"{path} is no tiny autoencoder for Wan: {e}. Take taew2_1 (latents of 16 channels) or taew2_2 (48), "
                ".pth or .safetensors, from https://github.com/madebyollin/taehv"
            ) from e
        codec.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
        return codec.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Encode whole clips; [B, F', 3, H', W'] -> [B, 1 + (F'-1)/4, C, H, W]."""
        latent_frames(self, frames_BFCHW.shape[1]), latent_size(self, *frames_BFCHW.shape[-2:])
        x = torch.cat([frames_BFCHW, frames_BFCHW[:, -1:].expand(-1, self.stride[0] - 1, -1, -1, -1)], 1)
        return run_remembering(self.encoder, fn.pixel_unshuffle((x + 1) / 2, self.fold), None, Memory)[0].float()

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Decode the next latents of a stream."""
        y, carried = run_remembering(self.decoder, latents_BFCHW, state, Memory)
        shown = y if state is not None else y[:, self.stride[0] - 1 :]
        return fn.pixel_shuffle(shown, self.fold).float().clamp(0, 1) * 2 - 1, carried


def _memory(width: int) -> list[nn.Module]:
    return [Memory(width) for _ in range(3)]


def _channels(stored: Mapping[str, Tensor]) -> int:
    """Return the latent channels of a file's tensors. Raises DataError where they are not to be found, or no Wan's."""
    weight = stored.get("decoder.1.weight")
    if weight is None or weight.dim() != 4:
        raise DataError("it lacks decoder.1.weight, by which the form is known")
    if weight.shape[1] not in _FORMS:
        raise DataError(f"decoder.1.weight reads latents of {weight.shape[1]} channels")
    return weight.shape[1]


def _fit(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """See that all tensors are there, each of its shape, and no other. Raises DataError that names one."""
    for said, names in (("lacks", wanted.keys() - stored.keys()), ("also holds", stored.keys() - wanted.keys())):
        if names:
            raise DataError(f"it {said} {min(names)}" + f" and {len(names) - 1} more" * (len(names) > 1))
    for name, tensor in wanted.items():
        if stored[name].shape != tensor.shape:
            raise DataError(f"{name} has shape {list(stored[name].shape)}, not {list(tensor.shape)}")
        if not stored[name].is_floating_point() or not math.isfinite(float(stored[name].float().sum())):
            raise DataError(f"{name} holds no finite numbers")


def _read(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name."""
    try:
        found = _opened(file)
    except ImportError as e:
        raise DataError(f"reading {file.name} needs safetensors (pip install 'openlpm[encoders]'): {e}") from e
    except FileNotFoundError as e:
        raise DataError(
            f"no file {file}: get taew2_1 (for Wan 2.1) or taew2_2 (for Wan 2.2 5B) from "
            "https://github.com/madebyollin/taehv and name it with data.codec.path"
        ) from e
    except (EOFError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as e:
        raise DataError(f"{file} is damaged, or no file of weights: {e}") from e
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise DataError(f"{file} holds other things than tensors by name")
    return {str(name): tensor for name, tensor in found.items()}


def _opened(file: Path) -> object:
    if file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as e:
        raise ValueError(str(e)) from e
