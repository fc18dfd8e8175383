"""Products in float8 where a network only generates: the large matrices of its blocks, and nothing else.

Each row of a weight is kept in e4m3 (three bits of mantissa, values up to 448) with the scale that brings its largest
value there; what it is multiplied with is brought there at every pass, each token by its own largest value. So nothing
has to be measured beforehand, and an outlier costs its own token alone. Sums are made in the product's own wide
numbers, results are bfloat16. A value keeps its size to one part in 16 (`ROUNDING`), or to half the smallest step below
2^-6 of the scale. Norms, attention, levels, conditions and both ends of the network stay as they are.

The product is `torch._scaled_mm`, for GPUs of NVIDIA from Ada and Hopper on. `emulated` computes the same anywhere,
from the same rounded values, and saves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lpm_train.config import ConfigError, Stream
from lpm_train.network.lora import put_layer
from lpm_train.network.model import DiT

FP8 = torch.float8_e4m3fn
LAYERS = ("qkv", "out", "mlp.0", "mlp.2", "sound.q", "sound.out", "text.q", "text.out")
"""Matrices of a block by which every video token is multiplied; those of conditions see few tokens."""
ROUNDING, STEP = 2.0**-4, 2.0**-10
"""Largest error of a value in e4m3: as a share of it, and in units of its scale where it is small."""
_SIDES = 16  # the product wants sides that are multiples of this
_LEAST = 1e-12  # scale of what is all zeros
_CAPABILITY = (8, 9)  # of the first GPUs that have the product

Product = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x [L, K], weight [N, K], both e4m3, their scales [L, 1] and [N, 1]) -> x weight^T, [L, N]."""


def scaled(x: Tensor, weight: Tensor, scale_x: Tensor, scale_w: Tensor) -> Tensor:
    """Multiply on a GPU that has the product; bfloat16."""
    # Fast accumulation rounds sums far below what values in e4m3 were rounded by, and is what makes float8 fast.
    product: Tensor = torch._scaled_mm(
        x, weight.t(), scale_a=scale_x, scale_b=scale_w.t(), out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return product


def emulated(x: Tensor, weight: Tensor, scale_x: Tensor, scale_w: Tensor) -> Tensor:
    """Multiply what was rounded in float32."""
    return (x.float() * scale_x) @ (weight.float() * scale_w).t()


def rounded(x_LK: Tensor) -> tuple[Tensor, Tensor]:
    """Round to e4m3 row by row: -> (values, scale [L, 1], float32), whose product is near `x_LK`."""
    wide = x_LK.float()
    scale = wide.abs().amax(1, keepdim=True).clamp_min(_LEAST) / torch.finfo(FP8).max
    return (wide / scale).to(FP8).contiguous(), scale


class Fp8Linear(nn.Module):
    """y = W x + b with W and x in e4m3.

    Weight and scale are held as integers of the same bits, for a module that is cast to bfloat16 casts its floats.
    """

    bits: Tensor
    scale_bits: Tensor

    def __init__(self, layer: nn.Linear, product: Product = scaled) -> None:
        """Make the layer of another one, whose weight is not held."""
        super().__init__()
        weight, scale = rounded(layer.weight.detach())
        self.register_buffer("bits", weight.view(torch.uint8))
        self.register_buffer("scale_bits", scale.view(torch.int32))
        self.bias, self.product = layer.bias, product

    def forward(self, input: Tensor) -> Tensor:
        """Apply to the last axis; the result has the type of the input."""
        x, scale = rounded(input.flatten(0, -2))
        y = self.product(x, self.bits.view(FP8), scale, self.scale_bits.view(torch.float32)).to(input.dtype)
        y = y if self.bias is None else y + self.bias.to(y.dtype)
        return y.reshape(*input.shape[:-1], y.shape[-1])


def put_fp8(model: nn.Module, product: Product = scaled) -> int:
    """Change the large matrices of all blocks in place, but for those of odd sides; returns how many are in float8."""
    found = 0
    for network in [m for m in model.modules() if isinstance(m, DiT)]:
        for block in network.blocks:
            for name in LAYERS:
                layer = block.get_submodule(name)
                if type(layer) is nn.Linear and not (layer.in_features % _SIDES or layer.out_features % _SIDES):
                    put_layer(block, name, layer := Fp8Linear(layer, product))
                found += isinstance(layer, Fp8Linear)
    return found


def must_multiply_fp8(device: torch.device) -> None:
    """Raise ConfigError where a device has no product of float8 numbers."""
    if device.type != "cuda" or torch.version.hip:
        here = f"{device.type} has none"
    elif (found := torch.cuda.get_device_capability(device)) < _CAPABILITY:
        here = f"{torch.cuda.get_device_name(device)} is of {found[0]}.{found[1]}"
    else:
        return
    raise ConfigError(
        "stream.fp8 needs an NVIDIA GPU that multiplies float8 numbers, of compute capability 8.9 or more (Ada, Hopper "
        f"and later), and {here}: leave stream.fp8 out, or choose such a GPU with --device"
    )


def set_for_stream(model: nn.Module, stream: Stream) -> None:
    """Bring a network that only generates to the number types that a stream asks for, in place.

    Raises:
        ConfigError: its device has no float8, or none of its matrices fits float8.
    """
    if stream.fp8:
        must_multiply_fp8(next(model.parameters()).device)
        if not put_fp8(model):
            raise ConfigError(
                f"stream.fp8 takes matrices with sides of multiples of {_SIDES}; this network has none: leave it out"
            )
    if stream.bf16:
        model.to(torch.bfloat16)
