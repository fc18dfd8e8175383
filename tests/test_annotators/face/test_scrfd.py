"""Faces by SCRFD, on a small network that finds red squares: places, sizes, tiles, errors, and how it is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from face_networks import arcface, scrfd
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.face.boxes import overlap
from annotators.face.scrfd import ScrfdDetector
from annotators.models.weights import WeightsNotFound
from annotators.protocols import Box, Image
from stages.scan.scan import ScanSettings


def picture(width: int, height: int, *faces: Box, colour: tuple[int, int, int] = (255, 0, 0)) -> Image:
    rgb = np.full((height, width, 3), 90, np.uint8)
    for f in faces:
        rgb[round(f.y) : round(f.y + f.h), round(f.x) : round(f.x + f.w)] = colour
    return rgb


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buffalo_x")
    scrfd(folder / "det.onnx")
    arcface(folder / "rec.onnx")
    return folder


@pytest.fixture(scope="module")
def detector(pack: Path) -> ScrfdDetector:
    return ScrfdDetector(str(pack))


@pytest.mark.parametrize(
    "width, height, face",
    [
        (640, 640, Box(160, 96, 64, 64)),
        (1280, 720, Box(320, 192, 128, 128)),  # fitted into the input at half its size
        (360, 640, Box(32, 480, 64, 64)),
        (641, 367, Box(160, 96, 64, 64)),
        (320, 320, Box(64, 64, 32, 32)),  # enlarged
        (640, 640, Box(0, 160, 320, 320)),  # fills the picture: found at the smaller size
    ],
)
def test_a_face_is_found_where_it_is_in_the_pictures_own_pixels(
    detector: ScrfdDetector, width: int, height: int, face: Box
) -> None:
    rgb = picture(width, height, face)
    best = detector.detect(rgb)[0]
    assert overlap(best, face) > 0.9 and best.w == pytest.approx(face.w, rel=0.1) == pytest.approx(best.h, rel=0.1)
    assert 0.8 < best.score <= 1.0
    assert detector.detect(rgb) == detector.detect(rgb.copy())


def test_each_face_has_one_box_and_the_highest_score_comes_first(detector: ScrfdDetector) -> None:
    faces = Box(32, 32, 64, 64), Box(320, 256, 64, 64)
    rgb = picture(640, 480, *faces)
    rgb[32:96, 32:96] = (220, 20, 20)
    found = detector.detect(rgb)
    assert [overlap(box, face) > 0.9 for box, face in zip(found, reversed(faces), strict=True)] == [True, True]
    assert found[0].score > found[1].score


def test_pictures_are_read_as_rgb(detector: ScrfdDetector) -> None:
    assert detector.detect(picture(640, 640, Box(160, 96, 64, 64), colour=(0, 0, 255))) == []


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 3))
def test_a_plain_picture_of_any_size_has_no_face(pack: Path, width: int, height: int, tiles: int) -> None:
    assert ScrfdDetector(str(pack), tiles=tiles).detect(picture(width, height)) == []


@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (2000, 3), (3, 2000)])
def test_what_is_no_picture_has_no_face(detector: ScrfdDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 255, np.uint8)) == []


def test_tiles_find_a_face_that_is_small_in_the_picture(pack: Path) -> None:
    face = Box(1042, 640, 73, 73)
    rgb = picture(1280, 1280, face)
    whole, tiled = (ScrfdDetector(str(pack), tiles=n, min_score=0.6).detect(rgb) for n in (1, 2))
    assert whole == [] and len(tiled) == 1 and overlap(tiled[0], face) > 0.9


def test_the_least_score_is_the_settings(pack: Path) -> None:
    rgb = picture(640, 640, Box(160, 96, 64, 64), colour=(225, 30, 30))  # a score of 0.5
    assert len(ScrfdDetector(str(pack), min_score=0.3).detect(rgb)) == 1
    assert ScrfdDetector(str(pack), min_score=0.7).detect(rgb) == []
    with pytest.raises(ValueError, match="tiles is 0"):
        ScrfdDetector(str(pack), tiles=0)


@pytest.mark.parametrize("points", [True, False])
def test_a_network_of_a_fixed_size_is_used_at_it(tmp_path: Path, points: bool) -> None:
    made = ScrfdDetector(str(scrfd(tmp_path / "fixed.onnx", side=320, points=points)))
    (found,) = made.detect(picture(640, 640, Box(128, 64, 128, 128)))
    assert overlap(found, Box(128, 64, 128, 128)) > 0.9


def test_the_scan_chooses_it_by_one_line_and_its_file_is_fingerprinted(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLPM_MODELS", str(tmp_path))
    with pytest.raises(WeightsNotFound, match=r"no model file 'buffalo_l'.*OPENLPM_MODELS"):
        ScanSettings.model_validate({"detector": "scrfd"}).detector.build(min_score=0.5, tiles=1)
    (tmp_path / "buffalo_l").symlink_to(pack)
    chosen = ScanSettings.model_validate({"detector": "scrfd"}).detector
    by_path = ScanSettings.model_validate({"detector": {"use": "scrfd", "model": str(pack)}}).detector
    identity = chosen.provenance("detector")
    assert by_path.provenance("detector") == identity
    assert identity["detector"] == "insightface-scrfd:det.onnx" and len(identity["det.onnx"]) == 64
    assert identity["insightface"] and str(tmp_path) not in "".join(identity.values())
    built = chosen.build(min_score=0.5, tiles=2)
    assert built.name == identity["detector"] and built.detect(picture(64, 64)) == []
    built.close()
    with pytest.raises(ValueError, match="multiple of 32"):
        ScanSettings.model_validate({"detector": {"use": "scrfd", "size_px": 100}})
