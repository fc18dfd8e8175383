"""Captions by rules: what the sentence says, and what it never says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_factory import bump, face, time_axis

from annotators.captions.captioner import Captioner, ClipContext, SignalCaptioner
from annotators.performance.performance_signals import measure
from annotators.performance.speaking_style import SpeakingStyle
from schemas.samples.caption import PerformanceCaption, time_words
from schemas.samples.caption_checks import contradictions
from schemas.samples.vocabulary import CAMERA_MOTIONS

T = time_axis(6)
NEVER = re.compile(r"\b(?:he|she|his|her|him|man|woman|boy|girl|young|old|wear\w*|hair|beautiful|sitting|standing)\b")


def caption(state: Any, signals: Any = None, **context: Any) -> PerformanceCaption:
    captioner: Captioner = SignalCaptioner()
    return captioner.caption(ClipContext(state, face() if signals is None else signals, **context))


def test_a_still_listener() -> None:
    said = caption("listen", face(face_share=0.5), partner="off_screen")
    assert said.prose == (
        "Close-up of a person listening silently to someone off screen with a neutral, attentive expression,"
        " looking at the camera, holding the head still."
    )
    assert said.stance == "neutral"
    assert said.time_invariant


def test_a_nodding_listener() -> None:
    track = face()
    motion = np.where((T > 2) & (T < 3), -3 * np.sin(2 * np.pi * 2 * (T - 2)), 0)
    said = caption("listen", replace(track, pitch_deg=track.pitch_deg + motion))
    assert "with frequent small nods" in said.prose
    assert said.stance == "positive_agreeable"
    assert time_words(said.prose) == []


def test_a_smiling_listener_is_warm() -> None:
    said = caption("listen", face(shapes={"mouthSmile": 0.8}))
    assert "with a smiling, attentive expression" in said.prose
    assert said.stance == "positive"


def test_a_frowning_listener_who_looks_away_thinks() -> None:
    said = caption("listen", face(shapes={"browDown": 0.6, "eyeLookUp": 0.9}))
    assert said.stance == "neutral_thinking"
    assert "attentive" not in said.prose


def test_an_idle_person_neither_listens_nor_speaks() -> None:
    said = caption("idle")
    assert said.prose.startswith("Medium close-up of a silent person with a neutral expression")
    assert said.stance is None


def test_a_speakers_sentence_follows_time() -> None:
    shapes = {"browInnerUp": bump(T, 0.5, 1.2, 0.7), "browOuterUp": bump(T, 0.5, 1.2, 0.7)}
    shapes["mouthSmile"] = bump(T, 4, 5.6, 0.8)
    said = caption("speak", face(shapes=shapes))
    assert said.prose == (
        "Medium close-up of a person speaking to the camera; shows happiness; raises the brows early on,"
        " then smiles towards the end."
    )
    assert not said.time_invariant
    assert [t.name for t in said.tags if t.kind == "facial_action"] == ["brow_raise", "smile"]


def test_repetition_is_said_once() -> None:
    smiles = sum(bump(T, start, start + 0.9, 0.8) for start in (0.3, 2.3, 4.3))
    assert caption("speak", face(shapes={"mouthSmile": smiles})).prose.count("smile") == 1


def test_a_question_is_heard() -> None:
    assert "asking a question" in caption("speak", text="Do you know that?").prose
    assert "asking a question" not in caption("speak", text="I see. Do you?").prose
    assert "asking" not in caption("listen", text="Do you know that?").prose


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ((), "person speaking to"),
        (("fast",), "person speaking fast to"),
        (("energetic", "fast"), "person speaking energetically and fast to"),
        (("slow", "soft", "monotone"), "person speaking slowly, softly and in a monotone to"),
    ],
)
def test_how_a_person_speaks_is_said(terms: tuple[str, ...], words: str) -> None:
    said = caption("speak", voice=SpeakingStyle(terms=terms))
    assert words in said.prose and said.speaking_style == terms
    assert "fast" not in caption("listen", voice=SpeakingStyle(terms=terms)).prose


@pytest.mark.parametrize("state", ["speak", "listen", "idle", "both"])
@pytest.mark.parametrize("camera", [c for c in CAMERA_MOTIONS.names if c != "unknown"])
def test_the_cameras_motion_is_said_of_any_state(state: Any, camera: str) -> None:
    said = caption(state, camera=camera)
    assert said.camera == camera and ". The camera " in said.prose
    assert contradictions(said, state, measure(face(), speaking=state in ("speak", "both")).summary) == []


def test_what_is_not_measured_of_looks_and_camera_is_not_said() -> None:
    assert "The camera" not in caption("speak").prose and caption("speak").clothing is None
    assert caption("idle", clothing="dark").prose.startswith("Medium close-up of a silent person in dark clothes with")
    assert "person in red listening silently" in caption("listen", clothing="red").prose
    assert "person in red speaking" in caption("speak", clothing="red").prose


def test_overlap_is_named() -> None:
    said = caption("both")
    assert "at the same time as another voice" in said.prose
    assert said.stance is None


def test_tags_are_on_the_signals_clock() -> None:
    later = face(shapes={"mouthSmile": bump(T, 2, 4, 0.8)})
    tags = caption("speak", replace(later, t_s=later.t_s + 100)).tags
    smile = next(t for t in tags if t.name == "smile")
    assert smile.start_s == pytest.approx(102, abs=0.2)
    assert smile.annotator == "signal-rules-v1"


@pytest.mark.parametrize("state", ["speak", "listen", "idle", "both"])
def test_of_a_face_that_was_never_read_only_the_shot_and_the_state_are_said(state: Any) -> None:
    said = caption(state, replace(face(), valid=np.zeros(len(T), np.bool_)))
    assert said.emotions == said.expressions == said.tags == ()
    assert said.stance is None and said.gaze == said.body_motion == "unknown"
    assert (
        said.prose
        == {
            "speak": "Medium close-up of a person speaking.",
            "both": "Medium close-up of a person speaking at the same time as another voice.",
            "listen": "Medium close-up of a person listening silently.",
            "idle": "Medium close-up of a silent person.",
        }[state]
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    state=st.sampled_from(["speak", "listen", "idle", "both"]),
    seconds=st.floats(0.2, 9),
    partner=st.sampled_from([None, "on_screen", "off_screen"]),
    side=st.sampled_from([None, "left", "right"]),
)
def test_any_series_gives_a_caption_without_contradiction(
    seed: int, state: Any, seconds: float, partner: Any, side: Any
) -> None:
    """Random slow blendshapes and poses: the caption validates, agrees with itself, repeats, and keeps to faces."""
    rng = np.random.default_rng(seed)
    t_s = time_axis(seconds)
    waves = 0.5 + 0.5 * np.sin(t_s[:, None] * rng.uniform(0.5, 6, 52) + rng.uniform(0, 6.3, 52))
    pose = {n: rng.uniform(0, 25) * np.sin(t_s * rng.uniform(0.3, 9)) for n in ("yaw_deg", "pitch_deg", "roll_deg")}
    signals = face(seconds, blendshapes=waves * rng.uniform(0, 1, 52), face_share=rng.uniform(0.05, 0.9), **pose)
    context = {"partner": partner, "partner_side": side}
    said = caption(state, signals, **context)
    assert said == caption(state, signals, **context)
    summary = measure(signals, speaking=state in ("speak", "both"), partner=side).summary
    assert contradictions(said, state, summary) == []
    assert not NEVER.search(said.prose.lower())
    assert said.prose[0].isupper() and said.prose.endswith(".") and "  " not in said.prose
    if state in ("listen", "idle"):
        assert time_words(said.prose) == []


def test_a_face_too_small_for_a_frown_is_not_called_neutral() -> None:
    box = np.tile([100.0, 100.0, 60.0, 75.0], (len(T), 1))
    smiling = face(shapes={"mouthSmile": bump(T, 1, 2, 0.8)}, box_xywh=box)
    said = caption("listen", smiling)
    assert "neutral" not in said.prose and "an occasional smile" in said.prose
    assert "neutral" not in caption("speak", smiling).prose
