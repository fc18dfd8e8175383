"""The state of each person in each 25 Hz frame: pure functions of what is heard and how the lips score.

The paper's rule (LPM 1.0): speech heard and lips in sync = speak; heard and lips still = listen; silence and lips
still = idle; anything else = discard. Here "in sync" is the evidence of `annotators.lips.speaking`, in which no measure
vetoes the others; only a voice that measurably is somebody else's (`foreign`) discards lips that seem to speak.
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
    UNSURE = 7
    BACKCHANNEL = 8
    HUMAN_LABEL = 9
    LAUGHTER = 10

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
    silent: Bools
    """no sound at all: digital silence, or beyond the end of the sound; no voice is too soft to be found there"""


@dataclass(frozen=True, slots=True)
class Lips:
    """What is known of one face's lips, on a stretch of the grid [T]."""

    log_odds: Floats
    """that this face speaks what is heard (`annotators.lips.speaking`), natural logarithm; nan = not measured"""
    speaks: Bools
    """the most likely sequence of speaking"""
    mouthing: Bools
    """lips move as speech does, whatever is heard"""


def spread(mask: Bools, reach: int) -> Bools:
    """Return the mask widened by `reach` frames to both sides."""
    if reach <= 0 or not mask.any():
        return mask.copy()
    kernel = np.ones(2 * reach + 1, np.int32)
    return np.asarray(np.convolve(mask.astype(np.int32), kernel, mode="full")[reach : reach + len(mask)] > 0)


def frame_states(
    lips: Lips,
    sound: Sound,
    own: Bools,
    foreign: Bools,
    backchannels: Bools | None = None,
    laughs: Bools | None = None,
    together: Bools | None = None,
    doubted: Bools | None = None,
    near: int = 0,
) -> tuple[Codes, Codes, Floats]:
    """Return [T] states, reasons and confidences of one track.

    Args:
        lips: what is known of its lips; frames without a measure are unsure.
        sound: what is heard.
        own: [T] a voice bound to this face is heard.
        foreign: [T] what is heard is measurably not these lips' own voice.
        backchannels: [T] this face's voice gives a backchannel to another voice that goes on.
        laughs: [T] this face laughs. Under somebody else's voice that is listening; alone it stays what it was, and the
            reason tells it from speech.
        together: [T] another face in view speaks as well.
        doubted: [T] sync would have it foreign, but over too little time, or on a face whose lips it reads badly.
        near: frames around what was heard in which lips may speak all the same, unless there is no sound at all: voice
            activity misses soft speech.
    """
    n = len(lips.log_odds)
    unknown = np.isnan(lips.log_odds)
    speaks = lips.speaks & ~unknown
    overlapped = sound.overlapped if together is None else sound.overlapped | together
    state = np.full(n, State.IDLE, np.int8)
    reason = np.full(n, Reason.SILENCE, np.int8)

    def put(where: Bools, s: State, r: Reason) -> None:
        state[where], reason[where] = s, r

    put(sound.speech & ~speaks, State.LISTEN, Reason.HEARD_VOICE)
    put(speaks, State.SPEAK, Reason.SYNCED_VOICE)
    put(speaks & sound.speech & overlapped, State.BOTH, Reason.OVERLAPPED_VOICES)
    put(speaks & foreign, State.DISCARD, Reason.FOREIGN_VOICE)
    audible = sound.speech | (spread(sound.speech, near) & ~sound.silent)
    put(speaks & ~audible, State.DISCARD, Reason.LIPS_WITHOUT_VOICE)
    put(sound.speech & ~speaks & own & ~overlapped, State.DISCARD, Reason.OWN_VOICE_STILL_LIPS)
    put(~sound.speech & ~speaks & lips.mouthing, State.DISCARD, Reason.LIPS_WITHOUT_VOICE)
    if backchannels is not None:
        put(sound.speech & backchannels, State.LISTEN, Reason.BACKCHANNEL)  # whoever gives one is listening
    if laughs is not None:
        put(sound.speech & laughs & ~own & ~foreign, State.LISTEN, Reason.LAUGHTER)
        reason[laughs & ~foreign & (own | ~sound.speech)] = Reason.LAUGHTER
    put(unknown, State.DISCARD, Reason.UNSURE)
    sure = confidence(state, lips.log_odds, sound)
    if doubted is not None:
        sure = np.where(doubted & np.isin(state, (State.SPEAK, State.BOTH)), sure * np.float32(_CONFLICT), sure)
    return state, reason, np.where(unknown, np.float32(0.0), sure)


_CONFLICT = 0.5
"""What is left of the confidence where two measures contradict one another: either may be right."""


def confidence(state: Codes, log_odds: Floats, sound: Sound) -> Floats:
    """Return [T] confidence in [0, 1]: how probable it is that lips and sound do what the state says.

    Speaking rests on the lips' log-odds, which include the sound; listening and idleness on the lips' and on voice
    activity. A discarded frame contradicts itself: how clearly is how sure both are.
    """
    lips = 1.0 / (1.0 + np.exp(-np.clip(np.nan_to_num(log_odds), -30.0, 30.0)))
    heard = np.where(sound.speech, np.maximum(sound.probability, 0.7), np.minimum(sound.probability, 0.3))
    speaks = np.isin(state, (State.SPEAK, State.BOTH))
    rest = np.sqrt((1.0 - lips) * np.where(state == State.LISTEN, heard, 1.0 - heard))
    clear = np.sqrt(np.maximum(lips, 1.0 - lips) * np.maximum(heard, 1.0 - heard))
    value = np.where(speaks, lips, rest)
    return np.asarray(np.where(state == State.DISCARD, clear, value), np.float32)


def bridged(mask: Bools, longest: int) -> Bools:
    """Return the mask with gaps of at most `longest` frames between true stretches filled: pauses of what goes on."""
    out = mask.copy()
    edges = np.flatnonzero(np.diff(np.r_[True, mask, True]))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if a > 0 and b < len(mask) and b - a <= longest:
            out[a:b] = True
    return out


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


def through_pauses(state: Codes, pause: int) -> Codes:
    """Return states for cutting clips: an idle stretch shorter than `pause` frames within one state is part of it.

    LPM 1.0 merges short idle states likewise. Idleness before the first word or after the last one stays outside.
    """
    out = state.copy()
    found = runs(state)
    for (_, _, before), (a, b, code), (_, _, after) in zip(found, found[1:], found[2:], strict=False):
        if code == State.IDLE and b - a < pause and before == after:
            out[a:b] = before
    return out
