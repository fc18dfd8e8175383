"""Triangular mel filters with straight flanks on the mel scale, as Kaldi and TensorFlow make them.

Two models here were trained on such banks and need them to the digit. (librosa's and the trainer's are straight in Hz.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.time import AUDIO_HZ


def mel_filters(bands: int, low_hz: float, high_hz: float, fft: int) -> npt.NDArray[np.float64]:
    """Return filters [fft // 2 + 1, bands] for the spectrum of 16 kHz sound, each 0 to 1, in equal steps of mel.

    mel = 1127 ln(1 + f / 700) (HTK). `low_hz` and `high_hz` are the outer edges of the first and the last filter.
    """
    edges = np.linspace(_mel(low_hz), _mel(high_hz), bands + 2)
    at = _mel(np.arange(fft // 2 + 1) * AUDIO_HZ / fft)[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.asarray(np.clip(np.minimum(rising, falling), 0.0, None))


def _mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hz, np.float64) / 700.0))
