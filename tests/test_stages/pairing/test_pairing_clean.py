"""Runs are cut around what no crop can leave out: pieces partition the run, and the clean ones are long enough."""

from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing_case import SOURCE, case

from curation.memory import MemoryInputs
from stages.clip_plan.fit import INTRUDERS, OVERLAYS, CleanLimits, Framer
from stages.pairing.clean import Fits, best_spans, border_times, clean_run
from stages.pairing.pairing import PairingSettings
from stages.pairing.segments import SpokenWord, cut_run, inside_word

WORDS = [SpokenWord(0.3 + 0.5 * i, 0.7 + 0.5 * i, "word") for i in range(60)]


def away_from(*spoilt: tuple[float, float]) -> Fits:
    """Clean is what meets none of the stretches."""
    return lambda a, b: all(b <= first + 1e-6 or a >= last - 1e-6 for first, last in spoilt)


def test_a_clean_run_is_cut_as_ever() -> None:
    for end in (2.0, 7.0, 23.0):
        assert clean_run(WORDS, 0.0, end, 3.0, 8.0, away_from()) == cut_run(WORDS, 0.0, end, 3.0, 8.0)


def test_what_comes_between_leaves_a_clip_on_each_side() -> None:
    fits = away_from((5.0, 5.6))
    pieces = clean_run(WORDS, 0.0, 10.0, 3.0, 8.0, fits)
    first, between, last = pieces
    assert first[0] == 0 and last[1] == 10 and fits(*first) and fits(*last) and not fits(*between)
    assert between[1] - between[0] < 1.6
    assert not any(inside_word(WORDS, t) for t in between)  # there is a gap between words within reach


def test_a_run_that_is_nowhere_clean_for_long_is_cut_as_ever() -> None:
    fits = away_from((2.0, 2.1), (4.5, 4.6), (7.0, 7.1))
    assert clean_run(WORDS, 0.0, 9.0, 3.0, 8.0, fits) == cut_run(WORDS, 0.0, 9.0, 3.0, 8.0)


spoilt = st.lists(st.tuples(st.integers(0, 700), st.integers(1, 60)), max_size=4).map(
    lambda found: [(a / 25, (a + n) / 25) for a, n in found]
)


@settings(deadline=None, max_examples=60)
@given(spoilt, st.integers(0, 100), st.integers(1, 700))
def test_pieces_partition_and_the_long_clean_ones_are_found(
    spoilt: list[tuple[float, float]], first: int, length: int
) -> None:
    start, end = first / 25, (first + length) / 25
    fits = away_from(*spoilt)
    pieces = clean_run([], start, end, 3.0, 8.0, fits)
    assert pieces[0][0] == start and pieces[-1][1] == end
    assert all(a == b for (_, a), (b, _) in itertools.pairwise(pieces))
    assert all(0 < b - a <= 8.0 + 1e-6 for a, b in pieces)
    clean_s = sum(b - a for a, b in pieces if fits(a, b) and b - a >= 3.0 - 1e-6)
    plain_s = sum(b - a for a, b in cut_run([], start, end, 3.0, 8.0) if fits(a, b) and b - a >= 3.0 - 1e-6)
    assert clean_s >= plain_s - 1.0  # a clip more may cost up to half a second


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400), st.integers(0, 10))
def test_few_questions_are_asked(length: int, every: int) -> None:
    asked: list[tuple[float, float]] = []

    def fits(a: float, b: float) -> bool:
        asked.append((a, b))
        return every > 0 and round(25 * a) % every == 0

    borders = border_times([], 0.0, length / 25)
    spans = best_spans(borders, 3.0, 8.0, fits)
    assert len(set(asked)) <= 3 * len(borders)
    assert all(fits(*span) for span in spans)
    assert all(3.0 - 1e-6 <= b - a <= 8.0 + 1e-6 for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))


def passer_by(at_s: float) -> tuple[float, float, float, float]:
    return (640.0 if 4.0 <= at_s < 5.0 else 1100.0, 220.0, 90.0, 90.0)


def limits_of(s: PairingSettings) -> CleanLimits:
    return CleanLimits(s.clean_overlay, s.clean_intruder, s.clean_face)


def test_runs_are_cut_by_the_limits_that_the_default_policy_judges_by() -> None:
    text = Path(str(files("workflows") / "policies" / "default.yaml")).read_text(encoding="utf-8")
    limits = limits_of(PairingSettings())
    for columns, most in ((OVERLAYS, limits.overlay), (INTRUDERS, limits.intruder)):
        assert all(f'keep: "{column.name} <= {most:g}"' in text for column in columns), (columns, most)
    assert f'keep: "face_in_crop >= {limits.face:g} ' in text


@pytest.fixture(scope="module")
def framer() -> Framer:
    """A person of 10 s, before whom somebody stands from 4 to 5 s."""
    parts = case((1280, 720), 10.0, [(600.0, 200.0, 100.0, 100.0), passer_by], [], [])
    return Framer.of(MemoryInputs(Path("none"), parts), limits_of(PairingSettings()))


def test_a_passer_by_cuts_a_run_in_two(framer: Framer) -> None:
    def fits(a: float, b: float) -> bool:
        return framer.fits(f"{SOURCE}-t00000", f"{SOURCE}-s00000", a, b)

    first, between, last = clean_run([], 0.0, 10.0, 3.0, 8.0, fits)
    assert 3.6 <= first[1] <= 4.0 and 5.0 <= last[0] <= 5.4
    assert fits(*first) and fits(*last) and not fits(*between)


def test_a_track_that_is_not_there_fits_nowhere(framer: Framer) -> None:
    assert not framer.fits("nobody", f"{SOURCE}-s00000", 0.0, 4.0)
