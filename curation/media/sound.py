"""Arithmetic on samples: rate conversion with a fixed phase, and downmixing to mono. Pure functions.

Rate conversion is a windowed-sinc polyphase filter; output sample k of any block always sits at time k / rate, so a
block gives the same samples as the whole. About 0.5 ms for a second of 48 kHz sound to 16 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from schemas.files.sound import F32, mono_weights

_ZERO_CROSSINGS = 24

FILTER_REACH = _ZERO_CROSSINGS + 1
"""How far the resampling filter looks to either side, in samples of the lower of the two rates."""

_KAISER_BETA = 9.0
"""About 90 dB of stopband attenuation (Kaiser & Schafer 1980, beta = 0.1102 (A - 8.7))."""

_CUTOFF = 0.94
"""Passband edge as a part of the lower Nyquist frequency; the transition band reaches about to it."""


def resample(samples_CN: F32, from_hz: int, to_hz: int) -> F32:
    """Convert float32 [C, N] from one rate to another; output k is at time k / to_hz, input 0 at time 0.

    Beyond its ends the input counts as silence; give `FILTER_REACH` samples of the lower rate as lead on both sides
    and cut them off. Returns float32 [C, ceil(N * to_hz / from_hz)].
    """
    if from_hz == to_hz:
        return samples_CN
    from scipy import signal  # takes a second, and most processes that could resample never do

    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    out = signal.resample_poly(samples_CN, up, down, axis=-1, window=_low_pass(max(up, down)))
    return np.asarray(out, dtype=np.float32)


@lru_cache(maxsize=16)
def _low_pass(factor: int) -> NDArray[np.float64]:
    from scipy import signal

    taps = signal.firwin(2 * _ZERO_CROSSINGS * factor + 1, _CUTOFF / factor, window=("kaiser", _KAISER_BETA))
    return np.asarray(taps, dtype=np.float64)


def mixed(samples_CN: F32, channels: Sequence[str]) -> F32:
    """Mix named channels to mono, [N].

    Where the second of two is the first one turned over (a microphone's balanced pair recorded as stereo, a cable with
    its poles exchanged), the plain mix would be silence: it is turned back. `OPPOSED` is a heuristic.
    """
    weights = mono_weights(channels)
    if len(channels) == 2 and weights.all() and opposition(samples_CN) >= OPPOSED:
        weights = weights * np.array([1, -1], dtype=np.float32)
    return np.asarray(weights @ samples_CN, dtype=np.float32)


OPPOSED = 0.9
"""A plain mix of two equally loud channels so opposed is 13 dB fainter than the mix with one of them turned over."""


def opposition(samples_CN: F32) -> float:
    """Return minus the correlation of two channels [2, N], in [-1, 1]; 0 where one is silent."""
    left, right = samples_CN
    power = float(left @ left) * float(right @ right)
    return -float(left @ right) / power**0.5 if power > 0 else 0.0
