"""Following and joining faces: contracts of the pure association, on synthetic boxes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from annotators.protocols import Box, FaceBox
from stages.scan_jumps import is_candidate
from stages.scan_tracker import Followed, associate, doubles, iou, near
from stages.tracks_join import Piece, join, shot_of

boxes = st.builds(Box, st.floats(0, 1000), st.floats(0, 600), st.floats(20, 300), st.floats(20, 300))


def followed(number: int, box: Box, meshed: int = 10) -> Followed:
    return Followed(number, box, 0.9, 0, meshed=meshed)


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
    assert doubles([followed(0, box, 50), followed(1, Box(102, 100, 80, 80), 2)]) == {1}


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


def test_shot_of_a_time() -> None:
    assert [shot_of(t, [0.0, 4.0, 8.0]) for t in (0.0, 3.99, 4.0, 9.0)] == [0, 0, 1, 2]


def test_a_change_must_stand_out_to_be_a_jump() -> None:
    assert is_candidate(5.8, [1.4, 1.3, 1.0, 1.4]) and not is_candidate(17.0, [9.0, 12.0, 8.0, 10.0])
    assert not is_candidate(2.0, [0.4, 0.4, 0.4, 0.4])
    assert not is_candidate(9.0, [7.0, 0.0, 0.0, 5.0])  # every other frame is repeated
