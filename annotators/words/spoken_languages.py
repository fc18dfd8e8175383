"""Which language is spoken in which piece of speech: a vote over what a recogniser hears in windows of it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotators.protocols_speech import Segment, Turn

LANGUAGE_MIN_S, MIN_LANGUAGE = 3.0, 0.65
"""Least share of the vote: related languages (Tamil, Telugu) share it at 0.5, right ones have 0.9 and more."""
_OTHER_LANGUAGE = 0.8
"""A piece is taken for another language than the whole only from this probability on: whisper base calls accents,
shouting and short replies Welsh, Turkish or Polish at 0.3 to 0.6."""
_LANGUAGE_VOICE_S = 15.0


@dataclass(frozen=True, slots=True)
class Vote:
    """The language of a whole sound, None when unsure, and the share of the vote of the likeliest one."""

    language: str | None
    probability: float


@dataclass(frozen=True, slots=True)
class Window:
    """What language was heard in some pieces put together: seconds of sound, probability by language."""

    pieces: tuple[int, ...]
    seconds: float
    probabilities: Mapping[str, float]

    @property
    def best(self) -> str:
        """The likeliest language."""
        return max(sorted(self.probabilities), key=lambda name: self.probabilities[name])

    def certain(self) -> str | None:
        """Return this window's own language if it stands whatever the vote says."""
        return self.best if self.probabilities[self.best] >= _OTHER_LANGUAGE else None

    def sure(self, main: str | None) -> str | None:
        """Return this window's own language, None where it does not stand against `main`, the vote's."""
        best = self.best
        least = MIN_LANGUAGE if main is None or best == main else _OTHER_LANGUAGE
        return best if self.probabilities[best] >= least else None


def vote_of(windows: Sequence[Window]) -> tuple[Vote, str]:
    """Return the vote of windows, weighted by their length, and the likeliest language, sure or not."""
    total: dict[str, float] = defaultdict(float)
    for window in windows:
        for name, share in window.probabilities.items():
            total[name] += share * window.seconds
    best = max(sorted(total), key=lambda name: total[name])
    probability = total[best] / sum(window.seconds for window in windows)
    return Vote(best if probability >= MIN_LANGUAGE else None, probability), best


def windows_of(pieces: Sequence[Segment], turns: Sequence[Turn]) -> list[tuple[int, ...]]:
    """Return what to ask for its language: every long piece, and for a voice with short ones up to 15 s of it.

    A detection costs as much as encoding 30 s of sound, so short pieces are not asked one by one.
    """
    voices = [_voice_of(p, turns) for p in pieces]
    groups = [(i,) for i, p in enumerate(pieces) if p.duration_s >= LANGUAGE_MIN_S]
    short = {v for v, p in zip(voices, pieces, strict=True) if p.duration_s < LANGUAGE_MIN_S}
    mine = ([i for i, v in enumerate(voices) if v == voice] for voice in sorted(short))
    return groups + [tuple(_longest(pieces, some)) for some in mine]


def languages_of(
    heard: Sequence[Window], pieces: Sequence[Segment], turns: Sequence[Turn]
) -> tuple[Vote, str, list[str | None]]:
    """Return the vote of windows, the likeliest language, and the language of each piece (None = unsure)."""
    voices = [_voice_of(p, turns) for p in pieces]
    vote, likeliest = vote_of(heard)
    of_piece: dict[int, str] = {}
    of_voice: dict[str, str] = {}
    for window in heard:
        language = window.sure(vote.language)
        if language is None:
            continue
        first = window.pieces[0]
        if len(window.pieces) == 1 and pieces[first].duration_s >= LANGUAGE_MIN_S and first not in of_piece:
            of_piece[first] = language
        else:
            of_voice[voices[first]] = language
    return vote, likeliest, [of_piece.get(i, of_voice.get(v, vote.language)) for i, v in enumerate(voices)]


def _voice_of(piece: Segment, turns: Sequence[Turn]) -> str:
    """Return the voice heard longest in a piece; the empty string where there is none."""
    heard: dict[str, float] = defaultdict(float)
    for turn in turns:
        heard[turn.speaker] += max(0.0, min(turn.end_s, piece.end_s) - max(turn.start_s, piece.start_s))
    best = max(sorted(heard), key=lambda v: heard[v], default="")
    return best if heard.get(best, 0.0) > 0 else ""


def _longest(pieces: Sequence[Segment], mine: Sequence[int]) -> list[int]:
    """Return the longest of some pieces, up to 15 s together, at least one."""
    chosen: list[int] = []
    seconds = 0.0
    for i in sorted(mine, key=lambda i: (-pieces[i].duration_s, i)):
        if chosen and seconds + pieces[i].duration_s > _LANGUAGE_VOICE_S:
            break
        chosen.append(i)
        seconds += pieces[i].duration_s
    return chosen
