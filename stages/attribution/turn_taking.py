"""How a conversation goes: backchannels, floor transfers, overlap and talk share, from voices and times alone. Pure.

A backchannel ("mm-hm", "yeah") is a short utterance while somebody else goes on talking: it tells that one listens and
takes no turn. Found by time and number of words, language by language alike; a rule, not a model. What is left are
turns; from one voice's turn to the next voice's there is a gap (> 0) or an overlap (< 0), the floor transfer offset of
conversation research (Heldner and Edlund, J. Phonetics 38, 2010). Microseconds a turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from schemas.time import Interval, merge


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of one voice, in seconds, with the number of words recognised in it."""

    speaker: str
    start_s: float
    end_s: float
    words: int = 0

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class BackchannelRule:
    """What counts as a backchannel."""

    max_s: float = 1.0
    """longest utterance that can be one (seconds)"""
    max_words: int = 3
    around_s: float = 1.0
    """the other voice speaks no further than this before and after"""


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """Measures of one conversation; None where there was nothing to measure."""

    n_turns: int
    n_transfers: int
    gap_median_s: float | None
    """median floor transfer offset; negative = the next voice sets in before the last one ends"""
    overlap_ratio: float
    """share of the time with speech in which two or more voices are heard"""
    backchannels_per_min: float
    """per minute of speech"""
    talk_share: Mapping[str, float]
    """share of all voices' speaking time, by voice"""


def backchannels(utterances: Sequence[Utterance], rule: BackchannelRule | None = None) -> list[int]:
    """Return the indices of utterances that are backchannels.

    One is at most `max_s` long with at most `max_words` words, and some other voice that is not itself so short holds
    the floor: it speaks within `around_s` before and after it, or right through it.
    """
    rule = rule or BackchannelRule()
    short = [u.duration_s <= rule.max_s and u.words <= rule.max_words for u in utterances]
    long_of: dict[str, list[Utterance]] = defaultdict(list)
    for u, is_short in zip(utterances, short, strict=True):
        if not is_short:
            long_of[u.speaker].append(u)
    return [
        i
        for i, u in enumerate(utterances)
        if short[i] and any(_holds(v, u, rule.around_s) for s, v in long_of.items() if s != u.speaker)
    ]


def _holds(floor: Sequence[Utterance], u: Utterance, around_s: float) -> bool:
    before = any(f.start_s < u.start_s and f.end_s >= u.start_s - around_s for f in floor)
    after = any(f.end_s > u.end_s and f.start_s <= u.end_s + around_s for f in floor)
    return before and after


def turns(utterances: Sequence[Utterance], leave_out: Sequence[int] = ()) -> list[Utterance]:
    """Return turns in order of time: utterances of one voice are one turn until another voice begins after them.

    `leave_out`: indices of backchannels, which take no turn.
    """
    out: list[Utterance] = []
    skip = set(leave_out)
    rest = (u for i, u in enumerate(utterances) if i not in skip)
    for u in sorted(rest, key=lambda u: (u.start_s, u.end_s, u.speaker)):
        if out and out[-1].speaker == u.speaker:
            last = out[-1]
            out[-1] = Utterance(u.speaker, last.start_s, max(last.end_s, u.end_s), last.words + u.words)
        else:
            out.append(u)
    return out


def measure(utterances: Sequence[Utterance], rule: BackchannelRule | None = None) -> TurnTaking:
    """Measure the turn-taking of one conversation."""
    given = backchannels(utterances, rule)
    floor = turns(utterances, given)
    pairs = list(pairwise(floor))
    offsets = [b.start_s - a.end_s for a, b in pairs]
    spoken = defaultdict(list)
    for u in utterances:
        spoken[u.speaker].append(Interval(u.start_s, u.end_s))
    by_voice = {s: merge(spans) for s, spans in spoken.items()}
    total = {s: sum(i.duration_s for i in spans) for s, spans in by_voice.items()}
    speech_s = sum(i.duration_s for i in merge(i for spans in by_voice.values() for i in spans))
    twice_s = sum(i.duration_s for i in merge(_overlaps(list(by_voice.values()))))
    everything = sum(total.values())
    return TurnTaking(
        n_turns=len(floor),
        n_transfers=len(pairs),
        gap_median_s=median(offsets) if offsets else None,
        overlap_ratio=twice_s / speech_s if speech_s else 0.0,
        backchannels_per_min=60.0 * len(given) / speech_s if speech_s else 0.0,
        talk_share={s: x / everything for s, x in sorted(total.items())} if everything else {},
    )


def _overlaps(voices: Sequence[Sequence[Interval]]) -> list[Interval]:
    """Return the stretches in which at least two voices speak."""
    edges = sorted((at, step) for spans in voices for i in spans for at, step in ((i.start_s, 1), (i.end_s, -1)))
    out, depth, since = [], 0, 0.0
    for at, step in edges:
        if depth >= 2 and at > since:
            out.append(Interval(since, at))
        depth += step
        since = at
    return out


def in_dialogue(utterances: Sequence[Utterance], a: str, b: str, within_s: float = 5.0) -> bool:
    """Say whether two voices answer each other: a turn of one follows a turn of the other within `within_s`."""
    floor = turns(utterances)
    return any({x.speaker, y.speaker} == {a, b} and y.start_s - x.end_s <= within_s for x, y in pairwise(floor))
