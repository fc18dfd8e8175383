"""Picture measures on synthetic pictures and on real footage with known defects."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import Image, gray
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.picture.bars import BarMeter, Bars
from annotators.picture.motion import CameraMeter, FreezeMeter, longest_run_s
from annotators.picture.picture import luma_stats, motion, patch, scale_to, sharpness
from annotators.protocols import Box

FACE = {  # a face of each clip, in shares of the picture: found once with a detector
    "defect_blur.mp4": (0.45, 0.24, 0.21, 0.36),
    "dubbed.mp4": (0.45, 0.24, 0.21, 0.36),
    "talk_woman_studio.mp4": (0.24, 0.24, 0.56, 0.56),
    "listen_woman_red.mp4": (0.33, 0.18, 0.24, 0.18),
    "talkers/real_map.mp4": (0.36, 0.36, 0.34, 0.36),
    "talkers/real_may.mp4": (0.28, 0.24, 0.48, 0.48),
}


def texture(height: int = 180, width: int = 320, seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).normal(0, 60, (height, width)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 4 + 128, 0, 255).astype(np.uint8)


def face_of(media: Path, name: str) -> Image:
    picture = gray(media / name, limit=1)[0]
    height, width = picture.shape
    x, y, w, h = FACE[name]
    cut = patch(picture, Box(x * width, y * height, w * width, h * height))
    assert cut is not None
    return cut


@given(st.integers(0, 255), st.integers(2, 40), st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_luma_of_one_level(level: int, height: int, width: int) -> None:
    stats = luma_stats(np.full((height, width), level, np.uint8))
    assert stats.mean == pytest.approx(level) and stats.std == pytest.approx(0, abs=1e-3)
    assert stats.p05 == stats.p50 == stats.p95 == level
    assert stats.is_black == (level < 6)


def test_luma_agrees_with_numpy() -> None:
    picture = texture()
    stats = luma_stats(picture)
    assert stats.mean == pytest.approx(picture.mean(), abs=1e-3)
    assert stats.std == pytest.approx(picture.std(), abs=1e-3)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)])
def test_other_arrays_are_refused(wrong: Image) -> None:
    with pytest.raises(ValueError, match="luma picture uint8"):
        luma_stats(wrong)


def test_motion_needs_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        motion(texture(), texture(90, 160))
    assert motion(texture(), texture()) == 0


@given(st.floats(0.5, 1.0), st.integers(-20, 20))
@settings(max_examples=15, deadline=None)
def test_sharpness_ignores_light(gain: float, offset: int) -> None:
    picture = cv2.resize(texture(64, 64), (256, 256), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    picture = np.clip((picture - 128) * 1.5 + 128, 20, 235)
    changed = np.clip(picture * gain + offset, 0, 255).astype(np.uint8)
    assert sharpness(changed) == pytest.approx(sharpness(picture.astype(np.uint8)), rel=0.2)


@given(st.floats(1.0, 4.0))
@settings(max_examples=10, deadline=None)
def test_sharpness_falls_with_blur(sigma: float) -> None:
    picture = texture(256, 256)
    blurred = cv2.GaussianBlur(picture, (0, 0), sigma)
    assert sharpness(cv2.GaussianBlur(blurred, (0, 0), sigma)) < sharpness(blurred) < sharpness(picture)


def test_patch_outside_is_none() -> None:
    assert patch(texture(), Box(-50, 0, 40, 40)) is None
    cut = patch(texture(), Box(-10, -10, 40, 40))
    assert cut is not None and cut.shape == (30, 30)


def test_scaling_never_enlarges() -> None:
    assert scale_to(texture(), 640).shape == (180, 320)
    assert scale_to(texture(), 160).shape == (90, 160)


def test_blurred_face_is_far_below_good_faces(media: Path) -> None:
    assert sharpness(face_of(media, "defect_blur.mp4")) < 2
    good = {name: sharpness(face_of(media, name)) for name in FACE if name != "defect_blur.mp4"}
    assert min(good.values()) > 10, good


def test_noise_does_not_sharpen_a_blurred_face(media: Path) -> None:
    face = face_of(media, "defect_blur.mp4")
    noise = np.random.default_rng(0).normal(0, 4, face.shape)
    assert sharpness(np.clip(face + noise, 0, 255).astype(np.uint8)) < 5


def test_dark_footage_is_below_the_published_cut(media: Path) -> None:
    dark = luma_stats(gray(media / "defect_dark.mp4", limit=1)[0])
    assert dark.mean < 2 and dark.is_black
    assert luma_stats(gray(media / "dubbed.mp4", limit=1)[0]).mean > 50


def frozen(pictures: list[Image]) -> list[bool]:
    meter = FreezeMeter()
    return [meter.add(picture) for picture in pictures]


def test_frozen_picture_and_still_listener(media: Path) -> None:
    assert longest_run_s(frozen(gray(media / "defect_frozen.mp4", limit=100))) > 3.5
    assert longest_run_s(frozen(gray(media / "listen_woman_red.mp4", limit=150))) < 0.3
    assert longest_run_s(frozen(gray(media / "session_listener.mp4", limit=100))) < 0.3


def test_slow_drift_is_not_frozen() -> None:
    base = texture().astype(np.float32)
    drifting = [np.clip(base * 0.8 + 0.4 * k, 0, 255).astype(np.uint8) for k in range(100)]
    assert longest_run_s(frozen(drifting)) < 1.0


def test_coding_noise_is_frozen() -> None:
    rng, base = np.random.default_rng(1), texture(360, 640).astype(np.float32)
    noisy = [np.clip(base + rng.normal(0, 2, base.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    assert all(frozen(noisy)[1:])


@given(st.lists(st.booleans(), max_size=60))
def test_longest_run_bounds(flags: list[bool]) -> None:
    exact, bridged = longest_run_s(flags, 1.0, 0), longest_run_s(flags, 1.0, 1)
    assert 0 <= exact <= bridged <= len(flags)
    runs = "".join("x" if flag else " " for flag in flags).split()
    assert exact == max(map(len, runs), default=0)


def test_bridge_spans_one_key_frame() -> None:
    assert longest_run_s([True] * 10 + [False] + [True] * 10, 1.0) == 21
    assert longest_run_s([True] * 10 + [False, False] + [True] * 12, 1.0) == 12
    assert longest_run_s(([True] * 6 + [False]) * 10, 1.0) == 6
    with pytest.raises(ValueError, match="rate"):
        longest_run_s([], 0.0)


@given(st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_camera_motion_is_the_shift(step: int) -> None:
    wide = texture(180, 480)
    meter = CameraMeter()
    speeds = [meter.add(np.ascontiguousarray(wide[:, step * k : step * k + 320])) for k in range(4)]
    assert math.isnan(speeds[0])
    assert speeds[1:] == pytest.approx([step / 320 * 25] * 3, rel=0.1)


def test_camera_motion_ignores_the_person() -> None:
    meter = CameraMeter()
    for k in range(4):
        picture = texture()
        picture[60:180, 100:220] = texture(120, 160, seed=2)[:, 5 * k : 5 * k + 120]
        speed = meter.add(picture, [Box(140, 80, 40, 50)])
    assert speed < 0.01


def test_plain_wall_says_nothing_about_the_camera() -> None:
    meter = CameraMeter()
    meter.add(np.full((90, 160), 100, np.uint8))
    assert math.isnan(meter.add(np.full((90, 160), 100, np.uint8)))


def bars(pictures: list[Image]) -> Bars:
    meter = BarMeter()
    for picture in pictures:
        meter.add(picture)
    return meter.measure()


@given(st.sampled_from([0, 128, 255]), *[st.sampled_from([0.0, 0.05, 0.125, 0.25]) for _ in range(4)])
@settings(max_examples=25, deadline=None)
def test_bars_are_found_to_the_line(colour: int, top: float, bottom: float, left: float, right: float) -> None:
    picture = np.full((180, 320), colour, np.uint8)
    y0, y1, x0, x1 = round(top * 180), 180 - round(bottom * 180), round(left * 320), 320 - round(right * 320)
    picture[y0:y1, x0:x1] = np.random.default_rng(3).integers(0, 256, (y1 - y0, x1 - x0))
    found = bars([picture])
    assert (found.top, found.bottom) == pytest.approx((top, bottom), abs=0.01)
    assert (found.left, found.right) == pytest.approx((left, right), abs=0.01)
    assert 0 <= found.area <= 1


def test_letterbox_but_no_dark_scene_and_no_wall(media: Path) -> None:
    assert bars(gray(media / "defect_letterbox.mp4", 1.0, 4)).area == pytest.approx(0.75, abs=0.02)
    for name in ("defect_dark.mp4", "stage_cuts.mp4", "dubbed.mp4", "talkers/generated_3.mp4", "talkers/real_map.mp4"):
        assert bars(gray(media / name, 0.4, 4)).area == 0, name


def test_bars_of_nothing() -> None:
    meter = BarMeter()
    assert meter.measure() == Bars() and meter.measure().area == 0
    meter.add(np.zeros((90, 160), np.uint8))
    assert meter.measure() == Bars()
    meter.reset()
    assert meter.measure() == Bars()
