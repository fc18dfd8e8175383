"""The landmarker against MediaPipe's own task on real crops, and its steps by themselves."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from footage import every_nth
from hypothesis import given
from hypothesis import strategies as st
from speech_media import need

from annotators.face.blaze import BlazeReader, Region, anchor_centres
from annotators.face.boxes import crop_box, cut_square
from annotators.face.face_geometry import FaceGeometry, canonical_face
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import BLENDSHAPES, head_pose
from annotators.models.mediapipe_runtime import Task, local_options, quiet_stderr, vision
from annotators.models.weights import resolve
from annotators.protocols import Box, FaceMesh, Image

TASK = FaceLandmarker.weights[0]


@pytest.fixture(scope="module")
def task() -> Iterator[Task]:
    """MediaPipe's task with the settings that the landmarker stands for."""
    need(TASK)
    options = vision().FaceLandmarkerOptions(
        base_options=local_options(resolve(TASK)), running_mode=vision().RunningMode.IMAGE, num_faces=2,
        min_face_detection_confidence=0.3, min_face_presence_confidence=0.3,
        output_face_blendshapes=True, output_facial_transformation_matrixes=True,
    )  # fmt: skip
    with quiet_stderr():
        opened = Task(vision().FaceLandmarker.create_from_options(options))
        opened.detect(np.zeros((CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def metadata() -> bytes:
    """What the task says of the canonical face."""
    need(TASK)
    with zipfile.ZipFile(resolve(TASK)) as bundle:
        return bundle.read("geometry_pipeline_metadata_landmarks.binarypb")


def by_task(task: Task, crop: Image) -> FaceMesh | None:
    """Return what the task says of the face nearest to the crop's middle."""
    found, width = task.detect(crop), crop.shape[1]
    meshes = []
    for points, shapes, matrix in zip(
        found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes, strict=True
    ):
        at = np.array([(p.x, p.y, p.z) for p in points], np.float32) * width
        assert tuple(shape.category_name for shape in shapes) == BLENDSHAPES
        offset = np.abs((at[:, :2].min(axis=0) + at[:, :2].max(axis=0) - width) / 2).max()
        scores = np.array([shape.score for shape in shapes], np.float32)
        if offset <= width / 4:
            meshes.append((float(offset), FaceMesh(at, scores, *head_pose(np.asarray(matrix)))))
    return min(meshes, key=lambda mesh: mesh[0])[1] if meshes else None


def crops(media: Path) -> Iterator[Image]:
    """Yield crops of the faces of a few clips: as the scan makes them, off the middle, wide, and of other sizes."""
    need(*FaceDetector.weights)
    with FaceDetector() as detector:
        for name in ("talk_woman_studio", "expressive_woman_silent", "drawn_character_silent", "split_screen"):
            for frame in every_nth(media / f"{name}.mp4", 15, 6):
                for face in detector.detect(frame):
                    square = crop_box(face, 1.7)
                    off = Box(square.x + 0.3 * square.w, square.y - 0.1 * square.w, square.w, square.h)
                    wide = crop_box(face, 5.0)
                    for box, size_px in ((square, 256), (off, 256), (wide, 256), (square, 192), (square, 384)):
                        yield cut_square(frame, box, size_px)


def test_the_meshes_are_those_of_the_task(media: Path, landmarker: FaceLandmarker, task: Task) -> None:
    moved, reshaped, turned, none = [], [], [], 0
    for crop in crops(media):
        mine, theirs = landmarker.landmarks(crop), by_task(task, crop)
        assert (mine is None) == (theirs is None)
        if mine is None or theirs is None:
            none += 1
            continue
        moved.append(np.abs(mine.points - theirs.points).max() * CROP_SIZE_PX / len(crop))
        reshaped.append(np.abs(mine.blendshapes - theirs.blendshapes).max())
        turned += [mine.yaw_deg - theirs.yaw_deg, mine.pitch_deg - theirs.pitch_deg, mine.roll_deg - theirs.roll_deg]
    assert len(moved) > 80 and none > 5
    assert np.median(moved) < 0.02 and max(moved) < 0.5  # pixels of a crop of 256
    assert np.median(reshaped) < 0.001 and max(reshaped) < 0.02
    assert np.abs(turned).max() < 0.2


def test_noise_has_no_face(landmarker: FaceLandmarker, task: Task) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
    assert landmarker.landmarks(noise) is None and by_task(task, noise) is None


def test_a_closed_landmarker_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    need(TASK)
    closed = FaceLandmarker()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        closed.landmarks(np.zeros((CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))
    assert capfd.readouterr().err == ""


def test_pictures_of_another_kind_are_refused(landmarker: FaceLandmarker) -> None:
    for wrong in (np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8), np.zeros((0, 0, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            landmarker.landmarks(wrong)  # type: ignore[arg-type]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 2), st.floats(0.1, 2), st.floats(-3, 3))
def test_a_region_keeps_its_middle_sides_and_turn(x: float, y: float, w: float, h: float, angle: float) -> None:
    to_picture = Region(x, y, w, h, angle).to_picture()
    assert to_picture @ (0.5, 0.5, 1) == pytest.approx((x, y))
    assert np.linalg.norm(to_picture[:, :2], axis=0) == pytest.approx((w, h))
    assert np.arctan2(to_picture[1, 0], to_picture[0, 0]) == pytest.approx(angle)


def answers(*boxes: tuple[int, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs of the detector in which some anchors say: (anchor, logit, middle's x, side), in pixels."""
    regressors, logits = np.zeros((896, 16), np.float32), np.full(896, -20, np.float32)
    for anchor, logit, x, side in boxes:
        logits[anchor] = logit
        regressors[anchor, :4] = x - anchor_centres()[anchor, 0], 0, side, side
        regressors[anchor, 4:8] = -5, 0, 5, 0
    return regressors, logits


def test_boxes_of_one_face_are_averaged_by_their_scores() -> None:
    reader = BlazeReader(0.3)
    weak, strong = -0.5, 3.0
    (one,) = reader.regions(*answers((400, weak, 60, 40), (402, strong, 68, 40), (404, -1.0, 90, 40)), at_most=2)
    scores = 1 / (1 + np.exp(-np.array([weak, strong])))
    assert one.x * 128 == pytest.approx(scores @ (60, 68) / scores.sum(), rel=1e-5)
    assert (one.w, one.h) == pytest.approx((1.5 * 40 / 128,) * 2)
    assert one.angle == 0


def test_faces_come_best_first_and_no_more_than_asked_for() -> None:
    far_apart = answers((400, 1.0, 20, 30), (402, 3.0, 60, 30), (404, 2.0, 100, 30))
    assert [round(r.x * 128) for r in BlazeReader(0.3).regions(*far_apart, at_most=9)] == [60, 100, 20]
    assert [round(r.x * 128) for r in BlazeReader(0.3).regions(*far_apart, at_most=2)] == [60, 100]
    assert BlazeReader(1.0).regions(*far_apart, at_most=2) == []
    assert len(BlazeReader(0.0).regions(*far_apart, at_most=2)) == 2


@given(st.floats(-60, 60), st.floats(-40, 40), st.floats(-60, 60), st.floats(0.2, 1))
def test_a_turned_face_before_the_camera_is_read_back(
    metadata: bytes, yaw: float, pitch: float, roll: float, size: float
) -> None:
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, -pitch, -roll])) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    face, _ = canonical_face(metadata)
    # At distance 1, where the camera sees `span`; the face is about 20 cm high, and `size` of the picture.
    span = 2 * np.tan(np.radians(63) / 2)
    x, y, z = ((face - face.mean(axis=0)) @ (about_y @ about_x @ about_z).T * size * span / 20).T
    points = np.stack([0.5 + x / (1 - z) / span, 0.5 - y / (1 - z) / span, -z / span], axis=1)
    irises = np.ones((10, 3))
    read = FaceGeometry(metadata).rotation(np.concatenate([points, irises]).astype(np.float32))
    assert head_pose(read) == pytest.approx((yaw, pitch, roll), abs=0.01)
