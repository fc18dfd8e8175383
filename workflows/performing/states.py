"""From turns to what each of two people does in every frame: speak, listen, both, idle. Pure functions.

The states are those of training: who speaks while somebody else does is in both, a silence of all that is shorter than
0.6 s belongs to what goes on around it, and what is longer is idle for both. Microseconds a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from annotators.protocols_speech import Turn
from schemas.samples.sample import FPS
from stages.packing.audio import Run
from workflows.performing.voices import OTHERS, PEOPLE

Codes = NDArray[np.uint8]
States = NDArray[np.int8]

NAMES = ("idle", "speak", "listen", "both")
"""States by number, as the trainer counts them (`lpm_train.batch.STATES`): bit 0 speaks, bit 1 listens."""

PAUSE_S = 0.6
"""`min_idle_s` of stage `pairing`, whose timelines the models are trained on."""

BITS = {PEOPLE[0]: 1, PEOPLE[1]: 2, OTHERS: 4}
"""Who is heard in a frame: one bit for each of the two, and one for everybody else."""


def heard_frames(turns: Sequence[Turn], frames: int, start_s: float = 0.0) -> Codes:
    """Return who is heard in each of `frames` frames of 1/25 s from `start_s` on (`BITS`).

    Borders go to the nearest frame; every turn that reaches into the frames has one at least. Short silences of all are
    filled (`through_pauses`).
    """
    out = np.zeros(frames, np.uint8)
    for turn in turns:
        first, last = round((turn.start_s - start_s) * FPS), round((turn.end_s - start_s) * FPS)
        if turn.end_s <= start_s or turn.start_s >= start_s + frames / FPS:
            continue
        first = min(max(0, first), frames - 1)
        out[first : max(first + 1, last)] |= BITS[turn.speaker]
    return through_pauses(out, round(PAUSE_S * FPS))


def through_pauses(heard_T: Codes, shortest: int) -> Codes:
    """Return who is heard, a silence of fewer than `shortest` frames being part of what goes on around it.

    Between different voices it goes to the one that is heard longer, as stage `pairing` has it; of equals to the first.
    """
    out, found = heard_T.copy(), runs(heard_T)
    for i, (a, b, code) in enumerate(found):
        sides = [found[j] for j in (i - 1, i + 1) if 0 <= j < len(found)]
        if code == 0 and b - a < shortest and sides:
            out[a:b] = max(sides, key=lambda run: run[1] - run[0])[2]
    return out


def states_of(heard_T: Codes, person: str) -> States:
    """Return a person's states: bit 0 where they are heard, bit 1 where anybody else is."""
    own = BITS[person]
    speaks, hears = (heard_T & own) != 0, (heard_T & (7 - own)) != 0
    return np.asarray(speaks + 2 * hears.astype(np.int8), np.int8)


def runs(codes: NDArray[np.integer]) -> list[tuple[int, int, int]]:
    """Return (first, last + 1, code) of stretches of one code; they partition [0, T)."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    bounds = [0, *edges.tolist(), len(codes)]
    return [(a, b, int(codes[a])) for a, b in pairwise(bounds) if a < b]


def timeline(states_T: States) -> list[Run]:
    """Return the states as packing reads them: adjacent runs, in seconds from the first frame."""
    return [Run(a / FPS, b / FPS, NAMES[code]) for a, b, code in runs(states_T)]


def figures(states_T: States) -> dict[str, float]:
    """Return for how long (s) a person does what, and how often that changes."""
    seconds = {f"{name}_s": round(int((states_T == code).sum()) / FPS, 2) for code, name in enumerate(NAMES)}
    return {**seconds, "mode_changes": max(0, len(runs(states_T)) - 1)}
