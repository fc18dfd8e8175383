"""LPIPS (Zhang et al. 2018, arXiv 1801.03924): how far two pictures look apart, by VGG-16 and as people judged.

Features after the last ReLU of each of five stages, scaled to unit length along the channels; their squared difference,
weighed channel by channel with the learned linear weights, summed over the stages and averaged over places. Weights are
read from a directory of yours and never downloaded: torchvision's VGG-16 (`features.N.weight`, `features.N.bias`) and
the linear weights of LPIPS 0.1 (`lin0.model.1.weight` ... `lin4.model.1.weight`), as .pth or .safetensors, in one file
or several. A pass costs that of VGG-16's convolutions, some 30 GFLOP for 224 x 224.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lpm_train.config import ConfigError
from lpm_train.encoders.codec import Codec
from lpm_train.encoders.perceptual import unit

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Convolutions of VGG-16 by their place in torchvision's `features`; each stage but the first halves the picture."""

# Of ImageNet, for pictures in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """The distance; frozen."""

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Make the network of its weights by name.

        Raises:
            ConfigError: a weight is missing, or does not fit the one before it.
        """
        super().__init__()
        names = [f"features.{n}.{kind}" for stage in STAGES for n in stage for kind in ("weight", "bias")]
        names += [f"lin{k}.model.1.weight" for k in range(len(STAGES))]
        if lacking := [n for n in names if n not in weights]:
            raise ConfigError(f"{lacking[0]} is not there, nor are {len(lacking) - 1} more of {len(names)} weights")
        self.stages, width = nn.ModuleList(), 3
        for k, stage in enumerate(STAGES):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if k else []
            for n in stage:
                w, b = (weights[f"features.{n}.{kind}"].float() for kind in ("weight", "bias"))
                if w.shape[1:] != (width, 3, 3) or b.shape != w.shape[:1]:
                    raise ConfigError(f"features.{n}.weight has shape {list(w.shape)}, not [any, {width}, 3, 3]")
                conv, width = nn.Conv2d(width, len(w), 3, padding=1), len(w)
                conv.weight, conv.bias = nn.Parameter(w.clone()), nn.Parameter(b.clone())
                layers += [conv, nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
            lin = weights[f"lin{k}.model.1.weight"].float()
            if lin.shape != (1, width, 1, 1):
                raise ConfigError(f"lin{k}.model.1.weight has shape {list(lin.shape)}, not {[1, width, 1, 1]}")
            self.register_buffer(f"lin{k}", lin.clone())
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, directory: str) -> Self:
        """Read weights from all .pth and .safetensors files of a directory.

        Raises:
            ConfigError: there are none, or one that is needed is missing.
        """
        files = sorted(f for kind in ("*.pth", "*.safetensors") for f in Path(directory).glob(kind))
        weights: dict[str, Tensor] = {}
        try:
            for file in files:
                weights |= _read(file)
            return cls(weights)
        except ConfigError as e:
            raise ConfigError(
                f"{directory} does not hold the weights of LPIPS with VGG-16 ({len(files)} files): {e}. Put "
                "torchvision's vgg16 and vgg.pth of LPIPS 0.1 there; nothing is downloaded"
            ) from e

    def distance(self, a_NCHW: Tensor, b_NCHW: Tensor) -> Tensor:
        """Compare pictures [N, 3, H, W] in [-1, 1], sides of 16 and more: -> [N]."""
        if min(a_NCHW.shape[-2:]) < 16:
            raise ConfigError(f"LPIPS halves pictures four times: {list(a_NCHW.shape[-2:])} is less than 16")
        a, b = ((x - self.shift) / self.scale for x in (a_NCHW, b_NCHW))
        total = a.new_zeros(len(a))
        for k, stage in enumerate(self.stages):
            a, b = stage(a), stage(b)
            apart = (unit(a, 1) - unit(b, 1)).square()
            total = total + fn.conv2d(apart, getattr(self, f"lin{k}").to(apart)).mean(dim=(1, 2, 3))
        return total

    def forward(self, codec: Codec, y_BFCHW: Tensor, x_BFCHW: Tensor) -> Tensor:
        """Compare pictures of latents, see `perceptual.Perceptual`."""
        with torch.no_grad():
            theirs = codec.decode(x_BFCHW)[0]
        ours = codec.decode(y_BFCHW)[0]
        return self.distance(ours.flatten(0, 1), theirs.flatten(0, 1)).reshape(ours.shape[:2]).mean(1)


def _read(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file. Raises ConfigError where it holds none."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        # Published files are of PyTorch's old format, which cannot be mapped, with tensors on a GPU among them.
        found = torch.load(file, map_location="cpu", weights_only=True)
        return {str(name): tensor for name, tensor in found.items()}
    except ImportError as e:
        raise ConfigError(f"reading {file.name} needs safetensors (pip install 'openlpm[encoders]'): {e}") from e
    except (AttributeError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as e:
        raise ConfigError(f"{file.name} is damaged, or no file of weights: {e}") from e
