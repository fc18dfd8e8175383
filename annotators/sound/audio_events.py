"""What a sound is, beside speech: music, singing, laughter, noise, by YAMNet's classes of AudioSet.

A voice activity detector hears a singer as a talker and laughter as a voice; this model tells them apart, coarsely in
time: it reads 0.96 s and is asked every 0.48 s. The weights are an export with 8-bit integers, so scores come in steps
(logits of 0.76). Numpy and onnxruntime; 1/55 of real time on one core with AVX2, memory does not grow with length.

Heard on acted laughs and on speech of a game's voices, and on speech under music: laughter is rarely found where none
is and missed about every second time; music is found down to about the level of the speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from annotators.models import weights
from annotators.models.onnx_session import open_session
from annotators.protocols_speech import FloatArray
from annotators.sound.mel_filters import mel_filters
from schemas.time import AUDIO_HZ

_YAMNET_WEIGHT = "yamnet_w8a8"
WINDOW_S, HOP_S = 0.96, 0.48

EVENTS: dict[str, tuple[int, ...]] = {
    "speech": (0, 1, 2, 3),  # speech, child, conversation, narration
    "singing": tuple(range(24, 32)),  # singing, choir, yodeling, chant, mantra, child, synthetic, rapping
    "music": (132,),
    "laughter": (13, 14, 15, 16, 17, 18),  # laughter, baby, giggle, snicker, belly laugh, chuckle
    "noise": (
        277,
        279,
        321,
        490,
        507,
        508,
        509,
        514,
        515,
    ),  # wind, traffic, hum, noise, environment, static, white, pink
}
"""The events told apart, each by the greatest score of these classes (numbers of YAMNet's published class map)."""

# YAMNet's front end (github.com/tensorflow/models, research/audioset/yamnet): 25 ms Hann windows every 10 ms, spectrum
# of magnitudes, 64 mel bands (HTK) from 125 to 7500 Hz, natural logarithm with an offset of 0.001.
_FRAME, _STEP, _FFT = 400, 160, 512
_BANDS, _LOW_HZ, _HIGH_HZ, _LOG_OFFSET = 64, 125.0, 7500.0, 1e-3
_PATCH = 96
_PATCH_SAMPLES = (_PATCH - 1) * _STEP + _FRAME
_HOP_SAMPLES = round(HOP_S * AUDIO_HZ)

# The export reads and writes unsigned bytes; these are its initializers `audio_*` and `class_scores_*`.
_INPUT_SCALE, _INPUT_ZERO = 0.047937885, 144
_OUTPUT_SCALE, _OUTPUT_ZERO = 0.7565417, 190


@dataclass(frozen=True, slots=True)
class AudioEvents:
    """Scores of each event of `EVENTS`, 0 to 1: window n [N] covers `n * HOP_S` to `n * HOP_S + WINDOW_S`."""

    scores: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))


class EventDetector(Protocol):
    """Hears music, laughter and the like over time."""

    name: str
    weights: tuple[str, ...]

    def events(self, audio: FloatArray) -> AudioEvents:
        """Return the events of audio [N] at 16 kHz in [-1, 1]."""
        ...


class YamnetAudioEvents:
    """YAMNet with 8-bit weights, through onnxruntime. Deterministic: one thread, one window at a time."""

    name = "yamnet-w8a8"
    weights: tuple[str, ...] = (_YAMNET_WEIGHT,)

    def __init__(self, path: Path | None = None) -> None:
        """Load the model from the directory `path`, or through the weights resolver. Raises WeightsNotFound."""
        self._session = open_session((path or weights.resolve(_YAMNET_WEIGHT)) / "model.onnx")
        self._filters = mel_filters(_BANDS, _LOW_HZ, _HIGH_HZ, _FFT)

    def events(self, audio: FloatArray) -> AudioEvents:
        """Return the events of audio [N] at 16 kHz in [-1, 1]; the last window is filled up with silence.

        Raises ValueError for sound that is not mono. No window where there is no sample.
        """
        if audio.ndim != 1:
            raise ValueError(f"audio must be mono [N], got shape {audio.shape}")
        count = 0 if not len(audio) else 1 + max(0, -(-(len(audio) - _PATCH_SAMPLES) // _HOP_SAMPLES))
        out = {name: np.zeros(count, np.float32) for name in EVENTS}
        for n in range(count):
            piece = audio[n * _HOP_SAMPLES : n * _HOP_SAMPLES + _PATCH_SAMPLES]
            levels = log_mel(np.pad(piece, (0, _PATCH_SAMPLES - len(piece))), self._filters)
            feed = np.clip(np.rint(levels / _INPUT_SCALE + _INPUT_ZERO), 0, 255).astype(np.uint8)
            (scores,) = self._session.run(None, {"audio": feed[None, None]})
            logits = _OUTPUT_SCALE * (np.asarray(scores, np.float64).reshape(-1) - _OUTPUT_ZERO)
            for name, classes in EVENTS.items():
                out[name][n] = 1.0 / (1.0 + np.exp(-logits[list(classes)].max()))
        return AudioEvents(out)


def log_mel(audio: FloatArray, filters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the front end's levels [T, 64] of audio [400 + 160 (T - 1)]."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[::_STEP]
    window = np.hanning(_FRAME + 1)[:-1]
    return np.asarray(np.log(np.abs(np.fft.rfft(frames * window, _FFT)) @ filters + _LOG_OFFSET))


def on_grid(scores: FloatArray, frames: int, rate_hz: int) -> FloatArray:
    """Return [frames] at `rate_hz`: at each frame's middle the mean of the windows [N] that hold it; 0 beyond them."""
    total, count = np.zeros(frames), np.zeros(frames)
    for n, score in enumerate(scores):
        first, last = (round((n * HOP_S + x) * rate_hz) for x in (0.0, WINDOW_S))
        total[first:last] += score
        count[first:last] += 1
    return np.asarray(total / np.maximum(count, 1), np.float32)
