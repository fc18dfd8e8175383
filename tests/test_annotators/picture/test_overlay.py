"""Overlays on synthetic pictures and on real footage, with and without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import Image, frames
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import need

from annotators.picture.overlay import Layout, OverlayMeter, covered
from annotators.picture.overlay_samples import ShotSamples
from annotators.picture.overlay_text import hold
from annotators.picture.panels import Region
from annotators.picture.picture import scale_to
from annotators.picture.text_detector import WEIGHT, TextDetector, lines

Draw = Callable[[Image, int], Image]
STEP_S = 0.2


@pytest.fixture(scope="session")
def detector() -> TextDetector:
    need(WEIGHT)
    return TextDetector()


def pictures(path: Path, n: int = 8) -> list[Image]:
    return [scale_to(frame.to_ndarray(format="rgb24"), 640) for _, frame in frames(path, STEP_S, n)]


def layout(meter: OverlayMeter, shot: list[Image], draw: Draw = lambda image, _: image) -> Layout:
    meter.reset()
    drawn = [np.ascontiguousarray(draw(image.copy(), k)) for k, image in enumerate(shot)]
    for k, image in enumerate(drawn):
        meter.add(image, k * STEP_S)
    return meter.measure(drawn[-1], (len(drawn) - 1) * STEP_S)


def write(image: Image, text: str, x: float, y: float, size: float = 1.0) -> Image:
    height, width = image.shape[:2]
    place = (int(x * width), int(y * height))
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 5, cv2.LINE_AA)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 2, cv2.LINE_AA)
    return image


@pytest.mark.parametrize(
    "name",
    [
        "talk_woman_garden.mp4",
        "talk_woman_studio.mp4",
        "session_listener.mp4",
        "expressive_woman_silent.mp4",
        "talkers/real_may.mp4",
    ],
)
def test_good_footage_has_no_overlay(media: Path, detector: TextDetector, name: str) -> None:
    found = layout(OverlayMeter(detector), pictures(media / name, 12))
    assert found.text == () and found.graphics == () and found.insets == ()
    assert found.bars.area == 0 and len(found.panels) == 1


def test_subtitles(media: Path, detector: TextDetector) -> None:
    found = layout(OverlayMeter(detector), pictures(media / "defect_subtitles.mp4"))
    assert len(found.text) == 1 and 0.02 < found.text_area < 0.06
    line = found.text[0]
    assert line.y0 > 0.8 and line.x0 < 0.3 and line.x1 > 0.7


def test_logo(media: Path, detector: TextDetector) -> None:
    found = layout(OverlayMeter(detector), pictures(media / "defect_logo.mp4"))
    assert 0.002 < found.logo_area < 0.01
    assert all(graphic.x0 > 0.8 and graphic.y1 < 0.15 for graphic in found.graphics)


@pytest.mark.parametrize("name", ["dubbed.mp4", "session_listener.mp4"])
def test_graphic_without_letters(media: Path, name: str) -> None:
    def badge(image: Image, _: int) -> Image:
        height, width = image.shape[:2]
        center, radius = (int(0.9 * width), int(0.12 * height)), int(0.06 * height)
        cv2.circle(image, center, radius, (20, 60, 220), -1, cv2.LINE_AA)
        cv2.circle(image, center, radius // 2, (255, 255, 255), 3, cv2.LINE_AA)
        return image

    found = layout(OverlayMeter(None), pictures(media / name), badge)
    assert len(found.graphics) == 1
    graphic = found.graphics[0]
    assert graphic.x0 < 0.9 < graphic.x1 and graphic.y0 < 0.12 < graphic.y1


def test_text_filmed_by_a_moving_camera_is_scene_text(media: Path, detector: TextDetector) -> None:
    def pan(image: Image, k: int) -> Image:
        write(image, "BAKERY OPEN", 0.05, 0.2)
        shift = np.array([[1, 0, 6.0 * k], [0, 1, 0]], np.float32)
        return cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)

    shot = pictures(media / "session_listener.mp4")
    assert layout(OverlayMeter(detector), shot, pan).text == ()
    assert len(layout(OverlayMeter(detector), shot, lambda image, _: write(image, "BAKERY OPEN", 0.05, 0.2)).text) == 1


def test_captions_word_by_word(media: Path, detector: TextDetector) -> None:
    words = ["THIS", "THIS", "REALLY", "REALLY", "WORKS", "WORKS", "TODAY", "TODAY"]
    found = layout(
        OverlayMeter(detector), pictures(media / "dubbed.mp4"), lambda image, k: write(image, words[k], 0.4, 0.75, 1.2)
    )
    assert len(found.text) == 1


@pytest.mark.parametrize("name", ["split_screen.mp4", "two_talkers.mp4"])
def test_split_screen_has_two_panels(media: Path, name: str) -> None:
    found = layout(OverlayMeter(None), pictures(media / name))
    assert len(found.panels) == 2
    assert found.panels[0].x1 == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["generated_9", "generated_l2", "generated_13"])
def test_inset_at_the_lower_left(media: Path, name: str) -> None:
    found = layout(OverlayMeter(None), pictures(media / "talkers" / f"{name}.mp4", 12))
    assert len(found.insets) == 1
    inset = found.insets[0]
    assert (inset.x0, inset.y0, inset.x1, inset.y1) == pytest.approx((0, 0.875, 0.25, 1), abs=0.02)


def test_layout_inside_a_letterbox(media: Path) -> None:
    def letterbox(image: Image, _: int) -> Image:
        out = np.zeros_like(image)
        height, width = image.shape[:2]
        out[height // 8 : height - height // 8] = cv2.resize(image, (width, height - 2 * (height // 8)))
        return out

    found = layout(OverlayMeter(None), pictures(media / "two_talkers.mp4"), letterbox)
    assert found.bars.area == pytest.approx(0.25, abs=0.02) and len(found.panels) == 2
    assert found.panels[0].y0 == pytest.approx(0.125, abs=0.01)


def test_first_pictures_claim_nothing(media: Path, detector: TextDetector) -> None:
    shot = pictures(media / "defect_subtitles.mp4", 1)
    meter = OverlayMeter(detector)
    meter.add(shot[0], 0.0)
    found = meter.measure(shot[0], 0.0)
    assert found.n_samples == 1 and found.text == () and found.graphics == ()
    assert meter.annotator == "ppocr-v4-det+static-graphic-heuristic"


def test_samples_must_follow_each_other() -> None:
    samples = ShotSamples()
    samples.add(np.zeros((90, 160), np.uint8), 1.0)
    with pytest.raises(ValueError, match="reset"):
        samples.add(np.zeros((90, 160), np.uint8), 1.0)
    with pytest.raises(ValueError, match="reset"):
        samples.add(np.zeros((90, 120), np.uint8), 2.0)
    samples.reset()
    with pytest.raises(ValueError, match="add"):
        _ = samples.picture


def test_samples_do_not_grow() -> None:
    samples = ShotSamples()
    for k in range(200):
        samples.add(np.full((32, 32), k, np.uint8), k * 0.2)
    assert len(samples.recent) <= 9 and samples.n == 200
    assert 100 < samples.picture.mean() < 199


@given(st.integers(20, 100), st.integers(15, 40), st.integers(10, 40), st.integers(6, 12))
@settings(max_examples=20, deadline=None)
def test_a_core_of_text_becomes_a_larger_line(x: int, y: int, length: int, height: int) -> None:
    probability = np.zeros((96, 160), np.float32)
    probability[y : y + height, x : x + length + height] = 0.9
    (line,) = lines(probability)
    assert line.x0 <= x / 160 and line.x1 >= min(1, (x + length + height - 1) / 160)
    assert line.score == pytest.approx(0.9, abs=1e-3) and line.aspect >= 1
    assert -90 < line.tilt_deg <= 90 and abs(line.tilt_deg) < 1
    picture = np.random.default_rng(0).integers(0, 256, (96, 160)).astype(np.uint8)
    assert hold(line, picture, picture) == pytest.approx(1.0)
    assert hold(line, picture, 255 - picture) == pytest.approx(-1.0)


def test_no_text_in_an_empty_map() -> None:
    assert lines(np.zeros((64, 64), np.float32)) == []


@given(st.lists(st.tuples(*[st.floats(0, 1) for _ in range(4)]), max_size=4))
@settings(deadline=None)
def test_covered_counts_overlaps_once(boxes: list[tuple[float, float, float, float]]) -> None:
    regions = tuple(Region(min(a, c), min(b, d), max(a, c), max(b, d), 1.0) for a, b, c, d in boxes)
    areas = [(r.x1 - r.x0) * (r.y1 - r.y0) for r in regions]
    assert max(areas, default=0) - 0.01 <= covered(regions) <= min(1.0, sum(areas)) + 0.01
    assert covered(regions + regions) == covered(regions)


@settings(max_examples=20, deadline=None)
@given(st.integers(200, 440), st.integers(4, 11), st.integers(0, 2**32 - 1))
def test_a_drawn_strip_parts_two_panels(at: int, wide: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    meter = OverlayMeter(None)
    smooth = cv2.GaussianBlur(rng.random((360, 640, 3)), (0, 0), 8)
    base = np.asarray(40 + 120 * (smooth - smooth.min()) / np.ptp(smooth), np.uint8)
    shot = []
    for k in range(6):
        picture = np.roll(base, 7 * k, axis=0)
        picture[:, at : at + wide] = 245
        shot.append(np.ascontiguousarray(picture))
    found = layout(meter, shot)
    assert len(found.panels) == 2
    assert found.panels[0].x1 * 640 == pytest.approx(at + wide / 2, abs=2.5)
