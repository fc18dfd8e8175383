"""Camera moves in words: from made series, and from made pictures through the meter."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotators.picture.camera_moves import CameraSeries, camera_move, panned
from annotators.picture.motion import CameraMeter
from schemas.samples.vocabulary import CAMERA_MOTIONS


def series(x: Any = 0.0, y: Any = 0.0, zoom: Any = 0.0, speed: Any = None, seconds: float = 4.0) -> CameraSeries:
    n = round(25 * seconds)
    x, y, zoom = (np.broadcast_to(np.asarray(v, float), n).copy() for v in (x, y, zoom))
    rate = np.hypot(x, y) + 0.2 * np.abs(zoom) if speed is None else np.broadcast_to(np.asarray(speed, float), n)
    return CameraSeries(np.asarray(rate), x, y, zoom)


SHAKE = 0.03 * np.sin(2 * np.pi * 1.5 * np.arange(100) / 25)


@pytest.mark.parametrize(
    ("measured", "term"),
    [
        (series(), "static"),
        (series(x=0.05), "pan_left"),
        (series(x=-0.05), "pan_right"),
        (series(y=0.05), "tilt_up"),
        (series(y=-0.05), "tilt_down"),
        (series(zoom=0.1), "zoom_in"),
        (series(zoom=-0.1), "zoom_out"),
        (series(x=SHAKE, y=0.5 * SHAKE), "handheld"),
        (series(x=SHAKE), "unknown"),  # a sliding overlay
        (series(x=0.1, zoom=0.05), "pan_left"),
        (series(speed=np.nan), "unknown"),
        (series(seconds=0.0), "unknown"),
    ],
)
def test_moves_have_names(measured: CameraSeries, term: str) -> None:
    assert camera_move(measured) == term


rates = st.lists(st.floats(-1, 1) | st.just(float("nan")), min_size=3, max_size=60)


@given(rates, rates, rates)
def test_any_series_has_a_term_and_mirrors(a: list[float], b: list[float], c: list[float]) -> None:
    n = min(len(a), len(b), len(c))
    x, y, zoom = (np.array(v[:n]) for v in (a, b, c))
    speed = np.hypot(x, y)
    term, mirrored = (camera_move(CameraSeries(speed, s * x, y, zoom)) for s in (1, -1))
    assert term in CAMERA_MOTIONS
    swapped = {"pan_left": "pan_right", "pan_right": "pan_left"}
    assert mirrored == swapped.get(term, term)


def test_the_meter_tells_directions_and_growth() -> None:
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (400, 560), np.uint8), (0, 0), 3)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX)

    def view(x: float = 0.0, y: float = 0.0, scale: float = 1.0) -> Any:
        move = np.array([[scale, 0, x - 280 * scale + 160], [0, scale, y - 200 * scale + 90]])
        return cv2.warpAffine(wall, move, (320, 180))

    def between(**change: float) -> Any:
        meter = CameraMeter()
        meter.measure(view())
        return meter.measure(view(**change), rate_hz=5.0)

    assert between(x=3.2).x == pytest.approx(0.05, abs=0.01) and abs(between(x=3.2).zoom) < 0.02
    assert between(y=3.2).y == pytest.approx(0.05, abs=0.01)
    nearer = between(scale=1.02)
    assert nearer.zoom == pytest.approx(0.1, abs=0.02) and abs(nearer.x) < 0.01
    assert between().speed < 0.002
    assert not np.isfinite(CameraMeter().measure(view()).speed)


def test_a_pan_is_faster_than_a_hand_and_the_unknown_is_none() -> None:
    speed = np.array([0.0, 0.05, 0.07, 0.2, np.nan])
    assert panned(CameraSeries(speed, speed, speed, speed)).tolist() == [False, False, True, True, False]
