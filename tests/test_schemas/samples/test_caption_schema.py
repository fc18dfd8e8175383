"""Vocabularies, the caption model, time words, and contradictions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.samples.caption import PerformanceCaption, Tag, time_words
from schemas.samples.caption_checks import SignalSummary, contradictions
from schemas.samples.vocabulary import EMOTIONS, EXPRESSIONS, STANCES, VOCABULARIES


def caption(**changes: Any) -> PerformanceCaption:
    fields: dict[str, Any] = {
        "state": "listen",
        "shot_type": "close_up",
        "prose": "Close-up of a person listening silently with a neutral expression.",
        "annotator": "test",
        "time_invariant": True,
    }
    return PerformanceCaption(**{**fields, **changes})


def test_counts_are_the_papers() -> None:
    assert len(EMOTIONS.terms) == 78
    assert sum(t.origin == "paper_page" for t in EMOTIONS.terms) == 37
    assert len(EXPRESSIONS.terms) == 22
    assert sum(t.origin == "paper_page" for t in EXPRESSIONS.terms) == 14
    assert {t.origin for t in STANCES.terms} == {"paper_page"}


@pytest.mark.parametrize("kind", sorted(VOCABULARIES))
def test_terms_are_plain_words(kind: str) -> None:
    assert all(name.replace("_", "").isalpha() and name.islower() for name in VOCABULARIES[kind].names)


def test_json_schema_lists_the_terms() -> None:
    schema = PerformanceCaption.model_json_schema()
    assert schema["properties"]["emotions"]["items"]["enum"] == list(EMOTIONS.names)
    assert set(schema["required"]) >= {"state", "prose", "shot_type", "time_invariant"}


def test_a_caption_survives_json() -> None:
    tag = Tag(name="nod", kind="head_motion", start_s=1.0, end_s=1.5, confidence=0.5, annotator="test")
    first = caption(emotions=("calmness", "interest"), head_motion=("nod",), stance="positive", tags=(tag,))
    assert PerformanceCaption.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"emotions": ("hungry",)}, "not a emotion term"),
        ({"emotions": ("joy", "joy")}, "twice"),
        ({"state": "speak", "stance": "neutral"}, "leave it null"),
        ({"time_invariant": False}, "must be time-invariant"),
        ({"prose": "A person smiles, then nods."}, "time words"),
        ({"prose": ""}, "at least 1"),
        ({"mood": "fine"}, "Extra inputs"),
    ],
)
def test_refuses(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        caption(**changes)


def test_speakers_may_tell_a_sequence() -> None:
    assert caption(state="speak", prose="Smiles, then nods twice.", time_invariant=False).state == "speak"


@pytest.mark.parametrize(
    "prose",
    [
        "begins to smile",
        "nods after a pause",
        "smiles at 2 s",
        "looks down for 1.5 seconds",
        "nods while he says it",
        "nods twice",
        "smiles towards the end",
        "finally laughs",
        "becomes sad",
        "reacts as she talks",
    ],
)
def test_finds_time_words(prose: str) -> None:
    assert time_words(prose)


@pytest.mark.parametrize(
    "prose",
    [
        "A calm person with occasional small nods, sitting still next to a window.",
        "A startled, friendly person, looking at the camera, attentive.",
    ],
)
def test_lasting_description_has_no_time_words(prose: str) -> None:
    assert time_words(prose) == []


@given(start=st.floats(0, 1e5), length=st.floats(0, 100), offset=st.floats(0, 1e5))
def test_shifting_keeps_a_tags_length(start: float, length: float, offset: float) -> None:
    tag = Tag(name="waves", kind="motion", start_s=start, end_s=start + length, confidence=1, annotator="test")
    moved = tag.shifted(offset)
    assert moved.end_s - moved.start_s == pytest.approx(tag.end_s - tag.start_s, abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{"end_s": 0.5}, {"confidence": 1.5}, {"name": "Nod"}, {"name": "smile"}, {"start_s": float("nan")}],
)
def test_bad_tags_are_refused(changes: dict[str, Any]) -> None:
    good = {"name": "nod", "kind": "head_motion", "start_s": 1.0, "end_s": 2.0, "confidence": 0.5, "annotator": "t"}
    Tag.model_validate(good)
    with pytest.raises(ValidationError):
        Tag.model_validate({**good, **changes})


@pytest.mark.parametrize(
    ("prose", "state", "found"),
    [
        ("A person speaking to the camera.", "listen", True),
        ("A person talks.", "idle", True),
        ("A person listens without speaking.", "listen", False),
        ("A person listening to the other person speaking.", "listen", False),
        ("A person listening silently.", "idle", True),
        ("A silent person.", "idle", False),
    ],
)
def test_prose_against_the_timeline(prose: str, state: Any, found: bool) -> None:
    assert bool(contradictions(caption(state=state, prose=prose), state)) is found


def test_speaker_called_silent() -> None:
    silent = caption(state="speak", prose="A person listening silently.", time_invariant=False)
    assert len(contradictions(silent, "speak")) == 2
    assert contradictions(silent, "listen") == ["caption is for state speak, the timeline says listen"]


def test_claims_against_measurements() -> None:
    said = caption(
        expressions=("smiling",), gaze="camera", head_motion=("nod", "shake", "still"), shot_type="full", prose="Grins."
    )
    measured = SignalSummary(
        smile_ratio=0.0, camera_gaze_ratio=0.1, still_ratio=0.0, n_nods=0, n_shakes=0, shot_type="close_up"
    )
    assert len(contradictions(said, "listen", measured)) == 6
    assert contradictions(said, "listen", SignalSummary()) == []
    agreeing = SignalSummary(0.4, 0.9, 0.5, 2, 1, "medium_full")
    assert contradictions(said, "listen", agreeing) == []
    frozen = caption(expressions=("neutral",), gaze="down")
    assert len(contradictions(frozen, "listen", SignalSummary(smile_ratio=0.9, camera_gaze_ratio=0.9))) == 2
    assert contradictions(caption(prose="A person who is not smiling."), "listen", measured) == []
