"""Insets and panels in drawn pictures: found where their sides lie, and not where they are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotators.picture.panels import Region, insets, panels
from annotators.protocols import FloatArray

WIDTH, HEIGHT = 320, 180
Rectangle = tuple[float, float, float, float]


def steps(*drawn: Rectangle) -> tuple[FloatArray, FloatArray]:
    """Return the steps of a plain picture with brighter rectangles, places as shares of it."""
    luma = np.full((HEIGHT, WIDTH), 60, np.float32)
    for x0, y0, x1, y1 in drawn:
        luma[round(y0 * HEIGHT) : round(y1 * HEIGHT), round(x0 * WIDTH) : round(x1 * WIDTH)] += 50
    return (
        np.abs(np.diff(luma, axis=1, prepend=luma[:, :1])).astype(np.float32),
        np.abs(np.diff(luma, axis=0, prepend=luma[:1])).astype(np.float32),
    )


def places(found: list[Region]) -> list[Rectangle]:
    return [(r.x0, r.y0, r.x1, r.y1) for r in found]


@pytest.mark.parametrize(
    "drawn",
    [(0.6, 0.1, 0.9, 0.5), (0.7, 0.6, 1.0, 1.0), (0.0, 0.0, 0.3, 0.4), (0.35, 0.6, 0.65, 1.0)],
    ids=["within", "in a corner", "in the other corner", "at an edge"],
)
def test_an_inset_is_where_it_is_drawn(drawn: Rectangle) -> None:
    (found,) = insets(*steps(drawn))
    assert places([found])[0] == pytest.approx(drawn, abs=0.01)
    assert found.score > 0.9


@pytest.mark.parametrize(
    "drawn",
    [(0.2, 0.7, 0.9, 0.85), (0.05, 0.05, 0.95, 0.95), (0.5, 0.0, 1.0, 1.0), (0.4, 0.4, 0.45, 0.5)],
    ids=["a banner", "nearly all", "half of the picture", "a small thing"],
)
def test_other_rectangles_are_no_insets(drawn: Rectangle) -> None:
    assert insets(*steps(drawn)) == []


def test_a_plain_picture_is_one_panel_without_insets() -> None:
    assert insets(*steps()) == [] and places(panels(*steps())) == [(0, 0, 1, 1)]


def test_halves_are_two_panels() -> None:
    left, right = panels(*steps((0.5, 0.0, 1.0, 1.0)))
    assert left.x1 == right.x0 == pytest.approx(0.5, abs=0.01)


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 4).map(lambda r: (*np.minimum(r[:2], r[2:]), *np.maximum(r[:2], r[2:]))))
)
def test_what_is_found_is_ordered_apart_and_of_an_insets_size(drawn: list[Rectangle]) -> None:
    found = insets(*steps(*drawn))
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)
    for n, region in enumerate(found):
        assert 0 <= region.x0 < region.x1 <= 1 and 0 <= region.y0 < region.y1 <= 1
        assert (region.x1 - region.x0) * (region.y1 - region.y0) <= 0.35 + 1e-9
        assert not any(region.overlaps(other) for other in found[:n])
