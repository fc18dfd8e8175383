"""Public video autoencoders through diffusers: Wan 2.1/2.2 and LTX, as an extra.

Wan streams exactly: the decoder's own cache of causal convolutions is the carried state. LTX's decoder
looks ahead (`decoder_causal` is false in the published weights), so each piece of a stream is decoded with `context`
past latents and without the future: an approximation of the whole. Both encode a
clip's first frame alone. Weights are read from a local directory; nothing is downloaded.
"""

from __future__ import annotations

import threading
from typing import Any, Self

import torch
from torch import Tensor, nn

from lpm_train.encoders.codec import State, denormalize, latent_frames, latent_size, normalize
from lpm_train.extras.as_published import not_read
from lpm_train.storage import DataError


class _Public(nn.Module):
    """What both wrappers share: layout [B, F, C, H, W], normalisation, frame accounting."""

    first_alone = True
    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, vae: Any, stride: tuple[int, int, int], mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.stride, self.channels = stride, len(mean)
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self._lock = threading.Lock()  # the models keep caches in themselves
        self.name = f"{kind} {'x'.join(map(str, stride))}x{self.channels}"

    @torch.no_grad()
    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        """Encode whole clips with the mean of the latents' distribution; F' = 1 + t * n frames."""
        latent_frames(self, frames_BFCHW.shape[1]), latent_size(self, *frames_BFCHW.shape[-2:])
        with self._lock:
            z = self.vae.encode(frames_BFCHW.transpose(1, 2).to(self.vae.dtype)).latent_dist.mode()
        return normalize(self, z.transpose(1, 2).float())

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Decode the next latents of a stream."""
        z = denormalize(self, latents_BFCHW).transpose(1, 2).to(self.vae.dtype)
        with self._lock:
            frames, state = self._stream(z, state)
        return frames.transpose(1, 2).float().clamp(-1, 1), state

    def _stream(self, z_BCFHW: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError


class WanCodec(_Public):
    """AutoencoderKLWan."""

    def __init__(self, vae: Any) -> None:
        c = vae.config
        stride = (c.scale_factor_temporal, c.scale_factor_spatial, c.scale_factor_spatial)
        super().__init__("wan", vae, stride, torch.tensor(c.latents_mean), torch.tensor(c.latents_std))

    @classmethod
    def load(cls, directory: str) -> Self:
        """Load from a directory, see `_pretrained`."""
        return cls(_pretrained("AutoencoderKLWan", directory))

    def _stream(self, z_BCFHW: Tensor, state: State) -> tuple[Tensor, State]:
        vae, first = self.vae, state is None
        vae.clear_cache()
        cache = list(vae._feat_map) if first else list(state)  # a copy: the caller may decode from a state twice
        x, out = vae.post_quant_conv(z_BCFHW), []
        for i in range(x.shape[2]):
            start = {"first_chunk": True} if first and i == 0 else {}
            out.append(vae.decoder(x[:, :, i : i + 1], feat_cache=cache, feat_idx=[0], **start))
        frames = torch.cat(out, 2)
        if vae.config.patch_size is not None:
            from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

            frames = unpatchify(frames, patch_size=vae.config.patch_size)
        return frames, cache


class LTXCodec(_Public):
    """AutoencoderKLLTXVideo."""

    def __init__(self, vae: Any, context: int = 4) -> None:
        stride = (vae.temporal_compression_ratio, vae.spatial_compression_ratio, vae.spatial_compression_ratio)
        super().__init__("ltx", vae, stride, vae.latents_mean, vae.latents_std / vae.config.scaling_factor)
        self.context = context

    @classmethod
    def load(cls, directory: str, context: int = 4) -> Self:
        """Load from a directory, see `_pretrained`; `context` past latents are decoded again with each piece."""
        return cls(_pretrained("AutoencoderKLLTXVideo", directory), context)

    def _stream(self, z_BCFHW: Tensor, state: State) -> tuple[Tensor, State]:
        past = 0 if state is None else state.shape[2]
        z = z_BCFHW if state is None else torch.cat([state, z_BCFHW], 2)
        temb = torch.zeros(len(z), device=z.device, dtype=z.dtype) if self.vae.config.timestep_conditioning else None
        frames = self.vae.decode(z, temb, return_dict=False)[0]
        skip = 1 + (past - 1) * self.stride[0] if past else 0
        return frames[:, :, skip:], z[:, :, -self.context :]


def _pretrained(model: str, directory: str) -> Any:
    """Load a model of diffusers from a directory that it wrote (`config.json` and weights).

    Raises:
        DataError: diffusers is not installed, or the directory holds no such model.
    """
    try:
        import diffusers
    except ImportError as e:
        raise DataError(f"this codec needs diffusers (pip install 'openlpm[encoders]'): {e}") from e
    try:
        return getattr(diffusers, model).from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as e:
        raise DataError(f"no {model} in {directory}: {e}{not_read(directory)}") from e
