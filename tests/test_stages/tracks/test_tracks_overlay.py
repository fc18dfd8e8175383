"""A resting face's eyes and mouth are not taken for overlaid text; captions are."""

from __future__ import annotations

import pandas as pd
import pytest

from stages.tracks.overlay import without_features

EYE = [0.35, 0.40, 0.45, 0.44]
CAPTION = [0.2, 0.8, 0.8, 0.9]
ACROSS = [0.32, 0.55, 0.68, 0.62]


def layout(*boxes: list[float]) -> pd.DataFrame:
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes)
    return pd.DataFrame({"k": [50], "text_boxes": [[v for b in boxes for v in b]], "text_area": [area]})


def faces(k: int = 50) -> pd.DataFrame:
    """A face over 0.3-0.7 of the width and 0.2-0.7 of the height of a 1000 x 500 picture."""
    return pd.DataFrame({"k": [k], "x": [300.0], "y": [100.0], "w": [400.0], "h": [250.0]})


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [([EYE], []), ([CAPTION], [CAPTION]), ([EYE, CAPTION], [CAPTION]), ([ACROSS], [ACROSS]), ([], [])],
)
def test_only_what_lies_on_features_is_left_out(boxes: list[list[float]], kept: list[list[float]]) -> None:
    found = without_features(layout(*boxes), faces(), 1000, 500)
    assert list(found["text_boxes"].iloc[0]) == [v for b in kept for v in b]
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in kept)
    assert found["text_area"].iloc[0] == pytest.approx(area, abs=0.005)


def test_a_face_seen_at_another_time_does_not_count() -> None:
    assert list(without_features(layout(EYE), faces(k=75), 1000, 500)["text_boxes"].iloc[0]) == EYE
