"""Sound signature: how loud each of a few speech bands is, a hundred times a second, in one byte each.

Small enough to keep for every source (24 KB a minute before compression) and enough to say how two recordings of one
conversation lie against each other, so that no sound is decoded again for that. Costs 2 ms for a second of sound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

RATE_HZ = 100
"""Signature frames a second."""

BANDS_HZ = ((200.0, 600.0), (600.0, 1400.0), (1400.0, 2600.0), (2600.0, 4000.0))
"""Bands in which speech has its energy, telephone sound included; each holds a formant or two."""

_FLOOR_DB = -120.0
_STEP_DB = 0.5
_WINDOW_S = 0.02


def sound_signature(audio: Floats, rate_hz: int) -> Bytes:
    """Return the band levels of mono sound.

    Args:
        audio: [N] samples in -1..1.
        rate_hz: sample rate, a multiple of 100 and at least 8000.

    Returns:
        uint8 [T, 4], T = N * 100 // rate_hz. Frame i stands for [i, i + 1) / 100 s: a Hann window of 20 ms about its
        middle. Value v is a level of -120 + v / 2 dB relative to full scale; 0 is -120 dB or less.
    """
    if rate_hz % RATE_HZ or rate_hz < 8000:
        raise ValueError(f"rate_hz must be a multiple of {RATE_HZ} and at least 8000, got {rate_hz}")
    hop, size = rate_hz // RATE_HZ, round(_WINDOW_S * rate_hz)
    n = len(audio) // hop
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    hz = np.fft.rfftfreq(size, 1.0 / rate_hz)
    bands = [np.flatnonzero((hz >= low) & (hz < high)) for low, high in BANDS_HZ]
    lead = (size - hop) // 2
    out = np.zeros((n, len(BANDS_HZ)), np.uint8)
    scale = 2.0 / (size * float(np.square(window).sum()))
    for a in range(0, n, 4096):
        b = min(n, a + 4096)
        first, last = a * hop - lead, (b - 1) * hop - lead + size
        piece = np.pad(audio[max(0, first) : last], (max(0, -first), max(0, last - len(audio))))
        block = np.lib.stride_tricks.sliding_window_view(piece, size)[::hop]
        power = np.square(np.abs(np.fft.rfft(block * window, axis=1))) * scale
        for j, bins in enumerate(bands):
            level = 10 * np.log10(np.maximum(power[:, bins].sum(axis=1), 1e-15))
            out[a:b, j] = np.clip(np.round((level - _FLOOR_DB) / _STEP_DB), 0, 255)
    return out


def levels_db(signature: Bytes) -> Floats:
    """Return [T, 4] band levels in dB relative to full scale."""
    return np.asarray(_FLOOR_DB + _STEP_DB * signature.astype(np.float32), np.float32)
