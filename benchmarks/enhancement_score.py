"""How near a sound is to the one it was made from, and noise of a wanted level; part of the programs beside it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Colour = Literal["white", "pink"]


def si_sdr_db(estimate: F32, truth: F32) -> float:
    """Return the scale-invariant signal to distortion ratio of an estimate [N] of truth [N], both less their mean."""
    e, r = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (estimate, truth))
    wanted = (e @ r) / (r @ r) * r
    return float(10 * np.log10((wanted @ wanted) / ((e - wanted) @ (e - wanted))))


def noise_of(colour: Colour, n: int, seed: int) -> F32:
    """Return Gaussian noise [n] with a mean power of 1: equal power a Hz (white), or an octave (pink)."""
    white = np.random.default_rng(seed).standard_normal(n)
    if colour == "pink":
        spectrum = np.fft.rfft(white)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0
        white = np.fft.irfft(spectrum, n)
    return np.asarray(white / np.sqrt(np.mean(white**2)), np.float32)


def mixed(clean: F32, noise: F32, snr_db: float) -> F32:
    """Return clean [N] under noise [N] of mean power 1, at a ratio of mean powers in dB."""
    level = np.sqrt(np.mean(np.square(clean, dtype=np.float64))) * 10 ** (-snr_db / 20)
    return np.asarray(clean + level * noise, np.float32)
