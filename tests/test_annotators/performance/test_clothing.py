"""Clothes' colours by name: clear ones are named, skin is not clothes, and what portraits disagree on is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotators.performance.clothing import clothing_colour, colour_names, patch_colour
from schemas.samples.vocabulary import CLOTHING_COLOURS

SKIN = (205, 160, 135)
FACE = (60.0, 20.0, 80.0, 100.0)


def portrait(clothes: tuple[int, int, int], noise: float = 4.0) -> Any:
    """Return a portrait [200, 200, 3]: a face on a grey wall above clothes of one colour."""
    picture = np.full((200, 200, 3), 128.0)
    picture[20:120, 60:140] = SKIN
    picture[130:] = clothes
    picture += noise * np.random.default_rng(0).standard_normal(picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((190, 30, 35), "red"),
        ((40, 70, 180), "blue"),
        ((50, 140, 60), "green"),
        ((240, 240, 238), "white"),
        ((20, 22, 28), "dark"),
        ((25, 30, 55), "dark"),
        ((120, 122, 120), "grey"),
        ((235, 205, 40), "yellow"),
    ],
)
def test_clear_colours_have_names(rgb: tuple[int, int, int], name: str) -> None:
    assert patch_colour(portrait(rgb), FACE) == name


def test_bare_skin_is_no_clothing() -> None:
    assert patch_colour(portrait(SKIN), FACE) is None


def test_three_colours_are_none() -> None:
    picture = portrait((190, 30, 35))
    picture[130:, 77:122], picture[130:, 122:] = (40, 70, 180), (50, 140, 60)
    assert patch_colour(picture, FACE) is None


def test_a_portrait_that_ends_at_the_chin_shows_none() -> None:
    assert patch_colour(portrait((190, 30, 35))[:135], FACE) is None


def test_portraits_must_agree() -> None:
    assert clothing_colour(["red", "red", "red", None]) == "red"
    assert clothing_colour(["red", "blue", "red", "blue"]) is None
    assert clothing_colour([None, None, None, "red"]) is None
    assert clothing_colour(["red", "red"]) is None


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=50))
def test_every_pixel_has_a_known_name(pixels: list[tuple[int, int, int]]) -> None:
    assert set(colour_names(np.array(pixels, np.uint8)).tolist()) <= set(CLOTHING_COLOURS.names)
