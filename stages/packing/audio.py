"""The two sound tracks of a clip: what the person says, and what the person hears. Pure.

One recording is heard by two models of behaviour: while the person speaks, the sound belongs to the speak track, while
they listen, to the listen track; idle room tone stays in both, and so does overlapped speech, which is flagged by the
state `both`. In `discard` stretches nobody knows whose sound it is, so neither track has it. Every suppressed sample is
exactly zero; the short raised-cosine fades lie on the kept side of a joint. Microseconds a clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Role = Literal["speak", "listen"]

_HEARD: dict[Role, frozenset[str]] = {
    "speak": frozenset({"speak", "both", "idle"}),
    "listen": frozenset({"listen", "both", "idle"}),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a track's timeline: [start_s, end_s) in one state."""

    start_s: float
    end_s: float
    state: str


def role_gain(runs: Sequence[Run], role: Role, start_s: float, n: int, rate_hz: int, fade_s: float) -> Samples:
    """Return the gain [n] in [0, 1] of one track's sound, sample i at start_s + i / rate_hz on the source's clock.

    `runs` are the whole track's, in order and adjacent, so that a fade may reach into the clip from a joint before
    it. The timeline's own ends are no joints: the sound goes on there, and no fade is made. Outside the timeline the
    gain is 0.
    """
    t_s = start_s + np.arange(n) / rate_hz
    gain = np.zeros(n, np.float64)
    for first, last in _kept(runs, _HEARD[role]):
        a, b = runs[first].start_s, runs[last].end_s
        lo, hi = np.searchsorted(t_s, [a - 1e-9, b - 1e-9])
        inside = t_s[lo:hi]
        fade = min(fade_s, (b - a) / 2)
        shape = np.ones(len(inside))
        if first > 0:
            shape = np.minimum(shape, _rise(inside - a, fade))
        if last < len(runs) - 1:
            shape = np.minimum(shape, _rise(b - inside, fade))
        gain[lo:hi] = shape
    return gain.astype(np.float32)


def level_db(samples: Samples) -> float | None:
    """Return the RMS level in dB below full scale; None for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * float(np.log10(power)) if power > 0 else None


def offset_shift_s(
    offset_ms: float | None,
    confidence: float | None,
    enabled: bool,
    min_confidence: float,
    max_shift_ms: float,
    min_shift_ms: float = 0.0,
) -> float:
    """Return by how much later in the source the sound is to be read, in seconds, to undo a lip-audio offset.

    `offset_ms` > 0 means that the sound is late against the lips. 0 unless enabled, known, sure enough and plausible:
    an offset beyond `max_shift_ms` more likely means another person's voice, and one below `min_shift_ms` is not worth
    the doubt.
    """
    if not enabled or offset_ms is None or confidence is None:
        return 0.0
    if confidence < min_confidence or not min_shift_ms <= abs(offset_ms) <= max_shift_ms:
        return 0.0
    return offset_ms / 1000


def _kept(runs: Sequence[Run], states: Iterable[str]) -> list[tuple[int, int]]:
    """Return (first, last) run indices of the longest stretches whose runs are all in `states`."""
    out: list[tuple[int, int]] = []
    for i, run in enumerate(runs):
        if run.state not in states:
            continue
        if out and out[-1][1] == i - 1:
            out[-1] = (out[-1][0], i)
        else:
            out.append((i, i))
    return out


def _rise(since_s: npt.NDArray[np.float64], fade_s: float) -> npt.NDArray[np.float64]:
    """Return the raised cosine: 0 at the joint, 1 from `fade_s` on."""
    if fade_s <= 0:
        return np.ones(len(since_s))
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(since_s / fade_s, 0, 1)), np.float64)
