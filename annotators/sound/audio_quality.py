"""Plain measures of a stretch of sound: level, clipping, silence, noise floor, signal to noise.

Numbers for a policy to cut on; nothing is judged here. Audio is read in blocks of one minute and leaves two numbers for
each 20 ms. Pure numpy. Cost: about 1/1000 of real time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotators.protocols_speech import FloatArray, Segment
from schemas.time import AUDIO_HZ

_SILENCE_DBFS = -60.0
_CLIP_LEVEL = 0.999
_FRAME_SAMPLES = 320  # 20 ms
_BLOCK_FRAMES = 3000
_FLOOR_DB = -120.0
_NOISE_QUANTILE = 0.1

_Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class AudioQuality:
    """Measures of one stretch; nan where there is nothing to measure them on.

    `rms_dbfs`, `peak_dbfs`: relative to full scale 1.0 (a full-scale sine has RMS -3.01), not below -120.
    `clipping_ratio`: share of samples in runs of at least two at |x| >= 0.999. `silence_ratio`: share of 20 ms frames
    below -60 dBFS. `noise_floor_db`: level of the non-speech frames in dBFS (median), or, where there are fewer than
    10 of them, the 10 % quantile of all frames. `snr_db`: mean power of the speech frames less the noise, over
    the noise.
    """

    rms_dbfs: float
    peak_dbfs: float
    clipping_ratio: float
    silence_ratio: float
    noise_floor_db: float
    snr_db: float


def audio_quality(audio: FloatArray, speech: Sequence[Segment] = ()) -> AudioQuality:
    """Measure audio [N] in [-1, 1]; `speech` says which frames are speech (none given: levels alone decide).

    Raises ValueError for less than one 20 ms frame and for values that are not finite.
    """
    if audio.ndim != 1 or len(audio) < _FRAME_SAMPLES:
        raise ValueError(f"audio must be mono with at least {_FRAME_SAMPLES} samples, got {audio.shape}")
    power, peak, clipped = [], 0.0, 0
    for block in _blocks(audio):
        if not np.isfinite(block).all():
            raise ValueError("audio holds values that are not finite: decode it again")
        peak = max(peak, float(np.abs(block).max()))
        clipped += _clipped_samples(block)
        frames = block[: len(block) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
        power.append(np.mean(frames.astype(np.float64) ** 2, axis=1))
    frame_power = np.concatenate(power)
    frame_db = _db(frame_power)
    is_speech = _mark(speech, len(frame_power))
    noise_power = _noise_power(frame_power, is_speech)
    return AudioQuality(
        rms_dbfs=float(_db(np.mean(frame_power))),
        peak_dbfs=float(_db(np.float64(peak**2))),
        clipping_ratio=clipped / len(audio),
        silence_ratio=float(np.mean(frame_db < _SILENCE_DBFS)),
        noise_floor_db=float(_db(noise_power)),
        snr_db=_snr_db(frame_power, is_speech, noise_power),
    )


def _blocks(audio: FloatArray) -> Iterator[FloatArray]:
    size = _BLOCK_FRAMES * _FRAME_SAMPLES
    for first in range(0, len(audio), size):
        block = audio[first : first + size]
        if len(block) >= _FRAME_SAMPLES:
            yield block


def _db(power: _Doubles | np.float64) -> _Doubles:
    floor = 10 ** (_FLOOR_DB / 10)
    decibels: _Doubles = np.asarray(10 * np.log10(np.maximum(power, floor)))
    return decibels


def _clipped_samples(block: FloatArray) -> int:
    """Count samples at full scale that have a neighbour at full scale: a single one may be a true peak."""
    high = np.abs(block) >= _CLIP_LEVEL
    beside = np.zeros_like(high)
    beside[1:] |= high[:-1]
    beside[:-1] |= high[1:]
    return int(np.count_nonzero(high & beside))


def _mark(speech: Sequence[Segment], frames: int) -> NDArray[np.bool_]:
    """Return [frames] whether the middle of each 20 ms frame lies in speech."""
    marked = np.zeros(frames, bool)
    frame_s = _FRAME_SAMPLES / AUDIO_HZ
    for segment in speech:
        marked[max(0, round(segment.start_s / frame_s)) : max(0, round(segment.end_s / frame_s))] = True
    return marked


def _noise_power(power: _Doubles, is_speech: NDArray[np.bool_]) -> np.float64:
    quiet = power[~is_speech]
    if is_speech.any() and len(quiet) >= 10:
        return np.float64(np.median(quiet))
    return np.float64(np.quantile(power, _NOISE_QUANTILE))


def _snr_db(power: _Doubles, is_speech: NDArray[np.bool_], noise: np.float64) -> float:
    """Return the signal to noise ratio in dB, nan where the signal does not rise above the noise."""
    loud = power[is_speech] if is_speech.any() else power[power > noise]
    signal = float(np.mean(loud)) - float(noise) if len(loud) else 0.0
    return float(10 * np.log10(signal / max(float(noise), 10 ** (_FLOOR_DB / 10)))) if signal > 0 else float("nan")
