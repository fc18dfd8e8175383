"""Lip-audio offset by correlation: how far the sound is from the mouth it belongs to.

A heuristic, and a weak one: on real stretches of 5-10 s the peak of a talker with own sound (0.2-0.3) cannot be told
from that with another person's (0.14-0.25), and its lag scatters over the whole search. It is exact only where
loudness drives the mouth, so it is the baseline of the learned back-end (`lip_sync_model`): do not filter on it.
Its name says what it is. Cost: 1 ms a minute.
"""

from __future__ import annotations

import numpy as np

from annotators.lips.lip_signals import (
    MIN_FRAMES,
    SAMPLES_PER_FRAME,
    articulation,
    check_sync_lengths,
    moving_mean,
    speech_band_level_db,
)
from annotators.protocols_speech import ByteArray, FloatArray, SyncMeasure
from schemas.time import GRID_HZ

MAX_LAG_FRAMES = 15  # 0.6 s, as far as SyncNet's evaluation searches
_DYNAMIC_RANGE_DB = 40.0  # sound that much below the loudest tells nothing of the lips
_VELOCITY_WEIGHT = 0.5


class EnvelopeLipSync:
    """Cross-correlation of mouth opening (and its rate) with the speech-band envelope (and its rate)."""

    name = "lip-envelope-xcorr"
    weights: tuple[str, ...] = ()

    def measure(
        self,
        audio: FloatArray,
        mouth_opening: FloatArray,
        crops: ByteArray | None = None,
        lips: FloatArray | None = None,
    ) -> SyncMeasure:
        """Return the offset of audio [T * 640] against the mouth opening [T] at 25 Hz; crops and lips are not used.

        Positive: the sound comes late, after the lips. Confidence: the peak minus the median of the correlation over
        -15..15 frames (as SyncNet's, which takes median minus minimum of a distance). All nan where no
        correlation is defined: a mouth or a sound that does not change, or no frame with a face.
        Raises ValueError where lengths do not agree or below 2.2 s (a second at the widest lag).
        """
        frames = len(mouth_opening)
        check_sync_lengths(audio, frames, MAX_LAG_FRAMES)
        lags = list(range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1))
        lags_ms = (np.array(lags) * 1000 / GRID_HZ).astype(np.float32)
        curve = np.full(len(lags), np.nan, np.float32)
        if np.isfinite(mouth_opening).any():
            sound = _loudness(audio, frames)
            mouth = articulation(mouth_opening)
            known = np.isfinite(mouth_opening)
            level = np.array([_correlation(mouth, sound, known, lag) for lag in lags])
            rate = np.array([_correlation(np.gradient(mouth), np.gradient(sound), known, lag) for lag in lags])
            curve = ((1 - _VELOCITY_WEIGHT) * level + _VELOCITY_WEIGHT * rate).astype(np.float32)
        if not np.isfinite(curve).all():
            return SyncMeasure(np.nan, np.nan, np.nan, lags_ms, np.full(len(lags), np.nan, np.float32))
        best = int(np.argmax(curve))
        offset_frames = float(lags[best]) + _parabola_offset(curve, best)
        return SyncMeasure(
            offset_ms=offset_frames * 1000 / GRID_HZ,
            confidence=float(curve[best] - np.median(curve)),
            correlation=float(curve[best]),
            lags_ms=lags_ms,
            curve=curve,
        )


def _loudness(audio: FloatArray, frames: int) -> FloatArray:
    """Return the speech-band level [frames], floored 40 dB below the loudest, in the articulation band."""
    padded = np.pad(audio[: frames * SAMPLES_PER_FRAME], (0, max(0, frames * SAMPLES_PER_FRAME - len(audio))))
    level = speech_band_level_db(padded)
    return articulation(moving_mean(np.maximum(level, level.max() - _DYNAMIC_RANGE_DB), 3))


def _correlation(
    mouth: FloatArray, sound: FloatArray, known: np.ndarray[tuple[int], np.dtype[np.bool_]], lag: int
) -> float:
    """Return the correlation of mouth[t] with sound[t + lag] over frames whose mouth is known; nan if undefined."""
    frames = len(mouth)
    lips = slice(max(0, -lag), frames - max(0, lag))
    heard = slice(max(0, lag), frames - max(0, -lag))
    use = known[lips]
    a, b = mouth[lips][use], sound[heard][use]
    if len(a) < MIN_FRAMES or a.std() < 1e-6 or b.std() < 1e-6:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _parabola_offset(curve: FloatArray, best: int) -> float:
    """Return where between -0.5 and 0.5 frames from `best` a parabola through three points peaks; 0 at the ends."""
    if best in (0, len(curve) - 1):
        return 0.0
    left, peak, right = (float(curve[best + step]) for step in (-1, 0, 1))
    bend = left - 2 * peak + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend
