"""The time that a run still takes, from its steps: exact where work goes as video does, told from the first step on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.engine.step import StepResult
from workflows.remaining import Remaining

STAGES = ("probe", "scan", "speech")
RATES = {"probe": 0.1, "scan": 2.0, "speech": 1.0}


def step(stage: str, source: str, video_s: float, *, window: int | None = None, rate: float = 1.0) -> StepResult:
    return StepResult(stage, source, window, "ran", RATES[stage] * rate * video_s, 0.0, video_s, "")


@given(st.lists(st.floats(1, 100), min_size=1, max_size=6), st.floats(0.1, 10), st.integers(0, 17), st.integers(1, 8))
def test_what_is_left_is_what_was_not_yet_done(lengths: list[float], rate: float, n: int, workers: int) -> None:
    """Every source is probed first; then whole sources, one after another; machines may be slower than the rates."""
    steps = [step("probe", f"{i}", s, rate=rate) for i, s in enumerate(lengths)]
    steps += [step(k, f"{i}", s, rate=rate) for i, s in enumerate(lengths) for k in STAGES[1:]]
    at = len(lengths) + 1 + n % (2 * len(lengths))
    remaining = Remaining(STAGES, RATES)
    remaining.begin(len(lengths))
    for result in steps[:at]:
        remaining.add(result)
    elapsed_s = sum(s.wall_s for s in steps[:at]) / workers
    assert remaining.left_s(elapsed_s) == pytest.approx(sum(s.wall_s for s in steps[at:]) / workers, rel=1e-6, abs=1e-9)


def test_windows_count_as_far_as_they_are_done() -> None:
    remaining = Remaining(STAGES, RATES)
    remaining.begin(1)
    remaining.add(step("probe", "a", 100.0))
    remaining.add(step("scan", "a", 40.0, window=0))
    assert remaining.left_s(90.0) == pytest.approx(60.0 * 2 + 100.0)


def test_sources_that_nobody_has_seen_are_as_long_as_others() -> None:
    remaining = Remaining(STAGES, RATES)
    remaining.begin(3)
    for stage in STAGES:
        remaining.add(step(stage, "a", 10.0))
    assert remaining.left_s(31.0) == pytest.approx(62.0)


def test_what_is_in_quarantine_has_nothing_left() -> None:
    remaining = Remaining(STAGES, RATES)
    remaining.begin(3)
    for stage in STAGES:
        remaining.add(step(stage, "a", 10.0))
    remaining.add(StepResult("probe", "b", None, "error", 0.0, 0.0, 0.0, "not a video"))
    remaining.add(StepResult("speech", "c", None, "blocked", 0.0, 0.0, 0.0, ""))
    assert remaining.left_s(31.0) == 0.0


def test_nothing_is_told_where_nothing_is_known() -> None:
    remaining = Remaining(STAGES, {})
    remaining.begin(2)
    assert remaining.left_s(1.0) is None
    remaining.add(step("probe", "a", 10.0))
    assert remaining.left_s(1.0) is None
    known = Remaining(STAGES, RATES)
    known.add(step("probe", "a", 10.0))
    assert known.left_s(1.0) is None, "the first of many steps, and the cheapest"
    for stage in STAGES[1:]:
        remaining.add(step(stage, "a", 10.0))
    assert remaining.left_s(31.0) == pytest.approx(31.0)


def test_from_the_first_second_it_is_what_headers_and_shipped_rates_tell() -> None:
    remaining = Remaining(STAGES, RATES)
    remaining.begin(2, 100.0)
    assert remaining.left_s(0.0) == pytest.approx(310.0)
    remaining.cores = None
    assert remaining.left_s(0.0) is None, "a cluster that has not told how large it is"
    remaining.cores = 4.0
    remaining.add(step("probe", "a", 100.0))
    assert remaining.left_s(1.0) == pytest.approx(300.0 / 4)
    assert remaining.left_s(60.0) == pytest.approx(310.0 / 4 - 60.0), "time passes while the first source is at work"
    assert remaining.left_s(80.0) is None, "it takes longer than those rates tell, and nothing is known yet"
    for stage in STAGES[1:]:
        remaining.add(step(stage, "a", 100.0, rate=2.0))
    assert remaining.left_s(62.0) == pytest.approx(62.0 * 610.0 / 610.0), "what was seen counts from then on"
    larger = Remaining(STAGES, RATES)
    larger.begin(2, 100.0, {stage: 2 * rate for stage, rate in RATES.items()})
    assert larger.left_s(0.0) == pytest.approx(620.0), "pictures that cost more than those of the rates"
    untold = Remaining(STAGES, {"probe": 0.1})
    untold.begin(2, 100.0)
    assert untold.left_s(0.0) is None, "stages of a user's own have no shipped rates"
