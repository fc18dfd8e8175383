"""The state of each person in each 25 Hz frame: pure functions of what is heard and how the lips score.

The paper's rule (LPM 1.0): speech heard and lips in sync = speak; heard and lips still = listen; silence and lips
still = idle; anything else = discard. Here "in sync" is the active speaker score together with the binding of voices
to faces: of two moving mouths, the one that the heard voice is bound to speaks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]


class State(IntEnum):
    """States in the order of their codes."""

    DISCARD = 0
    SPEAK = 1
    LISTEN = 2
    IDLE = 3
    BOTH = 4

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name.lower()


class Reason(IntEnum):
    """What decided a frame."""

    SYNCED_VOICE = 0
    HEARD_VOICE = 1
    SILENCE = 2
    OVERLAPPED_VOICES = 3
    LIPS_WITHOUT_VOICE = 4
    FOREIGN_VOICE = 5
    OWN_VOICE_STILL_LIPS = 6
    MASKED_VOICE = 7
    UNSURE = 8
    BACKCHANNEL = 9
    HUMAN_LABEL = 10
    LAUGHTER = 11

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard, on a stretch of the grid [T]."""

    speech: Bools
    """inside a stretch of speech"""
    probability: Floats
    overlapped: Bools
    """two voices at once"""
    masked: Bools
    """no speech found, but so loud that speech could not be told: noise covers it"""


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the frame decision; counts are grid points."""

    on: float
    off: float
    near: int
    """lips may move this long before and after speech and still belong to it"""


def hysteresis(scores: Floats, on: float, off: float) -> Bools:
    """Return [T] lips-moving: on from `on` upwards, off again below `off`; starts by which is nearer."""
    out = np.zeros(len(scores), bool)
    active = bool(len(scores)) and float(scores[0]) >= (on + off) / 2
    for i, s in enumerate(scores):
        active = s >= off if active else s >= on
        out[i] = active
    return out


def spread(mask: Bools, reach: int) -> Bools:
    """Return the mask widened by `reach` frames to both sides."""
    if reach <= 0 or not mask.any():
        return mask.copy()
    kernel = np.ones(2 * reach + 1, np.int32)
    return np.asarray(np.convolve(mask.astype(np.int32), kernel, mode="same")[: len(mask)] > 0)


def frame_states(
    scores: Floats,
    sound: Sound,
    own: Bools,
    foreign: Bools,
    rules: Rules,
    nods: Bools | None = None,
    laughs: Bools | None = None,
) -> tuple[Codes, Codes, Floats]:
    """Return [T] states, reasons and confidences of one track.

    Args:
        scores: [T] active speaker scores, > 0 = speaks; NaN = not measured, which makes a frame unsure.
        sound: what is heard.
        own: [T] a voice bound to this face is heard.
        foreign: [T] the heard voice is bound to another face in view that moves its lips at this time.
        rules: thresholds.
        nods: [T] this face's voice gives a backchannel to another voice that goes on.
        laughs: [T] this face laughs. Under somebody else's voice that is listening; alone it stays what it was, and the
            reason tells it from speech.
    """
    n = len(scores)
    unknown = np.isnan(scores)
    lips = hysteresis(scores, rules.on, rules.off) & ~unknown
    state = np.full(n, State.IDLE, np.int8)
    reason = np.full(n, Reason.SILENCE, np.int8)

    def put(where: Bools, s: State, r: Reason) -> None:
        state[where], reason[where] = s, r

    put(sound.speech & ~lips, State.LISTEN, Reason.HEARD_VOICE)
    put(sound.speech & lips, State.SPEAK, Reason.SYNCED_VOICE)
    put(sound.speech & lips & sound.overlapped, State.BOTH, Reason.OVERLAPPED_VOICES)
    put(sound.speech & lips & foreign & ~own, State.DISCARD, Reason.FOREIGN_VOICE)
    put(sound.speech & ~lips & own & ~sound.overlapped, State.DISCARD, Reason.OWN_VOICE_STILL_LIPS)
    put(~sound.speech & lips, State.DISCARD, Reason.LIPS_WITHOUT_VOICE)
    put(~sound.speech & lips & sound.masked & (own | ~foreign), State.SPEAK, Reason.MASKED_VOICE)
    beside = spread((state == State.SPEAK) | (state == State.BOTH), rules.near)
    put(~sound.speech & lips & beside & ~sound.masked, State.SPEAK, Reason.SYNCED_VOICE)
    if nods is not None:
        put(sound.speech & nods, State.LISTEN, Reason.BACKCHANNEL)  # whoever gives one is listening
    if laughs is not None:
        put(sound.speech & laughs & ~own, State.LISTEN, Reason.LAUGHTER)
        reason[laughs & (own | ~sound.speech)] = Reason.LAUGHTER
    put(unknown, State.DISCARD, Reason.UNSURE)
    known = np.where(unknown, np.float32(0.0), scores)
    return state, reason, np.where(unknown, np.float32(0.0), confidence(state, known, sound))


def confidence(state: Codes, scores: Floats, sound: Sound) -> Floats:
    """Return [T] confidence in [0, 1]: geometric mean of how sure lips and hearing are of what the state says.

    Lips: logistic of 1.5 times the score (LR-ASD's listeners score about -1, talkers +1.4 to +4).
    """
    lips = 1.0 / (1.0 + np.exp(-1.5 * scores.astype(np.float64)))
    heard = np.where(sound.speech, np.maximum(sound.probability, 0.7), np.minimum(sound.probability, 0.3))
    heard = np.where(sound.masked, 0.5, heard)
    says_lips = np.isin(state, (State.SPEAK, State.BOTH))
    says_heard = np.isin(state, (State.SPEAK, State.BOTH, State.LISTEN))
    a = np.where(says_lips, lips, 1.0 - lips)
    b = np.where(says_heard, heard, 1.0 - heard)
    value = np.sqrt(a * b)
    # A discarded frame contradicts itself; how clearly is how sure both signs are.
    clear = np.sqrt(np.maximum(lips, 1.0 - lips) * np.maximum(heard, 1.0 - heard))
    return np.asarray(np.where(state == State.DISCARD, clear, value), np.float32)


def runs(codes: Codes) -> list[tuple[int, int, int]]:
    """Return (start, end, code) of equal stretches; they partition [0, T)."""
    if not len(codes):
        return []
    edges = np.flatnonzero(np.diff(codes)) + 1
    bounds = [0, *edges.tolist(), len(codes)]
    return [(a, b, int(codes[a])) for a, b in itertools.pairwise(bounds)]


def smooth(state: Codes, shortest: Mapping[int, int], confidences: Floats) -> Codes:
    """Return states with short runs taken into their neighbours, the shortest first.

    `shortest` gives the least length (frames) of a run of each state; a shorter one takes the state of the
    neighbours when they agree, and of the longer neighbour otherwise. Runs at the ends are judged alike. What is
    left when one run fills everything stays. Idempotent.
    """
    out = state.copy()
    while True:
        found = runs(out)
        short = [(b - a, a, i) for i, (a, b, code) in enumerate(found) if b - a < shortest.get(code, 0)]
        if not short or len(found) == 1:
            return out
        _, _, i = min(short)
        a, b, _ = found[i]
        sides = [found[j] for j in (i - 1, i + 1) if 0 <= j < len(found)]
        best = max(sides, key=lambda r: (r[1] - r[0], float(confidences[r[0] : r[1]].sum()), -r[0]))
        out[a:b] = best[2]
