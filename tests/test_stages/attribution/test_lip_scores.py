"""Active speaker scores held against the mouth's own motion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from table_rows import row

from annotators.lips.lip_signals import STILL_MOUTH, mouth_motion, mouth_motion_beside
from schemas import tables as t
from stages.attribution.lip_scores import STILL_SCORE, frame_scores


def test_motion_is_the_deviation_of_the_seconds_around() -> None:
    opening = np.zeros(200, np.float32)
    opening[100:] = 0.05 * np.sin(np.arange(100) * 2 * np.pi * 4 / 25)
    moved = mouth_motion(opening)
    assert (moved[:79] < 1e-6).all() and moved[121:180] == pytest.approx(0.05 / np.sqrt(2), rel=0.05)
    assert np.isfinite(moved).all()


def test_motion_needs_half_a_second_of_seen_lips() -> None:
    opening = np.full(100, np.nan, np.float32)
    opening[10:22] = 0.1
    assert np.isnan(mouth_motion(opening)).all()
    opening[22] = 0.1
    assert mouth_motion(opening)[16] == 0 and np.isnan(mouth_motion(opening)[60])


@given(arrays(np.float32, st.integers(1, 90), elements=st.floats(0, 1, width=32) | st.just(np.float32(np.nan))))
def test_motion_equals_a_plain_loop(opening: np.ndarray) -> None:
    moved = mouth_motion(opening)
    for i in range(len(opening)):
        near = opening[max(0, i - 20) : i + 21]
        near = near[np.isfinite(near)]
        assert np.isnan(moved[i]) if len(near) < 13 else moved[i] == pytest.approx(near.std(), abs=2e-4)


def test_motion_beside_is_still_from_the_very_frame_to_the_very_frame() -> None:
    opening = np.zeros(200, np.float32)
    opening[100:] = 0.05 * np.sin(np.arange(100) * 2 * np.pi * 4 / 25)
    moved = mouth_motion_beside(opening)
    assert (moved[:100] < 1e-6).all() and moved[120:] == pytest.approx(0.05 / np.sqrt(2), rel=0.15)
    assert (mouth_motion_beside(opening[::-1])[101:] < 1e-6).all()


@given(arrays(np.float32, st.integers(1, 90), elements=st.floats(0, 1, width=32) | st.just(np.float32(np.nan))))
def test_motion_beside_equals_a_plain_loop(opening: np.ndarray) -> None:
    moved = mouth_motion_beside(opening)
    for i in range(len(opening)):
        sides = [x[np.isfinite(x)] for x in (opening[max(0, i - 20) : i + 1], opening[i : i + 21])]
        known = [x.std(dtype=np.float64) for x in sides if len(x) >= 7]
        assert moved[i] == pytest.approx(min(known), abs=2e-4) if known else np.isnan(moved[i])


def test_a_still_mouth_scores_at_most_minus_one() -> None:
    cases = [(2.0, 0.05), (2.0, 0.001), (-3.0, 0.001), (2.0, None)]
    rows = [row(t.ASD_FRAMES, track_id="a", k=k, score=s, mouth_motion=m) for k, (s, m) in enumerate(cases)]
    table = t.ASD_FRAMES.from_rows(rows)
    assert frame_scores(table, STILL_MOUTH) == {"a": {0: 2.0, 1: STILL_SCORE, 2: -3.0, 3: 2.0}}
    assert frame_scores(table, 0.0)["a"][1] == 2.0
