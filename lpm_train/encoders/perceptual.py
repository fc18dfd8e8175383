"""How far pictures look apart: distances between features of a network, of latents that a codec decodes.

A loss on latents weighs what a latent holds, not what is seen. `codec` compares what the layers of the codec's own
decoder make of two latents (as Berrada et al. 2024, arXiv 2411.04873, do), and needs nothing that is not there already;
`extras.lpips` compares decoded pictures as people were found to. Costs the decoding of both.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lpm_train.encoders.codec import Codec
from lpm_train.storage import DataError


class Perceptual(Protocol):
    """A distance between latents by what they look like."""

    def __call__(self, codec: Codec, y_BFCHW: Tensor, x_BFCHW: Tensor) -> Tensor:
        """Compare latents [B, F, C, H, W] of some frames: -> [B], 0 where equal; differentiable in the first."""


def part_of(x_BFCHW: Tensor, frames_BN: Tensor) -> Tensor:
    """Take frames out of each sample: [B, F, ...], indices [B, N] -> [B, N, ...]."""
    return x_BFCHW[torch.arange(len(x_BFCHW), device=x_BFCHW.device)[:, None], frames_BN]


def unit(x: Tensor, axis: int, eps: float = 1e-10) -> Tensor:
    """Scale features to unit length along their channels.

    Zhang et al. 2018 (arXiv 1801.03924) divide by the length plus `eps`; where all features are 0, which has no
    gradient there, it is 0 here.
    """
    square = x.square().sum(axis, keepdim=True)
    return x / (square.clamp_min(torch.finfo(x.dtype).tiny).sqrt() + eps)


def squared(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Compare features of [B, ...] by direction: squared difference, summed over channels, mean over places: [B]."""
    return (unit(a, axis) - unit(b, axis)).square().sum(axis).flatten(1).mean(1)


class DecoderFeatures:
    """Compare what the layers of the codec's decoder make of latents, each by direction; the mean over layers."""

    def __call__(self, codec: Codec, y_BFCHW: Tensor, x_BFCHW: Tensor) -> Tensor:
        """Compare.

        Raises:
            DataError: the codec has no decoder of layers.
        """
        with torch.no_grad():
            theirs = features(codec, x_BFCHW)
        ours = features(codec, y_BFCHW)
        return torch.stack([squared(a, b, axis) for (a, axis), (b, _) in zip(ours, theirs, strict=True)]).mean(0)


def features(codec: Codec, latents_BFCHW: Tensor) -> list[tuple[Tensor, int]]:
    """Return what each layer of a codec's decoder gives, [B, ...], with the axis of its channels.

    Layers are the entries of `decoder` but the last (frames before channels, as the small autoencoder has them), or the
    blocks that enlarge in diffusers' `vae.decoder` (channels before frames); what a layer gives in pieces, frame by
    frame, is put together again.

    Raises:
        DataError: the codec has neither.
    """
    vae = getattr(codec, "vae", None)
    layers = getattr(codec, "decoder", None) if vae is None else getattr(vae.decoder, "up_blocks", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise DataError(
            f"{codec.name} has no decoder of layers whose features could be compared: use distill.perceptual=lpips"
        )
    layers = layers[:-1] if vae is None else layers  # the last entry of `decoder` gives pictures, no features
    found: list[list[Tensor]] = [[] for _ in layers]

    def keep(i: int) -> Any:
        return lambda module, given, made: found[i].append(made[0] if isinstance(made, tuple) else made)

    hooks = [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]
    try:
        codec.decode(latents_BFCHW)
    finally:
        for hook in hooks:
            hook.remove()
    frames, channels = (1, 2) if vae is None else (2, 1)
    return [(torch.cat(pieces, frames), channels) for pieces in found]
