"""Where bodies and hands are looked at closely."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotators.body.hand import hand_region
from annotators.body.pose import body_region
from annotators.face.blaze import Region
from annotators.protocols import FloatArray


@given(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(5, 900), st.floats(-3, 3))
def test_a_body_stands_upright_in_its_region(x: float, y: float, reach: float, turn: float) -> None:
    region = body_region(np.array((x, y)), np.array((x + reach * math.sin(turn), y - reach * math.cos(turn))))
    assert (region.x, region.y, region.w, region.h) == pytest.approx((x, y, 2.5 * reach, 2.5 * reach))
    assert region.angle == pytest.approx(turn, abs=1e-6)


def _hand(x: float, y: float, size: float, turn: float) -> FloatArray:
    """Return a hand with its wrist at a place, its fingers up but for the turn."""
    points = np.zeros((21, 2))
    for finger in range(5):
        for joint in range(4):
            points[1 + 4 * finger + joint] = (0.1 * (finger - 2), -0.4 - 0.15 * joint)
    cos, sin = math.cos(turn), math.sin(turn)
    return (points @ np.array([(cos, sin), (-sin, cos)]) * size + (x, y)).astype(np.float32)


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(20, 400), st.floats(-3, 3))
def test_a_hand_points_up_in_its_region_which_holds_it(x: float, y: float, size: float, turn: float) -> None:
    points = _hand(x, y, size, turn)
    region = hand_region(points)
    assert region.angle == pytest.approx(turn, abs=1e-3) and region.w == region.h
    (xx, xy, x0), (yx, yy, y0) = region.to_picture()
    inside = np.linalg.solve([[xx, xy], [yx, yy]], (points - (x0, y0)).T).T
    assert (inside > 0).all() and (inside < 1).all()
    assert inside[9:13, 1].max() < inside[0, 1]


@given(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(5, 900), st.floats(-3, 3))
def test_the_grid_moves_a_region_little_and_itself_not_at_all(x: float, y: float, side: float, turn: float) -> None:
    region = Region(x, y, side, side, turn)
    snapped = region.on_grid()
    assert max(abs(snapped.x - x), abs(snapped.y - y)) <= snapped.w / 256 + 1e-6
    assert (
        snapped.w == pytest.approx(side, rel=2 ** (1 / 64) - 1 + 1e-6) and abs(snapped.angle - turn) <= 1 / 128 + 1e-9
    )
    assert snapped.on_grid() == snapped


def test_a_body_without_extent_has_a_region() -> None:
    assert body_region(np.zeros(2), np.zeros(2)).w > 0 and hand_region(np.zeros((21, 2))).w > 0
