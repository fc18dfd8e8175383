"""Bounds, sound gains and tars: properties that hold for every input."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import row

from schemas import tables as t
from schemas.tables.scan import LayoutRow
from stages.clip_plan.bounds import person_bounds
from stages.clip_plan.framing import Rect
from stages.packing.audio import Run, level_db, offset_shift_s, role_gain

PICTURE = Rect(0, 0, 1280, 720)


# ------------------------------------------------------------------ bounds


def _layout(**values: object) -> LayoutRow:
    return row(t.LAYOUT, **{"panel_boxes": [0.0, 0.0, 1.0, 1.0], **values})


def test_bars_and_panels_bound_a_crop() -> None:
    split = [_layout(bar_top=0.1, panel_boxes=[0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 1.0], k=k) for k in (0, 50, 100)]
    left = person_bounds(split, Rect(200, 200, 300, 300), 1280, 720)
    assert left == Rect(0, 72, 640, 720)
    assert person_bounds(split, Rect(900, 200, 1000, 300), 1280, 720) == Rect(640, 72, 1280, 720)


def test_a_border_seen_once_is_no_border() -> None:
    rows = [_layout(k=0), _layout(k=50), _layout(k=100, panel_boxes=[0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 1.0])]
    assert person_bounds(rows, Rect(200, 200, 300, 300), 1280, 720) == PICTURE
    assert person_bounds([], Rect(200, 200, 300, 300), 1280, 720) == PICTURE


def test_an_inset_bounds_its_own_person_only() -> None:
    rows = [_layout(inset_boxes=[0.75, 0.5, 1.0, 1.0])]
    assert person_bounds(rows, Rect(1050, 550, 1150, 650), 1280, 720) == Rect(960, 360, 1280, 720)
    assert person_bounds(rows, Rect(200, 200, 300, 300), 1280, 720) == PICTURE


# ------------------------------------------------------------------ sound

RATE = 48_000
STATES = ("speak", "listen", "idle", "both", "discard")


@st.composite
def _timelines(draw: st.DrawFn) -> list[Run]:
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    edges = np.concatenate([[0], np.cumsum(lengths)]) / 25
    return [Run(float(a), float(b), draw(st.sampled_from(STATES))) for a, b in pairwise(edges)]


@given(_timelines(), st.integers(0, 200), st.integers(1, 100), st.sampled_from([0.0, 0.01, 0.02]))
def test_nobody_elses_sound_is_ever_heard(runs: list[Run], first: int, n_frames: int, fade_s: float) -> None:
    start_s, n = first / 25, n_frames * 1920
    gains = {r: role_gain(runs, r, start_s, n, RATE, fade_s) for r in ("speak", "listen")}
    index = np.arange(n)
    for run in runs:
        inside = (index >= round((run.start_s - start_s) * RATE)) & (index < round((run.end_s - start_s) * RATE))
        if run.state in ("listen", "discard"):
            assert not gains["speak"][inside].any()
        if run.state in ("speak", "discard"):
            assert not gains["listen"][inside].any()
        middle = inside & (index >= round((run.start_s - start_s + fade_s) * RATE))
        middle &= index < round((run.end_s - start_s - fade_s) * RATE)
        if run.state in ("speak", "idle", "both"):
            assert (gains["speak"][middle] == 1).all()
        if run.state in ("listen", "idle", "both"):
            assert (gains["listen"][middle] == 1).all()
    outside = index >= round((runs[-1].end_s - start_s) * RATE)
    assert not gains["speak"][outside].any() and not gains["listen"][outside].any()


@given(_timelines(), st.integers(0, 100), st.integers(2, 60), st.integers(1, 59))
def test_a_clip_cut_in_two_sounds_the_same(runs: list[Run], first: int, n_frames: int, cut: int) -> None:
    cut = min(cut, n_frames - 1)
    whole = role_gain(runs, "speak", first / 25, n_frames * 1920, RATE, 0.015)
    a = role_gain(runs, "speak", first / 25, cut * 1920, RATE, 0.015)
    b = role_gain(runs, "speak", (first + cut) / 25, (n_frames - cut) * 1920, RATE, 0.015)
    assert np.allclose(np.concatenate([a, b]), whole, atol=1e-5)


def test_joints_fade_and_ends_do_not() -> None:
    runs = [Run(0.0, 1.0, "speak"), Run(1.0, 2.0, "listen"), Run(2.0, 3.0, "idle")]
    gain = role_gain(runs, "speak", 0.0, 3 * RATE, RATE, 0.015)
    assert gain[0] == gain[-1] == 1  # the sound goes on beyond the track
    assert np.abs(np.diff(gain)).max() < 0.003  # a raised cosine over 720 samples
    assert 0.4 < gain[RATE - 360] < 0.6 and not gain[RATE : 2 * RATE].any()


def test_levels() -> None:
    assert level_db(np.zeros(10, np.float32)) is None
    assert level_db(np.full(10, 0.1, np.float32)) == pytest.approx(-20)


def test_offsets_are_corrected_with_care() -> None:
    assert offset_shift_s(480, 0.9, True, 0.4, 600) == pytest.approx(0.48)
    for args in ((480, 0.9, False), (None, 0.9, True), (480, None, True), (480, 0.3, True), (700, 0.9, True)):
        assert offset_shift_s(*args, 0.4, 600) == 0.0
    assert offset_shift_s(-120, 0.9, True, 0.4, 600, 160) == 0.0  # too little to be worth a doubt
    assert offset_shift_s(-200, 0.9, True, 0.4, 600, 160) == pytest.approx(-0.2)
