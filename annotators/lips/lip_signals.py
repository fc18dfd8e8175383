"""The two plain signals behind every lip heuristic: how the mouth moves, and how loud speech is, both at 25 Hz.

Pure numpy and scipy; about 5 ms a minute of video.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from annotators.protocols_speech import ByteArray, FloatArray
from schemas.time import AUDIO_HZ, GRID_HZ

SAMPLES_PER_FRAME = AUDIO_HZ // GRID_HZ
_SPEECH_BAND_HZ = (200.0, 4000.0)  # from above most fundamentals and hum up to the end of telephone speech
_ARTICULATION_BAND_HZ = (0.5, 8.0)  # opening and closing of the mouth; syllables come at 2-8 Hz
MIN_FRAMES = 25
STILL_MOUTH = 0.007
"""Mouth motion (deviation of a mouth's opening over 1.6 s, in face heights) below which nobody speaks with it. On this
project's footage lips that hold still had 0.001-0.006, speaking ones at least 0.011 (95 % of them 0.028 and more)."""
MOVING_MOUTH = 0.02
"""Mouth motion from which lips move as in speech, whatever is heard."""
_FLOOR_POWER = 1e-10  # -100 dBFS: below the noise of 16-bit sound

_Doubles = NDArray[np.float64]


def check_sync_lengths(audio: FloatArray, frames: int, max_lag_frames: int) -> None:
    """Raise ValueError unless audio [T * 640] goes with `frames` (T), enough of them to search lags either way.

    A frame of sound more or less does: decoders end where they like. At the widest lag a second is left to compare.
    """
    if abs(len(audio) - frames * SAMPLES_PER_FRAME) > SAMPLES_PER_FRAME:
        raise ValueError(f"{frames} frames need {frames * SAMPLES_PER_FRAME} samples, got {len(audio)}")
    if frames < 2 * max_lag_frames + MIN_FRAMES:
        raise ValueError(f"lip sync needs at least {2 * max_lag_frames + MIN_FRAMES} frames, got {frames}")


def speech_band_level_db(audio: FloatArray) -> FloatArray:
    """Return the level of 200-4000 Hz in dBFS for each whole 40 ms of audio [N], shape [N // 640].

    The band filter runs both ways, so that it moves nothing in time. Works in blocks of one minute.
    """
    frames = len(audio) // SAMPLES_PER_FRAME
    sos = scipy.signal.butter(2, _SPEECH_BAND_HZ, "bandpass", fs=AUDIO_HZ, output="sos")
    power = np.zeros(frames)
    block, edge = 60 * GRID_HZ, GRID_HZ
    for first in range(0, frames, block):
        last = min(frames, first + block)
        start, stop = max(0, first - edge), min(frames, last + edge)
        piece = audio[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
        pad = min(len(piece) - 1, AUDIO_HZ // 10)
        filtered = scipy.signal.sosfiltfilt(sos, piece.astype(np.float64), padlen=pad).reshape(-1, SAMPLES_PER_FRAME)
        power[first:last] = np.mean(filtered**2, axis=1)[first - start : last - start]
    return (10 * np.log10(power + _FLOOR_POWER)).astype(np.float32)


def fill_gaps(series: FloatArray) -> FloatArray:
    """Return a series [T] with its nan values replaced by linear interpolation; raise ValueError if all are nan."""
    known = np.flatnonzero(np.isfinite(series))
    if len(known) == 0:
        raise ValueError("no finite value: the face was found in no frame")
    return np.interp(np.arange(len(series)), known, series[known]).astype(np.float32)


def articulation_filter() -> _Doubles:
    """Return the band filter of articulation, 0.5-8 Hz at 25 Hz, as second-order sections."""
    sos: _Doubles = scipy.signal.butter(2, _ARTICULATION_BAND_HZ, "bandpass", fs=GRID_HZ, output="sos")
    return sos


def articulation(mouth_opening: FloatArray) -> FloatArray:
    """Return the 0.5-8 Hz part of a mouth opening series [T] at 25 Hz, T >= 25; nan values are bridged."""
    filtered: _Doubles = scipy.signal.sosfiltfilt(
        articulation_filter(), fill_gaps(mouth_opening).astype(np.float64), padlen=MIN_FRAMES - 1
    )
    return filtered.astype(np.float32)


def mouth_motion(mouth_opening: FloatArray) -> FloatArray:
    """Return [T] how much the mouth opens and closes: the deviation of its opening [T] over the 1.6 s around a frame.

    In the opening's own unit; nan where fewer than 13 of the (at most 41) frames are known. Cheap, and not to be fooled
    where an active speaker model is, which may go on scoring high on a face that has just spoken and now holds still.
    """
    return _deviation(mouth_opening, 20, 20)


def mouth_motion_beside(mouth_opening: FloatArray) -> FloatArray:
    """Return [T] the lesser of a mouth's deviations over the 0.8 s up to a frame and over the 0.8 s from it on.

    It is small from the very frame at which a mouth comes to rest to the one at which it moves again, where
    `mouth_motion` is late by 0.8 s; but small as well on a last soft syllable. Of a side with fewer than 7 known frames
    the other alone counts; nan where neither has them.
    """
    return np.fmin(_deviation(mouth_opening, 20, 0), _deviation(mouth_opening, 0, 20))


def _deviation(series: FloatArray, before: int, after: int) -> FloatArray:
    """Return [T] the deviation over `before` frames, the frame and `after` frames; nan where under a third is known."""
    known = np.isfinite(series)
    # Less its middle value, as the difference of two sums of squares keeps few digits of a small deviation.
    centred = series.astype(np.float64) - (np.median(series[known]) if known.any() else 0.0)
    values = np.where(known, centred, 0.0)
    window = np.ones(before + 1 + after)
    count, total, squares = (
        np.convolve(x, window, "full")[after : after + len(x)] for x in (known.astype(np.float64), values, values**2)
    )
    enough = count >= len(window) // 3
    count = np.maximum(count, 1.0)
    variance = np.maximum(squares / count - (total / count) ** 2, 0.0)
    return np.where(enough, np.sqrt(variance), np.nan).astype(np.float32)


def mouth_region_motion(crops: ByteArray) -> FloatArray:
    """Return [T] motion of the mouth region of face crops [T, 112, 112], in percent of its contrast.

    The mean absolute difference to the frame before, within the region in which `asd_crop_box` puts the mouth.
    A coarse stand-in for the mouth opening where no landmarks are at hand: head motion counts as well.
    """
    motion = np.zeros(len(crops), np.float32)
    for first in range(0, len(crops), 10 * GRID_HZ):
        start = max(0, first - 1)
        mouth = np.asarray(crops[start : first + 10 * GRID_HZ, 52:100, 30:82], np.float32)
        change = np.abs(np.diff(mouth, axis=0)).mean(axis=(1, 2))
        contrast = np.maximum(mouth.std(axis=(1, 2))[1:], 1.0)
        motion[start + 1 : start + 1 + len(change)] = 100 * change / contrast
    if len(motion) > 1:
        motion[0] = motion[1]
    return motion


def moving_mean(series: FloatArray, width: int) -> FloatArray:
    """Return the centred mean over `width` frames (odd) of a series [T]; the ends average what is there."""
    kernel = np.ones(width)
    total = np.convolve(series, kernel, "same")
    if len(series) < width:
        kernel = np.ones(2 * len(series) + 1)
        total = np.convolve(np.pad(series, len(series)), kernel, "same")[len(series) : 2 * len(series)]
        return (total / len(series)).astype(np.float32)
    return (total / np.convolve(np.ones(len(series)), kernel, "same")).astype(np.float32)
