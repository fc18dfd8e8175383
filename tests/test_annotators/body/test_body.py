"""What body points say: yaw, widths, posture; gestures and leans that no distance or camera makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from body_factory import SIZE, body, signals, still, waving
from hypothesis import given
from hypothesis import strategies as st

from annotators.body.analyzer import body_crop, hand_box, matching
from annotators.body.gestures import ASIDE, NEARER, gestures, leans
from annotators.body.measures import (
    YAW_BIAS_DEG,
    body_yaw_deg,
    plausible_yaw,
    posture,
    shoulder_width_px,
    wrist,
)
from annotators.body.series import middle_angle, summary
from annotators.body.summary import NOT_MEASURED, body_summary, in_crop
from annotators.protocols import Box
from annotators.protocols_body import NOSE, SHOULDERS, WRISTS

FACE = Box(290, 70, 60, 80)


@given(st.floats(-170, 170))
def test_yaw_follows_the_chest_and_the_width_does_not(turn_deg: float) -> None:
    turned = body(turn_deg)
    yaw = body_yaw_deg(turned, SIZE)
    assert yaw is not None and abs((yaw - turn_deg + YAW_BIAS_DEG + 180) % 360 - 180) < 1e-3
    assert -180 < yaw <= 180
    if abs(turn_deg) < 60:  # beyond, the shoulders are too short in the picture to be drawn out
        flat = turned.points.copy()
        flat[list(SHOULDERS), 0] = 320 + np.array([50, -50]) * np.cos(np.radians(turn_deg))
        assert shoulder_width_px(replace(turned, points=flat)) == pytest.approx(100, rel=0.01)


def test_a_chest_that_no_neck_allows_is_a_swap_of_shoulders() -> None:
    assert plausible_yaw(60.0, -20.0) == 60.0 and plausible_yaw(170.0, 100.0) == 170.0
    assert plausible_yaw(-175.0, 20.0) is plausible_yaw(-175.0, None) is plausible_yaw(None, 0.0) is None
    assert plausible_yaw(-100.0, None) == -100.0


def test_what_is_not_seen_says_nothing() -> None:
    hidden = body(visibility=np.zeros(33, np.float32))
    outside = body()
    outside.points[[SHOULDERS[0], WRISTS[0]]] = (SIZE[0] + 5, 200)
    for one in (hidden, outside):
        assert body_yaw_deg(one, SIZE) is None and wrist(one, 0, SIZE) is None and posture(one, SIZE) is None
    assert wrist(outside, 1, SIZE) is not None


def test_thighs_along_the_trunk_stand_and_across_it_sit() -> None:
    assert posture(body(knees=(0.45, 0.0)), SIZE) == "standing"
    assert posture(body(knees=(0.0, -0.45)), SIZE) == "sitting"
    assert posture(body(knees=(0.33, -0.3)), SIZE) is None


def test_the_body_is_the_one_whose_nose_is_on_the_face() -> None:
    mine, other = body().points, body().points + np.float32(200)
    assert matching([other, mine], FACE) == 1
    assert matching([other], FACE) is None
    between = body().points.copy()
    between[NOSE] = (365, 110)
    assert matching([between], FACE) == 0
    assert matching([between], FACE, [Box(350, 70, 60, 80)]) is None  # it is nearer to the neighbour's face


@given(st.floats(-100, 700), st.floats(-100, 500), st.floats(4, 400))
def test_the_crop_lies_in_the_picture(x: float, y: float, side: float) -> None:
    crop = body_crop(Box(x, y, side, side), SIZE)
    assert crop.x >= 0 and crop.x + crop.w <= max(SIZE[0], crop.x) and crop.y >= 0 and crop.w >= 0 and crop.h >= 0


def test_the_hands_box_holds_the_hand() -> None:
    box = hand_box(np.full((33, 2), 100, np.float32), 0, FACE)
    assert box.x < 100 < box.x + box.w and box.w == pytest.approx(2.4 * 80)


def test_a_moving_hand_is_a_gesture_and_a_held_one_is_not() -> None:
    (one,) = gestures(waving())
    assert (one.name, one.kind) == ("gesture", "body_action") and 0.5 <= one.confidence <= 0.9
    assert one.start_s == pytest.approx(0.8, abs=0.21) and one.end_s == pytest.approx(1.8, abs=0.21)
    assert gestures(signals()) == [] and gestures(signals(0)) == [] and gestures(signals(1)) == []


def test_without_a_hand_or_a_wrist_there_is_no_gesture() -> None:
    moving = waving()
    assert gestures(replace(moving, hands=np.zeros((20, 2)))) == []
    assert gestures(replace(moving, wrists=np.full((20, 2, 2), np.nan))) == []


def test_a_hand_that_lies_still_while_the_trunk_moves_is_no_gesture() -> None:
    fields = still()
    fields["shoulders"][12:17, :, 0] += 60
    assert gestures(signals(**fields)) == []


@given(st.floats(0.1, 20), st.floats(-2000, 2000), st.floats(-400, 400))
def test_gestures_hold_for_any_distance_and_a_moving_camera(scale: float, shift: float, drift: float) -> None:
    moving = waving()
    pan = shift + drift * moving.t_s[:, None, None]
    seen = replace(
        moving, shoulders=moving.shoulders * scale + pan, wrists=moving.wrists * scale + pan, width=moving.width * scale
    )
    assert [(e.start_s, e.end_s) for e in gestures(seen)] == [(e.start_s, e.end_s) for e in gestures(moving)]


@pytest.mark.parametrize("direction, sign", [("right", 1), ("left", -1)])
def test_a_trunk_that_stays_aside_leans(direction: str, sign: int) -> None:
    fields = still()
    fields["shoulders"][12:17, :, 0] += sign * 1.5 * ASIDE * 100
    fields["face"][12:17, 0] += sign * 2 * ASIDE * 100
    (one,) = leans(signals(**fields))
    assert (one.name, one.direction) == ("lean", direction)
    assert (one.start_s, one.end_s) == (pytest.approx(2.4), pytest.approx(3.2))


def test_nearer_needs_shoulders_and_face() -> None:
    fields = still()
    fields["face"][12:17, 2] *= NEARER + 0.05
    assert leans(signals(**fields)) == []  # a face alone grows when it is lifted
    fields["width"][12:17] *= NEARER + 0.05
    assert [e.direction for e in leans(signals(**fields))] == ["forward"]
    fields["width"][13:17], fields["face"][13:17, 2] = 100.0, 60.0
    assert leans(signals(**fields)) == []  # 0.2 s: a nod of the trunk


def test_a_moving_camera_makes_no_lean() -> None:
    fields = still()
    fields["shoulders"][12:17, :, 0] += 40
    fields["face"][12:17, 0] += 40
    leaning = signals(**fields)
    assert [e.name for e in body_summary(leaning, 20, 4.0, still_camera=True).events] == ["lean"]
    assert body_summary(leaning, 20, 4.0, still_camera=False).events == ()


def test_hands_by_what_the_clip_shows() -> None:
    def hands(one: object, looked_at: int = 20) -> str:
        return body_summary(one, looked_at, 4.0, False).hands  # type: ignore[arg-type]

    up = still()["wrists"]
    up[:, 0] = (400, 60)
    at_face = still()["wrists"]
    at_face[:, 0] = (350, 120)
    joined = still()["wrists"]
    joined[:, 0] = joined[:, 1]
    assert hands(signals()) == "resting"
    assert hands(signals(wrists=up)) == "raised"
    assert hands(signals(wrists=at_face)) == "at_face"
    assert hands(signals(wrists=joined)) == "joined"
    assert hands(signals(hands=np.full((20, 2), np.nan))) == "out_of_view"
    assert hands(waving(20, 2, 18)) == "gesturing"
    assert body_summary(signals(), 60, 12.0, True) == NOT_MEASURED  # the body was found in a third of the time


def test_hands_outside_the_crop_are_not_seen() -> None:
    crops = np.tile([200.0, 50.0, 240.0, 200.0], (20, 1))
    cut = in_crop(waving(), crops)
    assert np.isnan(cut.wrists).all() and np.isnan(cut.hands).all()
    assert body_summary(cut, 20, 4.0, True).hands == "out_of_view" and gestures(cut) == []
    whole = in_crop(waving(), np.tile([0.0, 0.0, 640.0, 480.0], (20, 1)))
    assert gestures(whole) == gestures(waving())


def test_the_summary_is_null_where_little_was_seen() -> None:
    told = summary(signals(), 20)
    assert told.body_view == "frontal" and told.hands_visible_ratio == 1.0 and told.gesture_energy == 0.0
    nothing = summary(signals(0), 20)
    assert nothing.hands_visible_ratio == 0.0
    assert nothing.gesture_energy is nothing.body_yaw_deg is nothing.body_view is nothing.arms is None
    assert summary(signals(5), 20).body_yaw_deg is None


@given(st.floats(-179, 180), st.lists(st.floats(-20, 20), min_size=1, max_size=9))
def test_the_median_of_angles_knows_no_seam(middle: float, around: list[float]) -> None:
    spread = np.array([*around, *(-a for a in around)])
    found = middle_angle((middle + spread + 180) % 360 - 180)
    assert abs((found - middle + 180) % 360 - 180) < 1e-6 and -180 < found <= 180
