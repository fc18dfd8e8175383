"""Rules on synthetic series: what is there is found, what is not there is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_factory import bump, face, time_axis

from annotators.face.sizes import LEAST_PX, part_of
from annotators.performance.facial_actions import RULES
from annotators.performance.head_gestures import swings
from annotators.performance.performance_signals import Performance, measure
from annotators.performance.shot_type import SHOT_LIMITS, shot_type
from annotators.performance.signal_series import Event, baseline_of, low_pass, spans
from schemas.samples.vocabulary import FACIAL_ACTIONS, SHOT_TYPES

T = time_axis(6)


def names(shown: Performance, kind: str) -> list[str]:
    return [e.name for e in shown.events if e.kind == kind]


def only(shown: Performance, name: str) -> Event:
    found = [e for e in shown.events if e.name == name]
    assert len(found) == 1, [e.name for e in shown.events]
    return found[0]


def wave(hz: float, degrees: float, start_s: float, cycles: float) -> Any:
    """Return a sine of whole cycles, starting downwards, zero elsewhere."""
    inside = (start_s <= T) & (start_s + cycles / hz > T)
    return np.where(inside, -degrees * np.sin(2 * np.pi * hz * (T - start_s)), 0.0)


def test_a_still_face_is_neutral() -> None:
    shown = measure(face())
    assert shown.emotions == shown.expressions == ("neutral",)
    assert shown.head_motion == ("still",)
    assert (shown.gaze, shown.body_motion, shown.shot_type) == ("camera", "still", "medium_close_up")
    assert names(shown, "facial_action") == []
    assert shown.blinks_per_min == 0


def test_a_smile_too_weak_to_be_told_of_a_speaker_is_not_neutral() -> None:
    grins = measure(face(shapes={"mouthSmile": np.full(len(T), 0.6)}), speaking=True)
    assert "smiling" not in grins.expressions and "neutral" not in (*grins.expressions, *grins.emotions)


@pytest.mark.parametrize(
    ("shapes", "action"),
    [
        ({"mouthSmile": 0.7}, "smile"),
        ({"browInnerUp": 0.6, "browOuterUp": 0.6}, "brow_raise"),
        ({"browDown": 0.6}, "frown"),
        ({"eyeSquint": 0.6}, "squint"),
        ({"eyeWide": 0.15}, "wide_eyes"),
        ({"mouthPress": 0.6}, "lip_press"),
        ({"mouthPucker": 0.7}, "pucker"),
        ({"mouthFrown": 0.5}, "mouth_frown"),
        ({"jawOpen": 0.6}, "jaw_open"),
        ({"mouthUpperUp": 0.7, "browDown": 0.6, "eyeSquint": 0.5}, "nose_wrinkle"),
        ({"eyeBlink": 0.7}, "eyes_closed"),
        ({"eyeLookDown": 0.8}, "downcast"),
    ],
)
def test_finds_a_facial_action_where_it_is(shapes: dict[str, float], action: str) -> None:
    shown = measure(face(shapes={name: bump(T, 2, 4, value) for name, value in shapes.items()}))
    event = only(replace(shown, events=tuple(e for e in shown.events if e.kind == "facial_action")), action)
    assert event.start_s == pytest.approx(2, abs=0.2)
    assert event.end_s == pytest.approx(4, abs=0.2)
    assert 0.4 <= event.confidence <= 0.9


def test_every_rule_has_a_term_and_sane_thresholds() -> None:
    for rule in RULES:
        assert 0 < rule.off < rule.on < rule.full


def test_bias_of_a_person_is_taken_off() -> None:
    raised = face(shapes={"browInnerUp": 0.6, "browOuterUp": 0.6})
    assert "brow_raise" in names(measure(raised), "facial_action")
    assert "brow_raise" not in names(measure(raised, baseline_of(raised)), "facial_action")


def test_a_lasting_broad_smile_is_no_bias() -> None:
    smiling = face(shapes={"mouthSmile": 0.8})
    assert measure(smiling, baseline_of(smiling)).expressions == ("smiling",)


def test_a_grin_is_neither_frown_nor_disgust() -> None:
    grin = {"mouthSmile": 0.97, "browDown": 0.87, "mouthUpperUp": 0.8, "noseSneer": 0.4, "mouthFrown": 0.5}
    shown = measure(face(shapes={name: bump(T, 1, 5, value) for name, value in grin.items()}))
    assert {e.name for e in shown.events} & {"frown", "frowning", "nose_wrinkle", "disgust", "mouth_frown"} == set()
    assert "smiling" in shown.expressions


def test_heavy_brows_at_rest_are_no_frown() -> None:
    heavy = face(shapes={"browDown": 0.58})
    assert "frown" not in names(measure(heavy, baseline_of(heavy)), "facial_action")


def test_stretched_vowels_are_no_smile() -> None:
    talking = face(shapes={"mouthSmile": bump(T, 1, 5, 0.55)})
    assert "smile" in names(measure(talking), "facial_action")
    assert "smile" not in names(measure(talking, speaking=True), "facial_action")


def test_lowered_eyes_are_not_closed() -> None:
    down = measure(face(shapes={"eyeBlink": bump(T, 1, 5, 0.7), "eyeLookDown": bump(T, 1, 5, 0.8)}))
    assert "downcast" in names(down, "facial_action") and "eyes_closed" not in names(down, "facial_action")
    assert down.gaze == "down"
    bowed = measure(face(shapes={"eyeBlink": 0.7}, pitch_deg=np.full(len(T), -25.0)))
    assert "eyes_closed" not in names(bowed, "facial_action") and bowed.gaze == "down"


def test_pursed_lips_are_no_pout() -> None:
    shown = measure(face(shapes={"mouthPucker": bump(T, 1, 5, 0.9)}))
    assert "pucker" in names(shown, "facial_action") and "pouting" not in shown.expressions


ALL_AT_ONCE = {
    "mouthSmile": bump(T, 1, 3, 0.8),
    "browDown": bump(T, 3.5, 5.5, 0.6),
    "eyeBlink": bump(T, 1, 3, 0.8),
    "eyeLookDown": bump(T, 3.5, 5.5, 0.9),
}


@settings(max_examples=30, deadline=None)
@given(px=st.floats(10, 300))
def test_nothing_is_said_of_what_a_face_is_too_small_for(px: float) -> None:
    shown = measure(face(shapes=ALL_AT_ONCE, box_xywh=np.tile([100.0, 100.0, px, 1.2 * px], (len(T), 1))))
    for event in shown.events:
        if event.kind == "facial_action":
            assert px >= LEAST_PX[part_of(event.name)]
        if event.kind == "gaze":
            assert px >= LEAST_PX["gaze"]
    assert (shown.gaze == "unknown") == (px < LEAST_PX["gaze"])
    if px < LEAST_PX["mouth"] and px < LEAST_PX["raised_brows"]:
        assert shown.expressions == shown.emotions == ()
    if px < LEAST_PX["knit_brows"]:
        assert "neutral" not in (*shown.expressions, *shown.emotions)


def test_every_facial_action_is_read_from_a_part_of_the_face() -> None:
    assert {name for name in FACIAL_ACTIONS.names if part_of(name) == "pose"} == set()


@pytest.mark.parametrize("count", [1, 3])
def test_counts_blinks(count: int) -> None:
    lids = sum(bump(T, 1 + 1.5 * i, 1.25 + 1.5 * i, 0.7) for i in range(count))
    shown = measure(face(shapes={"eyeBlink": lids}))
    assert names(shown, "facial_action") == ["blink"] * count
    assert shown.blinks_per_min == pytest.approx(10 * count)
    assert shown.gaze == "camera"


def test_a_wink_is_no_blink() -> None:
    shown = measure(face(shapes={"eyeBlinkLeft": bump(T, 1, 1.3, 0.8)}))
    assert "blink" not in names(shown, "facial_action")


def test_laughter_needs_smile_and_rhythm() -> None:
    smile, jaw = bump(T, 1, 4, 0.8), bump(T, 1, 4, 0.1) * (1 + np.sin(2 * np.pi * 4.7 * T))
    laughing = measure(face(shapes={"mouthSmile": smile, "jawOpen": jaw}))
    assert "laugh" in names(laughing, "facial_action")
    assert laughing.emotions[0] in ("amusement", "happiness")
    assert "laughing" in laughing.expressions
    assert "laugh" not in names(measure(face(shapes={"mouthSmile": smile})), "facial_action")
    assert "laugh" not in names(measure(face(shapes={"jawOpen": jaw})), "facial_action")
    talking = measure(face(shapes={"mouthSmile": smile, "jawOpen": jaw}), speaking=True)
    assert only(talking, "laugh").confidence < only(laughing, "laugh").confidence


def test_speech_is_no_expression() -> None:
    jaw = 0.25 * (1 + np.sin(2 * np.pi * 3 * T))
    shown = measure(face(shapes={"jawOpen": jaw, "mouthPucker": bump(T, 2, 3, 0.6)}), speaking=True)
    assert names(shown, "facial_action") == []


def test_surprise_is_wide_eyes_with_open_mouth() -> None:
    shown = measure(face(shapes={"eyeWide": bump(T, 2, 4, 0.2), "jawOpen": bump(T, 2.2, 4, 0.6)}))
    assert shown.emotions == ("surprise",)
    assert "surprise" in shown.expressions


def test_sadness_is_only_ever_a_guess() -> None:
    shown = measure(face(shapes={"browDown": bump(T, 1, 5, 0.5), "mouthFrown": bump(T, 1, 5, 0.5)}))
    assert shown.emotions[0] == "sadness"
    assert all(e.confidence <= 0.6 for e in shown.events if e.kind == "emotion")


@settings(max_examples=40, deadline=None)
@given(hz=st.floats(1.2, 4.0), degrees=st.floats(3.5, 15.0), start_s=st.floats(1.0, 2.5), seed=st.integers(0, 1000))
def test_a_nod_is_a_nod_and_a_shake_is_a_shake(hz: float, degrees: float, start_s: float, seed: int) -> None:
    motion = wave(hz, degrees, start_s, cycles=3)
    quiet = face(seed=seed)
    nodding = measure(replace(quiet, pitch_deg=quiet.pitch_deg + motion))
    shaking = measure(replace(quiet, yaw_deg=quiet.yaw_deg + motion))
    assert "nod" in nodding.head_motion and "shake" not in nodding.head_motion
    assert "shake" in shaking.head_motion and "nod" not in shaking.head_motion
    nod = only(nodding, "nod")
    assert start_s - 0.3 <= nod.start_s and nod.end_s <= start_s + 3 / hz + 0.6  # a return may be slow
    assert 2 <= nod.count <= 4
    assert nodding.summary.n_nods == nod.count


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.0, 2.0))
def test_pose_noise_is_no_gesture(seed: int, noise: float) -> None:
    shown = measure(face(seed=seed, noise=noise))
    assert not {"nod", "shake"} & set(shown.head_motion)


@settings(max_examples=30, deadline=None)
@given(step=st.floats(13, 45), side=st.sampled_from([-1, 1]), ramp_s=st.floats(0.1, 1.0))
def test_a_turn_is_a_turn(step: float, side: int, ramp_s: float) -> None:
    track = face()
    ramp = np.clip((T - 2) / ramp_s, 0, 1) * np.clip((4.5 - T) / ramp_s + 1, 0, 1)
    shown = measure(replace(track, yaw_deg=track.yaw_deg + side * step * ramp), baseline_of(track))
    assert set(shown.head_motion) == {"turn_right" if side > 0 else "turn_left"}


@pytest.mark.parametrize(
    ("field", "degrees", "term"),
    [
        ("roll_deg", 14, "tilt_right"),
        ("roll_deg", -14, "tilt_left"),
        ("pitch_deg", 16, "raise"),
        ("pitch_deg", -16, "lower"),
    ],
)
def test_held_poses(field: str, degrees: float, term: str) -> None:
    track = face()
    shown = measure(replace(track, **{field: getattr(track, field) + bump(T, 2, 4, degrees)}), baseline_of(track))
    assert shown.head_motion == (term,)


@pytest.mark.parametrize("hold_s", [0.0, 0.25])
def test_one_dip_is_one_nod(hold_s: float) -> None:
    track = face()
    dip = -8 * np.clip((T - 2) / 0.3, 0, 1) * np.clip((2.6 + hold_s - T) / 0.3, 0, 1)
    assert only(measure(replace(track, pitch_deg=track.pitch_deg + dip)), "nod").count == 1


def test_gestures_while_speaking_must_be_larger() -> None:
    track = face()
    beating = replace(track, pitch_deg=track.pitch_deg + wave(2, 2.0, 1, 4))
    assert "nod" in measure(beating).head_motion
    assert "nod" not in measure(beating, speaking=True).head_motion


@pytest.mark.parametrize(("seconds", "told"), [(6.0, True), (0.45, False)])
def test_a_swing_cut_off_by_the_border_is_no_gesture(seconds: float, told: bool) -> None:
    track = face(seconds)
    dip = -8 * np.clip(track.t_s / 0.25, 0, 1) * np.clip((0.45 - track.t_s) / 0.2, 0, 1)
    moved = np.roll(dip, 50) if told else dip
    assert ("nod" in measure(replace(track, pitch_deg=track.pitch_deg + moved)).head_motion) == told


def test_under_a_pan_in_profile_and_in_a_small_face_no_gesture_is_told() -> None:
    track = face()
    nodding = replace(track, pitch_deg=track.pitch_deg + wave(2, 8.0, 1, 4))
    assert "nod" in measure(nodding, panned=np.zeros(len(T), np.bool_)).head_motion
    assert "nod" not in measure(nodding, panned=np.ones(len(T), np.bool_)).head_motion
    assert "nod" not in measure(replace(nodding, yaw_deg=nodding.yaw_deg + 60)).head_motion
    small = np.tile([100.0, 100.0, 50.0, 60.0], (len(T), 1))
    assert "nod" not in measure(replace(nodding, box_xywh=small)).head_motion


def test_a_face_in_profile_shows_nothing_and_is_not_called_neutral() -> None:
    turned = measure(face(shapes={"browDown": bump(T, 1, 5, 0.6)}, yaw_deg=np.full(len(T), 60.0)))
    assert names(turned, "facial_action") == [] and turned.expressions == turned.emotions == ()


def test_a_smile_held_wide_open_is_a_laugh() -> None:
    smile = {"mouthSmile": bump(T, 1, 4, 0.8)}
    for speaking in (False, True):
        laughing = measure(face(shapes=smile, mouth_open=bump(T, 1.5, 2.5, 0.3)), speaking=speaking)
        assert only(laughing, "laugh").start_s == pytest.approx(1.5, abs=0.15)
        vowel = measure(face(shapes=smile, mouth_open=bump(T, 1.5, 1.8, 0.3)), speaking=speaking)
        assert "laugh" not in names(vowel, "facial_action")


@pytest.mark.parametrize(
    ("shapes", "target"),
    [
        ({"eyeLookOutLeft": 0.9, "eyeLookInRight": 0.9}, "right"),
        ({"eyeLookInLeft": 0.9, "eyeLookOutRight": 0.9}, "left"),
        ({"eyeLookUp": 0.9}, "up"),
        ({"eyeLookDown": 0.9}, "down"),
        ({"eyeBlink": 0.9}, "closed"),
    ],
)
def test_gaze_targets(shapes: dict[str, float], target: str) -> None:
    assert measure(face(shapes=shapes)).gaze == target


def test_eyes_that_counter_the_head_stay_on_the_camera() -> None:
    """A head turned right with eyes turned left by as much looks into the lens."""
    turned = face(shapes={"eyeLookInLeft": 0.7, "eyeLookOutRight": 0.7}, yaw_deg=np.full(len(T), 20.0))
    assert measure(turned).gaze == "camera"
    assert measure(face(yaw_deg=np.full(len(T), 20.0))).gaze == "right"


def test_gaze_to_the_partners_side_is_partner() -> None:
    signals = face(yaw_deg=np.full(len(T), 25.0))
    assert measure(signals, partner="right").gaze == "partner"
    assert measure(signals, partner="left").gaze == "right"


def test_moving_about() -> None:
    signals = face()
    width = signals.box_xywh[0, 2]
    for amplitude, level in ((0.0, "still"), (0.1, "low"), (0.3, "moderate"), (1.0, "high")):
        box = signals.box_xywh.copy()
        box[:, 0] += amplitude * width * np.sin(2 * np.pi * 0.3 * T)
        assert measure(replace(signals, box_xywh=box)).body_motion == level


def test_gaps_are_bridged_but_are_no_evidence() -> None:
    smiling = face(shapes={"mouthSmile": bump(T, 2, 4, 0.8)})
    hidden = (T > 1.9) & (T < 3.5)
    blind = replace(smiling, blendshapes=np.where(hidden[:, None], np.nan, smiling.blendshapes), valid=~hidden)
    assert "smile" not in names(measure(blind), "facial_action")
    short = (T > 2.5) & (T < 2.8)
    gapped = replace(smiling, blendshapes=np.where(short[:, None], np.nan, smiling.blendshapes), valid=~short)
    assert only(measure(gapped), "smile").confidence < only(measure(smiling), "smile").confidence


def test_a_face_measured_in_no_frame_leaves_the_shot_alone() -> None:
    nobody = replace(face(), valid=np.zeros(len(T), np.bool_))
    shown = measure(nobody)
    assert shown.shot_type == measure(face()).shot_type
    assert shown.events == shown.emotions == shown.expressions == shown.head_motion == ()
    assert (shown.gaze, shown.body_motion, shown.valid_ratio) == ("unknown", "unknown", 0.0)
    with pytest.raises(ValueError, match="no face box"):
        measure(replace(nobody, box_xywh=np.full((len(T), 4), np.nan)))
    with pytest.raises(ValueError, match="no baseline"):
        baseline_of(nobody)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"yaw_deg": np.zeros(3)}, "yaw_deg has shape"),
        ({"blendshapes": np.zeros((150, 51))}, "blendshapes has shape"),
        ({"pitch_deg": np.full(150, np.nan)}, "not finite"),
        ({"t_s": np.zeros(150)}, "does not increase"),
        ({"frame_wh": (0, 10)}, "frame_wh"),
        ({"valid": np.ones(3, np.bool_)}, "valid"),
    ],
)
def test_malformed_signals_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(face(), **changes)


@settings(max_examples=25, deadline=None)
@given(seconds=st.floats(0.08, 1.5), seed=st.integers(0, 100), scale=st.floats(0, 60))
def test_short_and_wild_series_are_measured(seconds: float, seed: int, scale: float) -> None:
    """Whatever comes, events lie inside the segment, confidences in [0, 1], and a repetition gives the same."""
    rng = np.random.default_rng(seed)
    n = len(time_axis(seconds))
    wild = {name: rng.normal(0, scale, n) for name in ("yaw_deg", "pitch_deg", "roll_deg")}
    signals = face(seconds, blendshapes=rng.random((n, 52)), valid=rng.random(n) < 0.8, **wild)
    if not signals.valid.any():
        return
    shown = measure(signals, baseline_of(signals), speaking=bool(seed % 2))
    assert shown == measure(signals, baseline_of(signals), speaking=bool(seed % 2))
    for event in shown.events:
        assert shown.start_s <= event.start_s < event.end_s <= shown.end_s + 1e-9
        assert 0 <= event.confidence <= 1
        assert event.tag(10.0).annotator == "signal-rules-v1"


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=60), st.floats(0.5, 5))
def test_swings_alternate_and_are_large_enough(values: list[float], least: float) -> None:
    series = np.array(values)
    sizes = [series[b] - series[a] for a, b in swings(series, least)]
    assert all(abs(size) >= least - 1e-9 for size in sizes)
    assert all(a * b < 0 for a, b in pairwise(sizes))


def test_spans_have_hysteresis() -> None:
    series = np.array([0, 0.3, 0.6, 0.3, 0.3, 0, 0.3, 0.3, 0])
    assert spans(series, 0.5, 0.2, 1) == [(1, 5)]
    assert spans(series, 0.5, 0.2, 5) == []
    with pytest.raises(ValueError, match="hysteresis"):
        spans(series, 0.2, 0.5, 1)


def test_low_pass_leaves_a_constant_alone() -> None:
    assert low_pass(np.full(40, 3.0), 2.0) == pytest.approx(np.full(40, 3.0))


def test_shot_types_run_from_close_to_full() -> None:
    assert tuple(name for name, _ in SHOT_LIMITS) == SHOT_TYPES.names
    found = [shot_type(height, 1000) for height in range(1000, 0, -10)]
    assert list(dict.fromkeys(found)) == list(SHOT_TYPES.names)
    with pytest.raises(ValueError, match="must be positive"):
        shot_type(0, 720)
