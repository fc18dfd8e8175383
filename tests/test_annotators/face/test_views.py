"""Views by the paper's angles, expression labels, portrait quality."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotators.face.mesh import BLENDSHAPES
from annotators.face.sizes import LEAST_PX
from annotators.face.views import expression_of, portrait_quality, view_from_orientation, view_from_yaw


def shapes(**values: float) -> npt.NDArray[np.float64]:
    """Return blendshapes [52]; a name without Left or Right sets both sides."""
    out = np.zeros(len(BLENDSHAPES))
    for name, value in values.items():
        for column in [i for i, full in enumerate(BLENDSHAPES) if full in (name, name + "Left", name + "Right")]:
            out[column] = value
    return out


@pytest.mark.parametrize(
    ("theta_deg", "side", "view"),
    [
        (180, 0, "frontal"),
        (155, -1, "frontal"),
        (154.9, -1, "left_three_quarter"),
        (135.1, 1, "right_three_quarter"),
        (135, 1, "right_profile"),
        (90, 1, "right_profile"),
        (45.1, 1, "right_profile"),
        (45, 1, "rear"),
        (0, 0, "rear"),
    ],
)
def test_the_papers_angles(theta_deg: float, side: float, view: str) -> None:
    assert view_from_orientation(theta_deg, side) == view


@given(st.floats(-180, 180))
def test_mirroring_swaps_profiles(yaw_deg: float) -> None:
    sides = {"left": "right", "right": "left"}
    swapped = {f"{a}_{v}": f"{b}_{v}" for a, b in sides.items() for v in ("profile", "three_quarter")}
    view = view_from_yaw(yaw_deg)
    assert view_from_yaw(-yaw_deg) == swapped.get(view, view)


def test_a_profile_begins_at_45_degrees_of_yaw() -> None:
    assert [view_from_yaw(v) for v in (0, 25, 26, -44.9, 45, -60, 170)] == [
        "frontal",
        "frontal",
        "right_three_quarter",
        "left_three_quarter",
        "right_profile",
        "left_profile",
        "rear",
    ]


@pytest.mark.parametrize("theta_deg", [-1, 181, float("nan")])
def test_impossible_angles_are_refused(theta_deg: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        view_from_orientation(theta_deg, 0)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({}, "neutral"),
        ({"mouthSmile": 0.8}, "smile"),
        ({"mouthSmile": 0.65}, "neutral"),  # a stretched vowel
        ({"mouthSmile": 0.97, "browDown": 0.87}, "smile"),  # a grin lowers the brows
        ({"mouthSmile": 0.5, "browDown": 0.9, "mouthFrown": 0.6}, "neutral"),  # contradictory
        ({"mouthSmile": 0.8, "jawOpen": 0.3, "mouthUpperUp": 0.5}, "open_smile"),
        ({"jawOpen": 0.6}, "open_mouth"),
        ({"jawOpen": 0.6, "eyeWide": 0.2}, "surprise"),
        ({"browDown": 0.6}, "frown"),
        ({"mouthFrown": 0.5}, "pout"),
        ({"mouthPucker": 0.9}, "neutral"),  # a vowel or a drink, not a pout
        ({"eyeBlink": 0.7}, "eyes_closed"),
        ({"eyeBlink": 0.7, "eyeLookDown": 0.8}, "neutral"),  # lids that follow lowered eyes
        ({"eyeBlinkLeft": 0.9}, "neutral"),
    ],
)
def test_expression_labels(values: dict[str, float], label: str) -> None:
    assert expression_of(shapes(**values)).name == label


def test_bias_is_taken_off() -> None:
    resting = shapes(browDown=0.6)
    assert expression_of(resting).name == "frown"
    assert expression_of(resting, baseline=resting).name == "neutral"
    assert expression_of(shapes(browDown=0.9), baseline=resting).name == "frown"


def test_a_lowered_head_is_no_closed_eye() -> None:
    assert expression_of(shapes(eyeBlink=0.7), pitch_deg=-20).name == "neutral"


@given(st.floats(1, 300), st.lists(st.floats(0, 1), min_size=52, max_size=52))
def test_a_small_face_has_no_expression(face_px: float, values: list[float]) -> None:
    label = expression_of(np.array(values), face_px=face_px)
    if face_px < LEAST_PX["knit_brows"] or face_px < LEAST_PX["mouth"]:
        assert (label.name, label.score) == ("unknown", 0.0)
    else:
        assert label.name != "unknown"


@given(st.lists(st.floats(0, 1), min_size=52, max_size=52))
def test_scores_stay_in_range(values: list[float]) -> None:
    label = expression_of(np.array(values))
    assert 0.5 <= label.score <= 1


def test_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected \\(52,\\)"):
        expression_of(np.zeros(51))


@given(st.floats(0, 500), st.floats(0, 0.5), st.floats(0, 1000))
def test_quality_grows_with_every_measure(sharpness: float, eye_open: float, face_px: float) -> None:
    quality = portrait_quality(sharpness, eye_open, face_px)
    assert 0 <= quality <= 1
    assert portrait_quality(sharpness + 10, eye_open, face_px) >= quality
    assert portrait_quality(sharpness, eye_open + 0.1, face_px) >= quality
    assert portrait_quality(sharpness, eye_open, face_px + 50) >= quality


def test_shut_eyes_do_not_count_in_profile() -> None:
    assert portrait_quality(40, 0.05, 200, yaw_deg=60) > portrait_quality(40, 0.05, 200)


@pytest.mark.parametrize("sharpness", [-1.0, float("nan")])
def test_impossible_measures_are_refused(sharpness: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        portrait_quality(sharpness, 0.3, 200)
