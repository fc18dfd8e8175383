"""Audio features on the frame grid: exactly q steps a video frame, so that sound and picture cannot drift apart.

Built in: log-mel energies, causal (step k looks at samples before its own end only), hence the same whole or streamed;
any rate whose samples divide into the steps (48 kHz and 16 kHz do). `latent_steps` gives each latent of a codec its
own steps. Costs about 1 ms a second of sound on one core.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from lpm_train.encoders.codec import Codec, picture_frames
from lpm_train.storage import DataError
from schemas.samples.sample import FPS

_FLOOR = 1e-8  # power of what counts as silence: -80 dB below a full-scale sine


class AudioEncoder(Protocol):
    """Sound to features."""

    name: str
    width: int  # features A in a step
    steps_per_frame: int  # steps q in a video frame of 1/25 s

    def __call__(self, wave_N: Tensor, rate_hz: int) -> Tensor:
        """Encode a whole clip: [N] in [-1, 1] -> [n_frames * q, A]."""


class LogMel:
    """Log-mel energies of 32 ms windows that end with their step; about [-2, 2], silence is -2."""

    def __init__(self, steps_per_frame: int = 2, n_mels: int = 80, top_hz: float = 8000.0, window_s: float = 0.032):
        """Set the grid: `steps_per_frame` steps of 40 ms / q each, `n_mels` bands up to `top_hz`."""
        if min(steps_per_frame, n_mels) < 1:
            raise DataError(f"log-mel: steps_per_frame {steps_per_frame} and n_mels {n_mels} must be at least 1")
        self.steps_per_frame, self.width, self.top_hz, self.window_s = steps_per_frame, n_mels, top_hz, window_s
        self.name = f"logmel {steps_per_frame}x{n_mels}"

    def hop(self, rate_hz: int) -> int:
        """Return the samples in a step.

        Raises:
            DataError: the rate does not divide into steps, or is too low for the bands.
        """
        if rate_hz % (FPS * self.steps_per_frame) or rate_hz < 2 * self.top_hz:
            raise DataError(
                f"sound at {rate_hz} Hz does not divide into {self.steps_per_frame} steps a frame with bands up to "
                f"{self.top_hz:g} Hz: resample it to 16 or 48 kHz"
            )
        return rate_hz // (FPS * self.steps_per_frame)

    def __call__(self, wave_N: Tensor, rate_hz: int) -> Tensor:
        """Encode [N] samples, N a whole number of steps, as if silence came before; -> [N / hop, A]."""
        hop = self.hop(rate_hz)
        if len(wave_N) % hop:
            raise DataError(f"{len(wave_N)} samples at {rate_hz} Hz are not a whole number of steps of {hop}")
        return self.push(wave_N, rate_hz, None)[0]

    def needs(self, steps: int) -> float:
        """Return the seconds of sound that a stream's first steps need: their own."""
        return steps / (FPS * self.steps_per_frame)

    def push(self, wave_N: Tensor, rate_hz: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode the next samples of a stream, any number of them; -> (features of finished steps, state)."""
        hop = self.hop(rate_hz)
        window = max(hop, round(rate_hz * self.window_s))
        past = torch.zeros(window - hop, dtype=wave_N.dtype, device=wave_N.device) if state is None else state
        samples = torch.cat([past, wave_N])
        steps = (len(samples) - (window - hop)) // hop
        if steps < 1:
            return samples.new_zeros(0, self.width), samples
        frames = samples[: (steps - 1) * hop + window].unfold(0, window, hop)
        hann, bands = _window(window).to(frames), _bands(rate_hz, window, self.width, self.top_hz).to(frames)
        power = torch.fft.rfft(frames * hann).abs().square() * (2.0 / hann.sum()) ** 2
        return (torch.log10(power @ bands + _FLOOR) + 4.0) / 2.0, samples[steps * hop :]


@lru_cache(maxsize=8)
def _window(n: int) -> Tensor:
    return torch.hann_window(n, periodic=True, dtype=torch.float64)


@lru_cache(maxsize=8)
def _bands(rate_hz: int, n_fft: int, n_mels: int, top_hz: float) -> Tensor:
    """Triangles of equal width in mel (2595 log10(1 + f/700), O'Shaughnessy 1987), peak 1; [n_fft/2+1, n_mels]."""
    edges_mel = torch.linspace(0, 2595 * math.log10(1 + top_hz / 700), n_mels + 2, dtype=torch.float64)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    f = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * rate_hz / n_fft
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    return torch.minimum((f - low) / (peak - low), (high - f) / (high - peak)).clamp_min(0)


def steps_per_latent(codec: Codec, audio: AudioEncoder) -> int:
    """Return r, the audio steps in a latent frame."""
    return codec.stride[0] * audio.steps_per_frame


def latent_steps(features_TA: Tensor, codec: Codec, start: int, latents: int, q: int, before_A: Tensor) -> Tensor:
    """Cut a clip's features to a window: the r steps that end with each latent's last frame; -> [latents * r, A].

    Args:
        features_TA: features of the whole clip, q steps a frame.
        codec: decides how many frames a latent covers.
        start: first frame of the window.
        latents: latents in the window.
        q: audio steps in a frame.
        before_A: what stands for the time before the clip (silence); a first latent of one frame may reach there.

    Raises:
        DataError: the features end before the window does.
    """
    stop = (start + picture_frames(codec, latents)) * q
    first = stop - latents * codec.stride[0] * q
    if stop > len(features_TA):
        raise DataError(f"{len(features_TA)} audio steps are fewer than the {stop} that the window's frames need")
    lead = before_A.to(features_TA).expand(max(0, -first), -1)
    return torch.cat([lead, features_TA[max(0, first) : stop]])
