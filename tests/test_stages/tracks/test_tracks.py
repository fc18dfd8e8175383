"""Following and joining faces: contracts of the pure association, on synthetic boxes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from annotators.protocols import Box, FaceBox
from stages.scan.jumps import is_candidate
from stages.scan.people import Portrait, divided, turns
from stages.scan.tracker import Followed, associate, duplicate_faces, iou, near
from stages.tracks.join import Piece, join, shot_of
from stages.tracks.tracks import _cuts

boxes = st.builds(Box, st.floats(0, 1000), st.floats(0, 600), st.floats(20, 300), st.floats(20, 300))


def followed(number: int, box: Box, meshed: int = 10) -> Followed:
    return Followed(number, box, 0.9, meshed=meshed)


def found(box: Box) -> FaceBox:
    return FaceBox(box.x, box.y, box.w, box.h, 0.8)


@given(boxes, boxes)
def test_likeness_is_symmetric_and_bounded(a: Box, b: Box) -> None:
    assert 0 <= iou(a, b) <= 1 + 1e-9 and abs(iou(a, b) - iou(b, a)) < 1e-9
    assert 0 <= near(a, b) <= 1 and abs(near(a, b) - near(b, a)) < 1e-9
    assert near(a, a) == 1


@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6))
def test_every_detection_is_used_once(faces: list[Box], detections: list[Box]) -> None:
    people = [followed(i, b) for i, b in enumerate(faces)]
    pairs, new = associate(people, [found(b) for b in detections])
    assert len(pairs) + len(new) == len(detections)
    assert len({f.number for f, _ in pairs}) == len(pairs)


def test_two_people_side_by_side_keep_their_numbers() -> None:
    left, right = Box(100, 100, 80, 80), Box(400, 100, 80, 80)
    people = [followed(0, left), followed(1, right)]
    pairs, new = associate(people, [found(Box(408, 102, 80, 80)), found(Box(95, 104, 82, 80))])
    assert {(f.number, d.x) for f, d in pairs} == {(1, 408), (0, 95)} and not new


def test_a_face_followed_twice_keeps_the_older_follower() -> None:
    box = Box(100, 100, 80, 80)
    assert duplicate_faces([followed(0, box, 50), followed(1, Box(102, 100, 80, 80), 2)]) == {1}


def piece(name: str, shot: int, first: int, last: int, x: float) -> Piece:
    box = Box(x, 100, 80, 80)
    return Piece(name, shot, first, last, box, box, last - first + 1)


def test_pieces_join_across_windows_and_short_gaps_but_not_across_cuts() -> None:
    pieces = [
        piece("w0-0", 0, 0, 99, 100), piece("w1-0", 0, 100, 199, 104), piece("w1-1", 0, 210, 250, 104),
        piece("w1-2", 1, 251, 300, 104), piece("w0-1", 0, 0, 99, 500),
    ]  # fmt: skip
    groups = [[p.tracklet_id for p in g] for g in join(pieces, 15)]
    assert groups == [["w0-0", "w1-0", "w1-1"], ["w0-1"], ["w1-2"]]
    assert [[p.tracklet_id for p in g] for g in join(pieces[::-1], 15)] == groups


def test_pieces_of_different_people_are_not_joined() -> None:
    pieces = [piece("a", 0, 0, 99, 100), piece("b", 0, 100, 199, 100), piece("c", 0, 105, 199, 110)]
    assert [[p.tracklet_id for p in g] for g in join(pieces, 15)] == [["a", "b"], ["c"]]
    groups = join(pieces, 15, others=lambda before, after: (before, after) == ("a", "b"))
    assert [[p.tracklet_id for p in g] for g in groups] == [["a", "c"], ["b"]]


def test_cuts_lie_apart_but_may_lie_at_the_ends_of_the_file() -> None:
    rows = [{"t_s": s, "frame": n, "score": score, "mixed_s": 0.04 * (n == 3)} for n, (s, score) in enumerate(
        [(0.0, 9.0), (0.04, 50.0), (4.0, 20.0), (4.1, 30.0), (9.96, 40.0), (10.0, 9.0)]
    )]  # fmt: skip
    assert _cuts(pa.Table.from_pylist(rows), [], 10.0, 0.2) == [(0.04, 1, 0.0), (4.1, 3, 0.04), (9.96, 4, 0.0)]


PEOPLE = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]


def portrait(k: int, person: int, seed: int = 0, spread: float = 0.5) -> Portrait:
    """A vector of length 1 near a person's own; those of two people are about 1.4 apart."""
    vector = PEOPLE[person] + spread * np.random.default_rng(seed + k).normal(size=64) / 8.0
    return Portrait(k, np.asarray(vector / np.linalg.norm(vector), np.float32))


def test_a_tracklet_that_goes_on_to_another_person_is_divided_where_the_face_moves_most() -> None:
    series = [portrait(25 * i, person) for i, person in enumerate([0, 0, 0, 1, 1, 1])]
    steps = dict.fromkeys(range(150), 0.01) | {61: 0.6, 20: 0.9}
    assert turns(series, steps) == [61]
    assert turns(series, {}) == [75]


def test_one_odd_portrait_does_not_divide_a_tracklet() -> None:
    series = [portrait(25 * i, person) for i, person in enumerate([0, 0, 1, 0, 0])]
    assert turns(series, {}) == []
    assert turns([portrait(25 * i, 0) for i in range(8)], dict.fromkeys(range(200), 0.3)) == []


def test_a_single_portrait_of_another_person_counts_where_the_face_jumps() -> None:
    series = [portrait(0, 0), portrait(25, 0), portrait(50, 1)]
    assert turns(series, {}) == []
    assert turns(series, dict.fromkeys(range(60), 0.01) | {33: 0.4}) == [33]


def test_rows_after_a_turn_get_a_tracklet_of_their_own() -> None:
    names = [divided(name, k, {"a": [10, 30]}) for name in ("a", "b") for k in (0, 10, 20, 30)]
    assert names == ["a", "ap1", "ap1", "ap2", "b", "b", "b", "b"]


def test_shot_of_a_time() -> None:
    assert [shot_of(t, [0.0, 4.0, 8.0]) for t in (0.0, 3.99, 4.0, 9.0)] == [0, 0, 1, 2]


def test_a_change_must_stand_out_to_be_a_jump() -> None:
    assert is_candidate(5.8, [1.4, 1.3, 1.0, 1.4]) and not is_candidate(17.0, [9.0, 12.0, 8.0, 10.0])
    assert not is_candidate(2.0, [0.4, 0.4, 0.4, 0.4])
    assert not is_candidate(9.0, [7.0, 0.0, 0.0, 5.0])  # every other frame is repeated
