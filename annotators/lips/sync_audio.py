"""What of the sound says how the lips move: per-frame features at 25 Hz.

Two kinds. The encoder of Whisper base, trained on 99 languages, knows sounds apart from voices, noise and loudness, and
so carries over to people never heard; a log-mel spectrogram needs no weights and says less. Both take the same
sound at any loudness to the same numbers. Cost on one core: Whisper's encoder 1/50 of real time and 0.2 GB, log-mel
1/500.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from faster_whisper import WhisperModel

from annotators.lips.lip_signals import SAMPLES_PER_FRAME
from annotators.models import weights
from annotators.models.remembered import Remembered
from annotators.protocols_speech import FloatArray
from schemas.time import AUDIO_HZ, GRID_HZ

WHISPER_WEIGHT = "whisper_base"
_MEL_BANDS, _MEL_STEPS, _MEL_FFT = 40, 4, 512
_MEL_HZ = (60.0, 7600.0)
_MEL_RANGE = 11.0  # natural logarithm of power: 48 dB below the loudest band
_LOUD_QUANTILE, _LOUD_LEVEL, _SILENT_RMS = 0.95, 0.1, 1e-5
_WHISPER_FRAMES = 3000  # the encoder's window of 30 s, in its own 10 ms steps
_WHISPER_ROUND, _WHISPER_LEAST = 500, 1000  # a short piece is padded to 10 s, not to 30: a third of the cost, r = 0.99
_WHISPER_STEPS = 2  # encoder steps (20 ms) a video frame
_REMEMBERED = 4  # sounds: faces that are seen over the same stretch are compared with the same sound
_CHUNK_FRAMES, _LEAD_FRAMES = 28 * GRID_HZ, GRID_HZ


class SyncAudio(Protocol):
    """Sound to features [T, dimension] at 25 Hz."""

    @property
    def name(self) -> str:
        """Return the kind of feature."""
        ...

    @property
    def weights(self) -> tuple[str, ...]:
        """Return the weight files in use."""
        ...

    def __call__(self, audio: FloatArray) -> FloatArray:
        """Return features [N // 640, D] of audio [N]."""
        ...


def levelled(audio: FloatArray) -> FloatArray:
    """Return audio scaled so that its loud frames (95 % quantile of 40 ms RMS) lie at 0.1; silence stays as it is."""
    frames = len(audio) // SAMPLES_PER_FRAME
    if frames == 0:
        return audio
    rms = np.sqrt(np.mean(audio[: frames * SAMPLES_PER_FRAME].reshape(frames, -1).astype(np.float64) ** 2, axis=1))
    loud = float(np.quantile(rms, _LOUD_QUANTILE))
    return audio if loud < _SILENT_RMS else (audio * (_LOUD_LEVEL / loud)).astype(np.float32)


class MelSyncAudio:
    """Log-mel of 32 ms windows, four to a video frame: [T, 160]."""

    name = "mel"
    weights: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._bands = _mel_bands()

    def __call__(self, audio: FloatArray) -> FloatArray:
        """Return log-mel [N // 640, 160], floored 48 dB below the loudest; zeros for silence."""
        frames = len(audio) // SAMPLES_PER_FRAME
        step, half = SAMPLES_PER_FRAME // _MEL_STEPS, _MEL_FFT // 2
        padded = np.pad(levelled(audio), (half, half))
        windows = np.lib.stride_tricks.sliding_window_view(padded, _MEL_FFT)[::step][: frames * _MEL_STEPS]
        power = np.abs(np.fft.rfft(windows * np.hanning(_MEL_FFT), axis=1)) ** 2
        level = np.log(power @ self._bands.T + 1e-10)
        level = np.maximum(level, level.max(initial=-np.inf) - _MEL_RANGE)
        out: FloatArray = level.reshape(frames, _MEL_STEPS * _MEL_BANDS).astype(np.float32)
        return out


class WhisperSyncAudio:
    """Last hidden states of Whisper base's encoder, two to a video frame: [T, 1024]."""

    name = "whisper-base"
    weights = (WHISPER_WEIGHT,)

    def __init__(self, path: Path | None = None) -> None:
        """Find the encoder in the directory `path`, or through the weights resolver; it is loaded at its first use."""
        self._directory = path or weights.resolve(WHISPER_WEIGHT)
        self._model: WhisperModel | None = None
        self._heard = Remembered[FloatArray](_REMEMBERED)

    def _loaded(self) -> WhisperModel:
        if self._model is None:
            self._model = WhisperModel(
                str(self._directory), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
            )
        return self._model

    def __call__(self, audio: FloatArray) -> FloatArray:
        """Return features [N // 640, 1024]; sound is read in pieces of 28 s with a second of lead."""
        return self._heard.get(audio, lambda: self._features(audio))

    def _features(self, audio: FloatArray) -> FloatArray:
        frames = len(audio) // SAMPLES_PER_FRAME
        sound = levelled(audio)
        parts = [self._piece(sound, first, min(_CHUNK_FRAMES, frames - first)) for first in _firsts(frames)]
        return np.concatenate(parts) if parts else np.zeros((0, 1024), np.float32)

    def _piece(self, audio: FloatArray, first: int, frames: int) -> FloatArray:
        start = max(0, first - _LEAD_FRAMES)
        piece = audio[start * SAMPLES_PER_FRAME : (first + frames + _LEAD_FRAMES) * SAMPLES_PER_FRAME]
        mel = self._loaded().feature_extractor(piece)[:, :_WHISPER_FRAMES]
        wanted = max(_WHISPER_LEAST, -(-mel.shape[1] // _WHISPER_ROUND) * _WHISPER_ROUND)
        mel = np.pad(mel, ((0, 0), (0, wanted - mel.shape[1])))
        states = np.array(self._loaded().encode(mel.astype(np.float32)))[0]
        own = states[(first - start) * _WHISPER_STEPS :][: frames * _WHISPER_STEPS]
        out: FloatArray = own.reshape(frames, -1).astype(np.float32)
        return out


def _firsts(frames: int) -> range:
    return range(0, frames, _CHUNK_FRAMES)


def _mel_bands() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return triangular filters [40, 257], evenly spaced on the mel scale (O'Shaughnessy's 2595 log10(1 + f/700))."""
    frequency = np.linspace(0, AUDIO_HZ / 2, _MEL_FFT // 2 + 1)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in _MEL_HZ)
    edges = 700 * (10 ** (np.linspace(low, high, _MEL_BANDS + 2) / 2595) - 1)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)
