"""Crop geometry, bounds, sound gains and tars: properties that hold for every input."""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import row

from schemas import tables as t
from stages.packing_audio import Run, level_db, offset_shift_s, role_gain
from stages.packing_bounds import person_bounds
from stages.packing_crop import CropShape, Rect, face_union, output_size, person_crop
from stages.packing_tar import clip_tar

PICTURE = Rect(0, 0, 1280, 720)


def _box(x: float, y: float, w: float, h: float) -> np.ndarray:
    return np.array([[x, y, w, h]], np.float64)


# ------------------------------------------------------------------ crops


_faces = st.lists(
    st.tuples(st.floats(0, 1100), st.floats(0, 600), st.floats(20, 180), st.floats(20, 120)), min_size=1, max_size=8
)
_others = st.lists(st.tuples(st.floats(0, 1200), st.floats(0, 650), st.floats(20, 80), st.floats(20, 70)), max_size=3)


@given(_faces, _others, st.sampled_from([0.75, 1.0, 16 / 9]))
def test_a_crop_holds_the_face_inside_the_picture(
    faces: list[tuple[float, ...]], others: list[tuple[float, ...]], aspect: float
) -> None:
    boxes = np.array(faces)
    rects = [Rect(x, y, x + w, y + h) for x, y, w, h in others]
    crop = person_crop(boxes, rects, PICTURE, CropShape(aspect))
    area = Rect(crop.x, crop.y, crop.x + crop.w, crop.y + crop.h)
    assert PICTURE.holds(area)
    face = face_union(boxes)
    assert Rect(area.x0 - 1, area.y0 - 1, area.x1 + 1, area.y1 + 1).holds(face)  # whole pixels
    assert crop.other_faces == sum(r.meets(area) for r in rects)
    if not rects and face.w < 700 * aspect and face.h < 700 / max(1, aspect / 1.7):
        assert crop.w == pytest.approx(crop.h * aspect, abs=2)


def test_the_default_crop_is_head_and_shoulders() -> None:
    crop = person_crop(_box(600, 200, 100, 100), [], PICTURE, CropShape())
    assert (crop.x, crop.y, crop.w, crop.h) == (475, 110, 350, 350)


def test_a_face_at_the_edge_moves_the_crop_not_the_aspect() -> None:
    crop = person_crop(_box(1180, 10, 100, 100), [], PICTURE, CropShape())
    assert (crop.x, crop.y, crop.w, crop.h) == (930, 0, 350, 350)


def test_a_neighbour_is_left_out_where_there_is_room() -> None:
    other = Rect(760, 200, 860, 300)
    crop = person_crop(_box(600, 200, 100, 100), [other], PICTURE, CropShape())
    assert crop.other_faces == 0 and crop.x + crop.w <= 730 and crop.w == crop.h == 350
    below = person_crop(_box(600, 100, 100, 100), [Rect(600, 320, 700, 420)], PICTURE, CropShape())
    assert below.other_faces == 0 and below.y + below.h <= 260


def test_a_neighbour_in_front_is_counted() -> None:
    crop = person_crop(_box(600, 200, 100, 100), [Rect(650, 250, 750, 350)], PICTURE, CropShape())
    assert crop.other_faces == 1 and crop.w == crop.h == 350


def test_a_face_that_walks_through_the_picture_keeps_all_of_its_way() -> None:
    boxes = np.array([[x, 300.0, 60.0, 60.0] for x in range(20, 1200, 40)])
    crop = person_crop(boxes, [], PICTURE, CropShape())
    assert (crop.x, crop.w, crop.h) == (20, 1220, 720)  # a square cannot hold it


def test_a_crop_needs_a_face() -> None:
    with pytest.raises(ValueError, match="no face box"):
        person_crop(np.zeros((0, 4)), [], PICTURE, CropShape())


@given(st.integers(8, 4000), st.integers(8, 4000), st.integers(32, 1024), st.floats(1, 4))
def test_sizes_are_even_and_never_enlarge_too_much(w: int, h: int, short: int, upscale: float) -> None:
    width, height = output_size(w, h, short, upscale)
    assert width % 2 == height % 2 == 0
    assert min(width, height) <= short + 1
    assert width <= w * upscale + 1 and height <= h * upscale + 1
    assert abs(width - w * min(short / min(w, h), upscale)) <= 1


# ------------------------------------------------------------------ bounds


def _layout(**values: object) -> dict[str, object]:
    return row(t.LAYOUT, **{"panel_boxes": [0.0, 0.0, 1.0, 1.0], **values})


def test_bars_and_panels_bound_a_crop() -> None:
    split = [_layout(bar_top=0.1, panel_boxes=[0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 1.0], k=k) for k in (0, 50, 100)]
    left = person_bounds(split, Rect(200, 200, 300, 300), 1280, 720)
    assert left == Rect(0, 72, 640, 720)
    assert person_bounds(split, Rect(900, 200, 1000, 300), 1280, 720) == Rect(640, 72, 1280, 720)
    crop = person_crop(_box(520, 200, 100, 100), [], left, CropShape())
    assert crop.x + crop.w <= 640 and crop.y >= 72


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


# ------------------------------------------------------------------ tars


def test_tars_depend_on_their_members_alone() -> None:
    one = clip_tar({"a.mp4": b"1", "a.speak.flac": b"22"})
    assert one == clip_tar({"a.speak.flac": b"22", "a.mp4": b"1"})
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        infos = tar.getmembers()
    assert [(i.name, i.size, i.mtime, i.uid, i.gid, i.uname) for i in infos] == [
        ("a.mp4", 1, 0, 0, 0, ""), ("a.speak.flac", 2, 0, 0, 0, "")
    ]  # fmt: skip
