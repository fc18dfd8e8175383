"""Wan's codec with random weights, or where diffusers is missing one of its shapes that decodes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from lpm_train.encoders.codec import Codec, State, latent_frames, latent_size

OF_48: dict[str, object] = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
    "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip
"""The form of the autoencoder of Wan 2.2's 5B, whose latents have 48 channels."""


class Undecoded:
    """Latents as Wan's codec makes them, all zero, and pictures of one pixel."""

    name, first_alone = "undecoded", True

    def __init__(self, channels: int) -> None:
        self.channels, side = channels, 16 if channels == 48 else 8
        self.stride = (4, side, side)
        self.mean, self.std = torch.zeros(channels), torch.ones(channels)

    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        B, n, _, H, W = frames_BFCHW.shape
        return frames_BFCHW.new_zeros(B, latent_frames(self, n), self.channels, *latent_size(self, H, W))

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        B, F = latents_BFCHW.shape[:2]
        return latents_BFCHW.new_zeros(B, 4 * F - 3 * (state is None), 3, 1, 1), True


def wan_codec(channels: int, device: str, notes: list[str]) -> Codec:
    """Return the codec of so many channels; adds to `notes` where it decodes nothing."""
    try:
        import diffusers

        from lpm_train.extras.codec_public import WanCodec
    except ImportError as e:
        notes.append(f"no diffusers ({e}): latents stay undecoded, which costs nothing")
        return Undecoded(channels)
    found: Codec = WanCodec(diffusers.AutoencoderKLWan(**(OF_48 if channels == 48 else {}))).to(device)
    return found
