"""Faces that are followed by their landmarks: where they are looked at next, and that they are found there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from footage import every_nth
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import need

from annotators.face.blaze import Region
from annotators.face.boxes import crop_box, cut_square
from annotators.face.faces import FaceDetector
from annotators.face.following import cut_region, next_region
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import mesh_box, to_frame
from annotators.protocols import Box, FloatArray, Image


def _face(x: float, y: float, size: float, turn: float, seed: int = 0) -> FloatArray:
    """Return 478 points in an ellipse of height `size`, turned; the outer corners of the eyes lie level in it."""
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.uniform(0, 1, 478)), rng.uniform(0, 2 * math.pi, 478)
    points = np.stack([0.4 * radius * np.cos(angle), 0.5 * radius * np.sin(angle)], axis=1)
    points[33], points[263] = (-0.25, -0.1), (0.25, -0.1)
    cos, sin = math.cos(turn), math.sin(turn)
    return (points @ np.array([(cos, sin), (-sin, cos)]) * size + (x, y)).astype(np.float32)


@given(
    st.floats(0, 1280), st.floats(0, 720), st.floats(20, 700), st.floats(-math.pi + 0.01, math.pi - 0.01),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_the_region_is_the_face_enlarged_and_level_but_for_its_grid(
    x: float, y: float, size: float, turn: float, seed: int
) -> None:
    points = _face(x, y, size, turn, seed)
    region = next_region(points)
    assert region.w == region.h
    assert abs(math.remainder(region.angle - turn, 2 * math.pi)) <= 1 / 128 + 1e-4
    (xx, xy, x0), (yx, yy, y0) = region.to_picture()
    inside = np.linalg.solve([[xx, xy], [yx, yy]], (points - (x0, y0)).T).T  # in shares of the region
    low, high = inside.min(axis=0), inside.max(axis=0)
    assert np.abs((low + high) / 2 - 0.5).max() <= 0.5 / 128 + 0.001
    assert 1.37 * (high - low).max() == pytest.approx(1, rel=2 ** (1 / 64) - 1 + 1e-3)


def test_landmarks_that_differ_by_rounding_are_looked_for_in_one_region() -> None:
    """Else the difference would be another crop's, and grow from frame to frame."""
    rng = np.random.default_rng(1)
    same = 0
    for n in range(300):
        points = _face(*rng.uniform(100, 600, 2), rng.uniform(40, 400), rng.uniform(-0.5, 0.5), n)
        other = points + rng.normal(0, 0.005, points.shape).astype(np.float32)
        same += next_region(points) == next_region(other)
    assert same > 285


def test_a_level_region_of_the_same_size_is_the_picture_itself() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
    cut = cut_region(rgb, Region(60, 45, 40, 40, 0.0), 40)
    np.testing.assert_array_equal(cut, rgb[25:65, 40:80])


def test_a_region_turned_by_a_quarter_is_turned_back() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    cut = cut_region(rgb, Region(32, 32, 64, 64, math.pi / 2), 64)
    np.testing.assert_array_equal(cut, np.rot90(rgb))


def test_shrinking_averages_and_edges_go_on() -> None:
    rgb = np.zeros((1024, 1024, 3), np.uint8)
    rgb[::2] = 200  # finer than the cut can show
    cut = cut_region(rgb, Region(512, 512, 1024, 1024, 0.0), 128)
    assert cut is not None and np.abs(cut.astype(int) - 100).max() <= 1
    beyond = cut_region(np.full((32, 32, 3), 77, np.uint8), Region(0, 0, 64, 64, 0.3), 64)
    assert beyond is not None and (beyond == 77).all()


def test_a_region_beyond_the_picture_is_none() -> None:
    assert cut_region(np.zeros((32, 32, 3), np.uint8), Region(-200, 16, 40, 40, 0.0), 64) is None


def _anew(landmarker: FaceLandmarker, rgb: Image, box: Box) -> FloatArray:
    square = crop_box(box, 1.7)
    mesh = landmarker.landmarks(cut_square(rgb, square, CROP_SIZE_PX))
    assert mesh is not None
    return to_frame(mesh.points.copy(), square, CROP_SIZE_PX)


def test_a_followed_face_is_where_a_new_look_finds_it(media: Path, landmarker: FaceLandmarker) -> None:
    """Over forty frames each, by landmarks alone: no drift, and the angles of a look at the crop."""
    need(*FaceDetector.weights)
    with FaceDetector() as detector:
        for name in ("talk_woman_garden", "expressive_woman_silent"):
            first, *frames = every_nth(media / f"{name}.mp4", 1, 40)
            points = _anew(landmarker, first, detector.detect(first)[0])
            off, turned = [], []
            for rgb in frames:
                box = mesh_box(points)
                square = crop_box(box, 1.7)
                mesh = landmarker.follow(rgb, square, points)
                fresh = landmarker.landmarks(cut_square(rgb, square, CROP_SIZE_PX))
                assert mesh is not None and fresh is not None
                gap = mesh.points - to_frame(fresh.points.copy(), square, CROP_SIZE_PX)
                off.append(float(np.linalg.norm(gap[:, :2], axis=1).mean()) / box.h)
                turned.append(abs(mesh.yaw_deg - fresh.yaw_deg))
                points = mesh.points
            assert np.median(off) < 0.015 and max(off) < 0.04
            assert np.median(turned) < 3


def test_a_face_that_is_gone_is_not_followed(media: Path, landmarker: FaceLandmarker) -> None:
    need(*FaceDetector.weights)
    rgb = every_nth(media / "talk_woman_garden.mp4", 1, 1)[0]
    with FaceDetector() as detector:
        box = detector.detect(rgb)[0]
    points = _anew(landmarker, rgb, box)
    assert landmarker.follow(rgb, crop_box(box), points) is not None
    blank = np.full_like(rgb, 90)
    assert landmarker.follow(blank, crop_box(box), points) is None
    assert landmarker.follow(rgb, crop_box(box), points + np.float32(10 * rgb.shape[1])) is None
