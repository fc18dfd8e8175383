"""Signatures of made-up conversations: two people who take turns, each with a microphone, a clock and noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE_HZ = 100
SILENT_DB = -150.0

Bytes = npt.NDArray[np.uint8]


def turns(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return [n] whether the first person has the floor; turns last 0.6 s and more, 3.6 s on average."""
    on, at, state = np.zeros(n, bool), 0, bool(rng.random() < 0.5)
    while at < n:
        length = int(rng.exponential(300) + 60)
        on[at : at + length] = state
        at, state = at + length, not state
    return on


def voice(rng: np.random.Generator, on: np.ndarray) -> np.ndarray:
    """Return [n, 4] band levels (dB) that change with syllables, 70-120 ms each, while `on`."""
    n = len(on)
    loud = np.repeat(rng.normal(0, 1, (n // 12 + 1, 1)), 12, 0)[:n]
    tint = np.repeat(rng.normal(0, 1, (n // 7 + 1, 4)), 7, 0)[:n]
    return np.where(on[:, None], -30 + 8 * loud + 6 * tint, SILENT_DB)


def microphone(rng: np.random.Generator, voices: list[np.ndarray], noise_db: float) -> Bytes:
    """Return the signature of voices (levels at this microphone) over noise."""
    power = sum(10 ** (v / 10) for v in voices) + 10 ** (noise_db / 10) * rng.exponential(1, voices[0].shape)
    return np.clip(np.round((10 * np.log10(power) + 120) * 2), 0, 255).astype(np.uint8)


def conversation(
    seed: int, length_s: float, offset_s: float, drift_ppm: float, leak_db: float, noise_db: float = -65.0
) -> tuple[Bytes, Bytes]:
    """Return two participants' signatures; the second's time t is the first's t * (1 + drift) + offset."""
    rng = np.random.default_rng(seed)
    lead_s = abs(offset_s) + 1.0
    on = turns(rng, int((length_s + 2 * lead_s + 10) * RATE_HZ))
    a, b = voice(rng, on), voice(rng, ~on)
    own = np.arange(int(length_s * RATE_HZ)) / RATE_HZ

    def at(levels: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        where = np.arange(len(levels)) / RATE_HZ
        return np.stack([np.interp(times_s, where, band) for band in levels.T], 1)

    first, second = own + lead_s, own * (1 + 1e-6 * drift_ppm) + offset_s + lead_s
    return (
        microphone(rng, [at(a, first), at(b, first) + leak_db], noise_db),
        microphone(rng, [at(b, second), at(a, second) + leak_db], noise_db),
    )
