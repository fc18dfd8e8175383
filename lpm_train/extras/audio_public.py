"""wav2vec 2.0 and Whisper encoders through transformers, as an extra: 50 features a second, two a video frame.

Both hear the future (they attend to the whole clip), so features are for training data and previews; a stream needs
either their latency or log-mel. Sound at 48 kHz is brought to the models' 16 kHz by a windowed-sinc filter. Weights are
read from a local directory; nothing is downloaded.
"""

from __future__ import annotations

import threading
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lpm_train.storage import DataError
from schemas.sample import FPS
from schemas.time import AUDIO_HZ

_STEPS = 2  # per frame: both encoders give 50 a second
_WHISPER_S = 30  # length of what a Whisper encoder hears


def to_16k(wave_N: Tensor, rate_hz: int) -> Tensor:
    """Resample to 16 kHz by a whole factor: a 32-zero Hann-windowed sinc, cut at 7.6 kHz; [N] -> [N / factor].

    Raises:
        DataError: the rate is no multiple of 16 kHz.
    """
    if rate_hz % AUDIO_HZ:
        raise DataError(f"sound at {rate_hz} Hz: give a multiple of 16 kHz, such as the 48 kHz of packed samples")
    factor = rate_hz // AUDIO_HZ
    if factor == 1:
        return wave_N
    half = 32 * factor
    n = torch.arange(-half, half + 1, dtype=torch.float64)
    kernel = torch.sinc(n * 0.95 / factor) * torch.hann_window(2 * half + 1, periodic=False, dtype=torch.float64)
    kernel = (kernel / kernel.sum()).to(wave_N)
    return F.conv1d(F.pad(wave_N[None, None], (half, half)), kernel[None, None], stride=factor)[
        0, 0, : len(wave_N) // factor
    ]


class PublicAudio:
    """Last hidden states of a frozen encoder."""

    steps_per_frame = _STEPS

    def __init__(self, kind: str, model: Any, features: Any = None) -> None:
        """Wrap a model of transformers; `features` is Whisper's own log-mel front end."""
        self._model, self._features, self._lock = model.eval().requires_grad_(False), features, threading.Lock()
        self.width, self.name = int(model.config.hidden_size), f"{kind} {model.config.hidden_size}"

    @classmethod
    def wav2vec2(cls, directory: str) -> Self:
        """Load wav2vec 2.0 from a directory that transformers wrote. Raises DataError, as `whisper` does."""
        return cls("wav2vec2", pretrained("Wav2Vec2Model", directory))

    @classmethod
    def whisper(cls, directory: str) -> Self:
        """Load the encoder of a Whisper."""
        model, features = (pretrained(c, directory) for c in ("WhisperModel", "WhisperFeatureExtractor"))
        return cls("whisper", model.encoder, features)

    @torch.no_grad()
    def __call__(self, wave_N: Tensor, rate_hz: int) -> Tensor:
        """Encode a whole clip; [N] -> [n_frames * 2, A], step k at (k + 1/2) / 50 s."""
        wave = to_16k(wave_N.float(), rate_hz)
        frames, rest = divmod(len(wave) * FPS, AUDIO_HZ)
        if rest:
            raise DataError(f"{len(wave_N)} samples at {rate_hz} Hz are not a whole number of video frames")
        with self._lock:
            hidden = self._wav2vec(wave) if self._features is None else self._whisper(wave)
        steps = frames * _STEPS
        if abs(len(hidden) - steps) > 2:
            raise DataError(f"{self.name} gave {len(hidden)} steps where {frames} frames need {steps}")
        return F.interpolate(hidden.T[None], steps, mode="linear", align_corners=False)[0].T.contiguous()

    def _wav2vec(self, wave: Tensor) -> Tensor:
        level = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)  # as it was trained
        hidden: Tensor = self._model(F.pad(level, (40, 40))[None]).last_hidden_state[0]
        return hidden

    def _whisper(self, wave: Tensor) -> Tensor:
        parts = []
        for piece in torch.split(wave, _WHISPER_S * AUDIO_HZ):  # type: ignore[no-untyped-call]
            mel = self._features(piece.numpy(), sampling_rate=AUDIO_HZ, return_tensors="pt").input_features
            hidden = self._model(mel).last_hidden_state[0]
            parts.append(hidden[: len(piece) * FPS * _STEPS // AUDIO_HZ])
        return torch.cat(parts)


def pretrained(kind: str, directory: str) -> Any:
    """Load what a class of transformers has written into a directory.

    Raises:
        DataError: transformers is not installed, or the directory holds no such thing.
    """
    try:
        import transformers
    except ImportError as e:
        raise DataError(f"this encoder needs transformers (pip install 'openlpm[encoders]'): {e}") from e
    try:
        return getattr(transformers, kind).from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as e:
        raise DataError(f"no {kind} in {directory}: {e}") from e
