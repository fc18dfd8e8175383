"""Low-rank changes to linear layers (Hu et al. 2021, arXiv 2106.09685): the layer's own weights stay as they are.

A changed layer has its former parameters under their former names and two more, so that a frozen base can be shared by
several models: they hold the same weight objects and differ by their changes alone. `up` starts at zero.

Where a run computes in bfloat16 the frozen matrices are held in it as well (`halve_frozen`): a pass rounds them to it
anyway, so nothing that is computed changes by a bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lpm_train.config import ConfigError, Lora
from lpm_train.network.model import DiT
from schemas.settings.use import near


class LoraLinear(nn.Linear):
    """y = W x + b + scale * up (down x)."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias, self.scale = layer.weight, layer.bias, scale
        self.down = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.up = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer and its change."""
        return super().forward(input) + self.scale * fn.linear(fn.linear(input, self.down), self.up)

    def merged(self) -> nn.Linear:
        """Return a plain layer that computes the same."""
        out = nn.Linear(self.in_features, self.out_features, device="meta")
        changed = self.weight.detach() + self.scale * (self.up.detach() @ self.down.detach()).to(self.weight.dtype)
        out.weight, out.bias = nn.Parameter(changed, requires_grad=False), self.bias
        return out


def put_lora(model: DiT, lora: Lora) -> None:
    """Change the named layers of every block.

    Raises:
        ConfigError: a block has no such layer.
    """
    for block in model.blocks:
        layers = {n: m for n, m in block.named_modules() if isinstance(m, nn.Linear)}
        for target in lora.targets:
            if target not in layers:
                raise ConfigError(f"lora.targets: a block has no layer {target!r}; {near(target, layers)}")
            put_layer(block, target, LoraLinear(layers[target], lora.rank, lora.scale))


def halve_frozen(model: DiT) -> None:
    """Hold the frozen matrices of the blocks in bfloat16, in place; the model may be without memory yet.

    All else stays float32: changes and what was added are trained, and norms, biases and tables enter sums in float32.
    What lies outside of the blocks is a small part, and its type is that of the network's inputs.
    """
    for name, module in model.blocks.named_modules(prefix="blocks"):
        if isinstance(module, nn.Linear) and f"{name}.weight" in model.frozen:
            module.weight.data = module.weight.data.to(torch.bfloat16)


def merge(model: nn.Module) -> None:
    """Make plain layers of changed ones, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            put_layer(model, name, module.merged())


def put_layer(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of another one, which is named from `root`."""
    parent, _, leaf = name.rpartition(".")
    at = root.get_submodule(parent)
    if isinstance(at, nn.Sequential):
        at[int(leaf)] = layer
    else:
        setattr(at, leaf, layer)
