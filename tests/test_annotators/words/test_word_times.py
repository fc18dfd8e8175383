"""An aligner's times put into a transcript: which words take them, what stays, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotators.protocols_speech import FloatArray, Segment, Stretch, TranscribedSegment, Transcript, Word
from annotators.words.word_times import aligned, retimed

SOUND = np.zeros(60 * 16_000, np.float32)


class Shifted:
    """An aligner for tests: every word 0.1 s later, but those in `unknown`."""

    name = "shifted"
    weights: tuple[str, ...] = ()

    def __init__(self, unknown: Sequence[str] = ()) -> None:
        self.unknown = unknown
        self.asked: list[Stretch] = []

    def align(self, audio: FloatArray, stretches: Sequence[Stretch]) -> list[list[Segment | None]]:
        self.asked += stretches
        return [[self._time(w) for w in stretch.words] for stretch in stretches]

    def _time(self, word: Word) -> Segment | None:
        return None if word.text in self.unknown else Segment(word.start_s + 0.1, word.end_s + 0.1)


def said(*words: tuple[float, float, str], language: str | None = "en") -> TranscribedSegment:
    made = tuple(Word(a, b, text, 0.9) for a, b, text in words)
    return TranscribedSegment(made[0].start_s, made[-1].end_s, "", made, -0.2, 0.1, 1.2, language)


def transcript(*segments: TranscribedSegment) -> Transcript:
    return Transcript(segments, "en", 0.9)


def test_words_take_the_aligners_times_and_say_so() -> None:
    before = transcript(said((1.0, 1.5, "so"), (1.6, 2.0, "be"), (2.1, 2.4, "it")))
    after = aligned(before, SOUND, Shifted())
    assert [(w.start_s, w.end_s, w.timed_by) for w in after.words] == [
        (pytest.approx(w.start_s + 0.1), pytest.approx(w.end_s + 0.1), "shifted") for w in before.words
    ]
    assert (after.segments[0].start_s, after.segments[0].end_s) == (pytest.approx(1.1), pytest.approx(2.5))
    assert [replace(w, start_s=0, end_s=0, timed_by=None) for w in after.words] == [
        replace(w, start_s=0, end_s=0) for w in before.words
    ]


def test_a_word_that_cannot_be_aligned_keeps_its_time() -> None:
    before = transcript(said((1.0, 1.5, "in"), (1.7, 2.4, "1987"), (2.6, 3.0, "then")))
    words = aligned(before, SOUND, Shifted(["1987"])).words
    assert (words[1].start_s, words[1].end_s, words[1].timed_by) == (1.7, 2.4, None)
    assert words[0].timed_by == words[2].timed_by == "shifted"


def test_an_unaligned_word_gives_way_to_its_neighbours() -> None:
    words = (Word(1.0, 1.4, "a", 0.9), Word(1.4, 2.0, "7", 0.9), Word(2.0, 2.5, "b", 0.9))
    stretch = Stretch(0.5, 3.0, words, "en")
    times = [Segment(1.1, 1.6), None, Segment(1.9, 2.4)]
    assert [(w.start_s, w.end_s) for w in retimed(stretch, times, "x")] == [(1.1, 1.6), (1.6, 1.9), (1.9, 2.4)]


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.booleans()), min_size=1, max_size=8))
def test_words_stay_in_order(drawn: list[tuple[float, float, bool]]) -> None:
    starts, found = (sorted(x) for x in zip(*[(a, b) for a, b, _ in drawn], strict=True))
    words = tuple(Word(a, b, "w", 1.0) for a, b in pairwise([*starts, 5.0]))
    times = [Segment(a, b) if known else None for (a, b), (_, _, known) in zip(pairwise([*found, 5.0]), drawn)]  # noqa: B905
    out = retimed(Stretch(0.0, 5.0, words, "en"), times, "x")
    assert all(w.start_s <= w.end_s for w in out)
    assert all(a.start_s <= b.start_s and a.end_s <= b.end_s for a, b in pairwise(out))
    assert [w.timed_by == "x" for w in out] == [t is not None for t in times]


def test_what_follows_closely_in_one_language_is_aligned_as_one() -> None:
    first, second = said((1.0, 1.5, "one")), said((1.7, 2.0, "two"))
    other, late = said((2.3, 2.6, "trois"), language="fr"), said((9.0, 9.5, "four"))
    aligner = Shifted()
    aligned(transcript(first, second, other, late), SOUND, aligner)
    assert [[w.text for w in s.words] for s in aligner.asked] == [["one", "two"], ["trois"], ["four"]]
    assert [s.language for s in aligner.asked] == ["en", "fr", "en"]
    assert [(s.start_s, s.end_s) for s in aligner.asked] == [
        (0.5, pytest.approx(2.15)),
        (pytest.approx(2.15), pytest.approx(3.1)),
        (8.5, 10.0),
    ]


def test_a_stretch_stays_inside_the_sound_and_short() -> None:
    segments = [said((n * 0.6, n * 0.6 + 0.6, "word")) for n in range(90)]
    aligner = Shifted()
    aligned(transcript(*segments), SOUND[: 54 * 16_000], aligner)
    assert aligner.asked[0].start_s == 0.0 and aligner.asked[-1].end_s == 54.0
    assert all(s.end_s - s.start_s <= 31.0 for s in aligner.asked)
    assert sum(len(s.words) for s in aligner.asked) == 90


def test_nothing_said_asks_nobody() -> None:
    aligner = Shifted()
    silent = Transcript((), None, 0.0)
    assert aligned(silent, SOUND, aligner) == silent and not aligner.asked


def test_an_aligner_that_loses_words_is_refused() -> None:
    class Lossy(Shifted):
        def align(self, audio: FloatArray, stretches: Sequence[Stretch]) -> list[list[Segment | None]]:
            return [[] for _ in stretches]

    with pytest.raises(ValueError, match="one time, or None, for every word"):
        aligned(transcript(said((1.0, 1.5, "one"))), SOUND, Lossy())
