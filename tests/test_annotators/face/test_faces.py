"""Face boxes and meshes on real footage; geometry as properties."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import every_nth
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import need

from annotators.face.boxes import crop_box, cut_square, merge, overlap, tile_grid, whole_in_tile
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import (
    BLENDSHAPES,
    eye_aspect,
    five_points,
    head_pose,
    mesh_box,
    mouth_opening,
    to_frame,
)
from annotators.models.mediapipe_runtime import local_options
from annotators.protocols import Box, FaceBox, FaceMesh, Image


@pytest.fixture(scope="module")
def detector() -> Iterator[FaceDetector]:
    need(*FaceDetector.weights)
    with FaceDetector() as opened:
        yield opened


@pytest.fixture(scope="module")
def crop(media: Path, detector: FaceDetector) -> Image:
    frame = every_nth(media / "talk_woman_studio.mp4", 10, 1)[0]
    return cut_square(frame, crop_box(detector.detect(frame)[0]), CROP_SIZE_PX)


@pytest.fixture(scope="module")
def meshes(media: Path, detector: FaceDetector, landmarker: FaceLandmarker) -> list[FaceMesh]:
    """Meshes of a few people with turned, raised and lowered heads."""
    found = []
    for name in ("talk_woman_studio", "expressive_woman_silent", "drawn_character_silent", "talk_woman_garden"):
        for frame in every_nth(media / f"{name}.mp4", 15, 6):
            face = detector.detect(frame)[0]
            mesh = landmarker.landmarks(cut_square(frame, crop_box(face), CROP_SIZE_PX))
            assert mesh is not None
            found.append(mesh)
    return found


@pytest.mark.parametrize(
    ("clip", "people"),
    [("split_screen", 2), ("two_talkers", 2), ("interview_cuts", 1), ("defect_tiny_face", 1), ("listen_woman_red", 1)],
)
def test_everybody_in_view_is_found_once(media: Path, detector: FaceDetector, clip: str, people: int) -> None:
    for frame in every_nth(media / f"{clip}.mp4", 20, 4):
        boxes = detector.detect(frame)
        assert len(boxes) == people
        assert boxes == sorted(boxes, key=lambda box: -box.score)
        if people == 2:
            left, right = sorted(box.x + box.w / 2 for box in boxes)
            assert left < frame.shape[1] / 2 < right


def test_tiles_find_a_face_that_is_small_in_the_frame(media: Path) -> None:
    need(*FaceDetector.weights)
    frame = every_nth(media / "talk_woman_garden.mp4", 1, 1)[0]
    person = cv2.resize(frame, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)  # face of 40 px
    height, width = person.shape[:2]
    top, left = (1080 - height) // 2, (1920 - width) // 2
    margins = (top, 1080 - height - top, left, 1920 - width - left)
    wide = np.asarray(cv2.copyMakeBorder(person, *margins, cv2.BORDER_REPLICATE), np.uint8)
    with FaceDetector() as whole, FaceDetector(tiles=3) as tiled:
        assert whole.detect(wide) == []
        boxes = tiled.detect(wide)
    assert len(boxes) == 1
    assert left < boxes[0].x < left + width and 25 < boxes[0].w < 70


def test_a_plain_picture_has_no_face(detector: FaceDetector, landmarker: FaceLandmarker) -> None:
    assert detector.detect(np.full((360, 640, 3), 90, np.uint8)) == []
    assert landmarker.landmarks(np.full((256, 256, 3), 90, np.uint8)) is None


def test_the_same_crop_gives_the_same_mesh(crop: Image, landmarker: FaceLandmarker) -> None:
    first = landmarker.landmarks(crop)
    landmarker.landmarks(np.ascontiguousarray(crop[::-1]))  # what came between must leave no trace
    second = landmarker.landmarks(crop)
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.blendshapes, second.blendshapes)
    assert first.points.shape == (478, 3) and first.blendshapes.shape == (52,) == (len(BLENDSHAPES),)


def test_a_mirrored_head_turns_the_other_way(media: Path, detector: FaceDetector, landmarker: FaceLandmarker) -> None:
    for frame in every_nth(media / "expressive_woman_silent.mp4", 12, 4):
        box = crop_box(detector.detect(frame)[0])
        crop = cut_square(frame, box, CROP_SIZE_PX)
        seen, mirrored = landmarker.landmarks(crop), landmarker.landmarks(crop[:, ::-1])
        assert seen is not None and mirrored is not None
        assert mirrored.yaw_deg == pytest.approx(-seen.yaw_deg, abs=4)
        assert mirrored.pitch_deg == pytest.approx(seen.pitch_deg, abs=4)
        assert mirrored.roll_deg == pytest.approx(-seen.roll_deg, abs=4)


@pytest.mark.parametrize("turn_deg", [-25, 25])
def test_a_crop_turned_clockwise_has_more_roll(crop: Image, landmarker: FaceLandmarker, turn_deg: int) -> None:
    middle = CROP_SIZE_PX / 2
    clockwise = cv2.getRotationMatrix2D((middle, middle), -turn_deg, 1.0)  # OpenCV turns the other way
    turned = landmarker.landmarks(np.asarray(cv2.warpAffine(crop, clockwise, crop.shape[1::-1]), np.uint8))
    straight = landmarker.landmarks(crop)
    assert turned is not None and straight is not None
    assert turned.roll_deg - straight.roll_deg == pytest.approx(turn_deg, abs=6)


def test_yaw_and_pitch_follow_the_nose(meshes: list[FaceMesh]) -> None:
    # Seen in the image, a nose moves against the ears where the head turns: right of them, or above them.
    ears = np.array([mesh.points[[234, 454], :2].mean(axis=0) for mesh in meshes])
    nose = np.array([mesh.points[1, :2] for mesh in meshes])
    size = np.array([mesh_box(mesh.points).h for mesh in meshes])
    right, up = (nose[:, 0] - ears[:, 0]) / size, (ears[:, 1] - nose[:, 1]) / size
    yaw = np.array([mesh.yaw_deg for mesh in meshes])
    pitch = np.array([mesh.pitch_deg for mesh in meshes])
    assert np.ptp(yaw) > 15 and np.ptp(pitch) > 15
    assert np.corrcoef(yaw, right)[0, 1] > 0.9
    assert np.corrcoef(pitch, up)[0, 1] > 0.8


def test_open_mouths_and_shut_eyes_agree_with_the_blendshapes(meshes: list[FaceMesh]) -> None:
    opening = [mouth_opening(mesh.points) for mesh in meshes]
    shapes = np.array([mesh.blendshapes for mesh in meshes])
    # Lips part when the jaw drops and when they are drawn up or down over the teeth.
    parted = ("jawOpen", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight")
    lips = shapes[:, [BLENDSHAPES.index(name) for name in parted]] @ [1, 0.25, 0.25, 0.25, 0.25]
    eye = [eye_aspect(mesh.points)[0] for mesh in meshes]
    blink = shapes[:, BLENDSHAPES.index("eyeBlinkLeft")]
    assert np.corrcoef(opening, lips)[0, 1] > 0.8
    assert np.corrcoef(eye, blink)[0, 1] < -0.6


def test_alignment_points_lie_where_they_should(meshes: list[FaceMesh]) -> None:
    for mesh in meshes:
        left_eye, right_eye, nose, left_mouth, right_mouth = five_points(mesh.points)
        assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_mesh_lands_on_the_face_in_the_frame(media: Path, detector: FaceDetector, landmarker: FaceLandmarker) -> None:
    frame = every_nth(media / "split_screen.mp4", 10, 1)[0]
    for face in detector.detect(frame):
        for scale in (1.6, 2.2):
            box = crop_box(face, scale)
            mesh = landmarker.landmarks(cut_square(frame, box, CROP_SIZE_PX))
            assert mesh is not None
            assert overlap(mesh_box(to_frame(mesh.points, box, CROP_SIZE_PX)), face) > 0.8


def test_models_close_cleanly_and_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    need(*FaceDetector.weights, *FaceLandmarker.weights)
    before = set(threading.enumerate())
    detector, landmarker = FaceDetector(), FaceLandmarker()
    detector.detect(np.zeros((64, 64, 3), np.uint8))
    for model in (detector, landmarker):
        model.close()
        model.close()
    assert set(threading.enumerate()) == before
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError, match="closed"):
        detector.detect(np.zeros((64, 64, 3), np.uint8))


def test_wrong_pictures_are_refused(detector: FaceDetector, landmarker: FaceLandmarker) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(np.zeros((64, 64, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="square"):
        landmarker.landmarks(np.zeros((64, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="tiles"):
        FaceDetector(tiles=0)


def test_no_usage_metrics_can_be_sent(tmp_path: Path) -> None:
    assert local_options(tmp_path / "model").to_ctypes().ca_bundle_path == os.devnull.encode()


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    y, p, r = np.radians([yaw, -pitch, -roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


@given(st.floats(-170, 170), st.floats(-80, 80), st.floats(-170, 170), st.floats(0.1, 10))
def test_head_pose_reads_back_its_angles(yaw: float, pitch: float, roll: float, scale: float) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation(yaw, pitch, roll)
    assert head_pose(matrix) == pytest.approx((yaw, pitch, roll), abs=1e-6)


def test_head_pose_refuses_a_matrix_without_rotation() -> None:
    with pytest.raises(ValueError, match="determinant"):
        head_pose(np.zeros((4, 4)))


boxes = st.builds(
    FaceBox, *[st.floats(0, 100)] * 2, *[st.floats(1, 50)] * 2, score=st.floats(0, 1, allow_subnormal=False)
)


@given(st.lists(boxes, max_size=8))
def test_merging_leaves_no_two_boxes_of_one_face_and_drops_none_alone(found: list[FaceBox]) -> None:
    kept = merge(found)
    assert all(overlap(a, b) <= 0.5 for a in kept for b in kept if a is not b)
    assert all(any(box is other or overlap(box, other) > 0.5 for other in kept) for box in found)


@given(st.integers(64, 4000), st.integers(64, 4000), st.integers(1, 4))
def test_tiles_cover_the_frame(width: int, height: int, per_side: int) -> None:
    tiles = tile_grid(width, height, per_side)
    assert len(tiles) == per_side**2
    assert min(x for x, *_ in tiles) == 0 == min(y for _, y, *_ in tiles)
    assert max(x + w for x, _, w, _ in tiles) == width and max(y + h for _, y, _, h in tiles) == height


def test_a_face_cut_by_an_inner_edge_is_left_to_the_next_tile() -> None:
    tile, image = (0, 0, 100, 100), (175, 175)
    assert whole_in_tile(Box(0, 0, 20, 20), tile, image)  # the frame's own edge cuts nothing
    assert not whole_in_tile(Box(85, 10, 20, 20), tile, image)
    assert not whole_in_tile(Box(10, 10, 40, 40), tile, image)


@given(st.floats(-20, 60), st.floats(-20, 60), st.floats(20, 200), st.sampled_from([32, 64, 96]))
@settings(max_examples=50)
def test_a_crop_shows_each_place_where_the_mapping_says(x: float, y: float, side: float, size_px: int) -> None:
    columns = np.broadcast_to(np.arange(128, dtype=np.uint8), (128, 128))
    picture = np.stack([columns, columns.T, np.full_like(columns, 255)], axis=-1)
    crop = cut_square(picture, Box(x, y, side, side), size_px).astype(float)
    step = side / size_px
    centres = (np.arange(size_px) + 0.5) * step
    inside_x = (x + centres > 2 * step + 1) & (x + centres < 126 - 2 * step)
    inside_y = (y + centres > 2 * step + 1) & (y + centres < 126 - 2 * step)
    seen = crop[np.ix_(inside_y, inside_x)]
    # A pixel's value is its index, and its centre lies half a pixel further.
    assert np.abs(seen[..., 0] - (x + centres - 0.5)[inside_x]).max(initial=0) < 1 + step / 4
    assert np.abs(seen[..., 1] - (y + centres - 0.5)[inside_y][:, None]).max(initial=0) < 1 + step / 4


def test_a_crop_outside_the_picture_is_black() -> None:
    picture = np.full((50, 50, 3), 255, np.uint8)
    assert cut_square(picture, Box(-40, -40, 20, 20), 16).max() == 0
    assert cut_square(picture, Box(60, 10, 20, 20), 16).max() == 0
