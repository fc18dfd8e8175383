"""What one person does in every frame of a whole recording, seen or not: speak, listen, both, idle. Pure functions.

Where the person's face is seen, the timeline says it, as in packed clips. Elsewhere the voices do: the person speaks
where a voice of theirs is heard, unless another's lips say it, and listens where another one is. That is a rule, no
measurement, and its runs say so (`OFF_SCREEN`). Milliseconds an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from schemas.samples.sample import FPS
from schemas.tables.pairing import TimelineRow
from schemas.time import Interval
from stages.packing.audio import Run
from workflows.performing.states import NAMES, PAUSE_S, through_pauses

OFF_SCREEN = "off_screen_heuristic"
"""The reason of runs in which the person is not seen."""

UNKNOWN = -1
"""The number of frames of which nobody knows whose sound it is: in `discard`."""

OWN, OTHERS = 1, 2
"""Bits of who is heard."""


@dataclass(frozen=True)
class Did:
    """What a person does in each of T frames of 1/25 s."""

    state_T: NDArray[np.int8]
    """index into `NAMES`, or UNKNOWN"""
    row_T: NDArray[np.int32]
    """index of the row of the timeline that says so; -1 where the person is not seen"""
    present_T: NDArray[np.bool_]
    """the person is seen, or heard"""

    def where_seen(self) -> Did:
        """Return the same with nothing claimed of frames in which the person is not seen."""
        return replace(self, state_T=np.where(self.row_T >= 0, self.state_T, np.int8(UNKNOWN)))


def did(
    turns: Iterable[tuple[str, Interval]], own: frozenset[str], seen: Sequence[TimelineRow], frames: int,
    others: Sequence[TimelineRow] = (),
) -> Did:  # fmt: skip
    """Return what a person does.

    Args:
        turns: who is heard when, by voice.
        own: the person's voices.
        seen: the timelines of the person's faces. Of two at once (a mirror) the later row counts, and one that knows
            before one that does not.
        frames: T.
        others: the timelines of other people's faces, with other voices. Lips tell better than a turn's borders whose
            voice it is: where they speak and the person alone would be heard, it is they who are heard.
    """
    heard_T = np.zeros(frames, np.uint8)
    for voice, span in turns:
        heard_T[_frames(span.start_s, span.end_s, frames)] |= OWN if voice in own else OTHERS
    for row in others:
        if row.state in ("speak", "both"):
            there_T = heard_T[_frames(row.start_s, row.end_s, frames)]
            there_T[there_T == OWN] = OTHERS
    state_T = through_pauses(heard_T, round(PAUSE_S * FPS)).astype(np.int8)  # the bits are those of NAMES
    row_T = np.full(frames, -1, np.int32)
    codes = [NAMES.index(row.state) if row.state in NAMES else UNKNOWN for row in seen]
    for i in sorted(range(len(seen)), key=lambda i: (codes[i] != UNKNOWN, seen[i].start_s, i)):
        at = _frames(seen[i].start_s, seen[i].end_s, frames)
        state_T[at], row_T[at] = codes[i], i
    return Did(state_T, row_T, (row_T >= 0) | ((heard_T & OWN) > 0))


def stretches(present_T: NDArray[np.bool_], absent: int) -> list[tuple[int, int]]:
    """Return [first, last) from where a person appears until they are away for more than `absent` frames."""
    at = np.flatnonzero(present_T)
    if not len(at):
        return []
    breaks = np.flatnonzero(np.diff(at) > absent + 1)
    return [(int(at[a]), int(at[b - 1]) + 1) for a, b in pairwise([0, *(breaks + 1).tolist(), len(at)])]


def pieces(first: int, last: int, most: int) -> list[tuple[int, int]]:
    """Cut [first, last) into as few pieces of at most `most` frames as there can be, of equal length to a frame."""
    n = -(-(last - first) // most)
    edges = [first + i * (last - first) // n for i in range(n + 1)]
    return list(pairwise(edges))


def runs(what: Did, first: int = 0, last: int | None = None) -> list[tuple[int, int, str, int]]:
    """Return (first, last + 1, state, row of the timeline or -1) of stretches of one state; they partition the frames.

    States are those of a timeline: what is not known is `discard`.
    """
    stop = len(what.state_T) if last is None else last
    both = np.stack([what.state_T[first:stop], what.row_T[first:stop]])
    edges = np.flatnonzero((np.diff(both) != 0).any(axis=0)) + 1
    bounds = [0, *edges.tolist(), both.shape[1]]
    return [(first + a, first + b, _name(int(both[0, a])), int(both[1, a])) for a, b in pairwise(bounds) if a < b]


def timeline(what: Did) -> list[Run]:
    """Return the states as packing's gains read them: adjacent runs, in seconds from the first frame."""
    out: list[Run] = []
    for a, b, state, _ in runs(what):
        if out and out[-1].state == state:
            out[-1] = Run(out[-1].start_s, b / FPS, state)
        else:
            out.append(Run(a / FPS, b / FPS, state))
    return out


def category(seconds: dict[str, float]) -> str:
    """Return LPM 1.0's class of a piece, by how long its person is in which state."""
    speaks, listens = seconds["speak"] + seconds["both"], seconds["listen"] + seconds["both"]
    if speaks >= 1 and listens >= 1:
        return "Conversation"
    return "Silence" if max(speaks, listens) <= 0 else "Speak" if speaks >= listens else "Listen_dialogue"


def _name(code: int) -> str:
    return "discard" if code == UNKNOWN else NAMES[code]


def _frames(start_s: float, end_s: float, frames: int) -> slice:
    """Return the frames of a time, borders to the nearest."""
    return slice(min(frames, max(0, round(start_s * FPS))), min(frames, max(0, round(end_s * FPS))))
