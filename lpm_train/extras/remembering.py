"""Layers of which some see what they saw at the frame before: run over the next frames of a stream, exactly."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from lpm_train.encoders.codec import State


def run_remembering(
    layers: Iterable[nn.Module], x_BFCHW: Tensor, state: State, remembers: type[nn.Module]
) -> tuple[Tensor, list[Tensor]]:
    """Run layers over the next frames.

    Args:
        layers: in order; those of the class `remembers` take (frames, memory or None) and give (frames, memory).
        x_BFCHW: the frames, [B, F, C, H, W].
        state: what the call before returned; None at a stream's start.
        remembers: the class of layers with a memory.

    Returns:
        (frames, what the next call needs: a tensor for each layer that remembers).
    """
    carried: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, remembers):
            x_BFCHW, after = layer(x_BFCHW, None if state is None else state[len(carried)])
            carried.append(after)
        else:
            x_BFCHW = layer(x_BFCHW)
    return x_BFCHW, carried
