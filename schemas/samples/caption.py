"""Performance captions: tags with evidence, terms from controlled vocabularies, and one prose sentence.

A trainer reads `prose`; annotators query the terms; auditors follow a tag to the seconds it rests on. A listener's
prose says only what holds for the whole clip, because while a person listens no caption can know what comes next
(paper, arXiv 2604.07823, listener data). Validation takes microseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from schemas.samples.sample import State
from schemas.samples.vocabulary import (
    BODY_MOTIONS,
    CAMERA_MOTIONS,
    CLOTHING_COLOURS,
    EMOTIONS,
    EXPRESSIONS,
    GAZES,
    HAIR,
    HANDS,
    HEAD_MOTIONS,
    PERSONALITIES,
    PLACES,
    RELATIONSHIPS,
    SHOT_TYPES,
    SPEAKING_STYLES,
    STANCES,
    VOCABULARIES,
    Vocabulary,
)
from schemas.tables.performance import CaptionRow

TagKind = Literal[
    "emotion",
    "expression",
    "facial_action",
    "head_motion",
    "body_motion",
    "body_action",
    "gaze",
    "stance",
    "shot_type",
    "motion",
]


def _term(vocabulary: Vocabulary) -> tuple[AfterValidator, WithJsonSchema]:
    def check(word: str) -> str:
        if word not in vocabulary:
            raise ValueError(f"{word!r} is not a {vocabulary.kind} term; known: {', '.join(vocabulary.names)}")
        return word

    return AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(vocabulary.names)})


Emotion = Annotated[str, *_term(EMOTIONS)]
Expression = Annotated[str, *_term(EXPRESSIONS)]
Stance = Annotated[str, *_term(STANCES)]
Relationship = Annotated[str, *_term(RELATIONSHIPS)]
Personality = Annotated[str, *_term(PERSONALITIES)]
ShotType = Annotated[str, *_term(SHOT_TYPES)]
Gaze = Annotated[str, *_term(GAZES)]
HeadMotion = Annotated[str, *_term(HEAD_MOTIONS)]
BodyMotion = Annotated[str, *_term(BODY_MOTIONS)]
SpeakingStyleTerm = Annotated[str, *_term(SPEAKING_STYLES)]
HandsTerm = Annotated[str, *_term(HANDS)]
CameraMotionTerm = Annotated[str, *_term(CAMERA_MOTIONS)]
ClothingColour = Annotated[str, *_term(CLOTHING_COLOURS)]
Hair = Annotated[str, *_term(HAIR)]
Place = Annotated[str, *_term(PLACES)]

# Words that place something within the clip or count its occurrences. "next to" is a place, "still" mostly a posture.
_TIME_WORDS = re.compile(
    r"""\b(?:then|after(?:wards?)?|before(?:hand)?|(?:begin|start|end|stop|finish|continu|becom)(?:s|es|ning|ing|ping|e)?
    |began|started|ended|stopped|beginning|finally|first(?:ly)?|lastly|eventually|initially|subsequently|suddenly
    |gradually|meanwhile|while|whilst|during|until|when|whenever|once|twice|thrice|(?:two|three|four|\d+)\ times
    |next(?!\ to)|later|soon|now|briefly|momentarily|early\ on|midway|halfway|as\ (?:he|she|they|it)\b
    |(?:at|after|from|for|in|by)\ \d+(?:\.\d+)?\ ?(?:ms|s|sec|secs|seconds?|minutes?|frames?)
    |\d+(?:\.\d+)?\ ?(?:ms|seconds?|s\b)|(?:at|towards?|near|in)\ the\ (?:end|start|beginning|middle))\b""",
    re.IGNORECASE | re.VERBOSE,
)


def time_words(prose: str) -> list[str]:
    """Return the words of an English text that speak of moments, order or counts, in order of appearance."""
    return [match.group(0).lower() for match in _TIME_WORDS.finditer(prose)]


class Tag(BaseModel):
    """One observation with the stretch of time that is its evidence, in seconds; who observed it, how surely."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="a term of the kind's vocabulary; any for `motion`")
    kind: TagKind
    start_s: float = Field(ge=0, allow_inf_nan=False, description="start of the evidence, inclusive")
    end_s: float = Field(ge=0, allow_inf_nan=False, description="end of the evidence, exclusive")
    confidence: float = Field(ge=0, le=1, description="the annotator's own; a heuristic's is not calibrated")
    annotator: str = Field(min_length=1, description="what produced it; a heuristic says so in its name")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.end_s < self.start_s:
            raise ValueError(f"tag {self.name}: evidence ends ({self.end_s}) before it starts ({self.start_s})")
        vocabulary = VOCABULARIES.get(self.kind)
        if vocabulary is not None and self.name not in vocabulary:
            raise ValueError(f"{self.name!r} is not a {self.kind} term; known: {', '.join(vocabulary.names)}")
        return self

    def shifted(self, offset_s: float) -> Tag:
        """Return the tag on another clock: `offset_s` is added to its times."""
        return Tag(
            name=self.name,
            kind=self.kind,
            start_s=self.start_s + offset_s,
            end_s=self.end_s + offset_s,
            confidence=self.confidence,
            annotator=self.annotator,
        )


class PerformanceCaption(BaseModel):
    """What one segment's person shows. Lists are strongest first and hold no term twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State
    emotions: tuple[Emotion, ...] = ()
    expressions: tuple[Expression, ...] = ()
    stance: Stance | None = Field(default=None, description="of a listener; null in other states")
    gaze: Gaze = "unknown"
    head_motion: tuple[HeadMotion, ...] = ()
    body_motion: BodyMotion = "unknown"
    hands: HandsTerm = "unknown"
    posture: Literal["standing", "sitting"] | None = Field(default=None, description="null = legs not seen")
    shot_type: ShotType
    speaking_style: tuple[SpeakingStyleTerm, ...] = ()
    camera: CameraMotionTerm = "unknown"
    clothing: ClothingColour | None = Field(default=None, description="colour below the chin; null = not measured")
    hair: Hair | None = Field(default=None, description="null = not looked at, or not clear")
    glasses: bool | None = Field(default=None, description="null likewise")
    place: Place | None = Field(default=None, description="null likewise")
    relationship: Relationship | None = None
    personality: tuple[Personality, ...] = ()
    prose: str = Field(min_length=1, max_length=1000, description="one caption, to be read beside the picture")
    tags: tuple[Tag, ...] = Field(default=(), description="the evidence, in order of time")
    annotator: str = Field(min_length=1)
    time_invariant: bool = Field(description="the prose holds for every moment of the clip; always so for listen")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("emotions", "expressions", "head_motion", "speaking_style", "personality"):
            terms = getattr(self, name)
            if len(set(terms)) != len(terms):
                raise ValueError(f"{name} holds a term twice: {list(terms)}")
        if self.stance is not None and self.state != "listen":
            raise ValueError(f"a listening stance ({self.stance}) in state {self.state}: leave it null")
        if self.state == "listen" and not self.time_invariant:
            raise ValueError("a listener's caption must be time-invariant: describe what holds for the whole clip")
        found = time_words(self.prose) if self.time_invariant else []
        if found:
            raise ValueError(f"a time-invariant caption holds time words {found}: say what holds for the whole clip")
        return self

    def row(self, segment_id: str, source_id: str, contradictions: Sequence[str], voice: Voice) -> CaptionRow:
        """Return the row of CAPTIONS, with what was found against the caption and the figures of the voice."""
        return CaptionRow(
            segment_id=segment_id,
            source_id=source_id,
            caption=self.prose,
            emotions=list(self.emotions),
            expressions=list(self.expressions),
            head_motion=list(self.head_motion),
            gaze=self.gaze,
            stance=self.stance,
            shot_type=self.shot_type,
            body_motion=self.body_motion,
            hands=self.hands,
            posture=self.posture,
            speaking_style=list(self.speaking_style),
            pitch_hz=voice.pitch_hz,
            pitch_range_st=voice.pitch_range_st,
            syllables_per_s=voice.syllables_per_s,
            level_over_usual_db=voice.level_over_usual_db,
            camera=self.camera,
            clothing=self.clothing,
            hair=self.hair,
            glasses=self.glasses,
            place=self.place,
            tags=json.dumps([tag.model_dump() for tag in self.tags], separators=(",", ":")),
            contradictions=list(contradictions),
            annotator=self.annotator,
        )


class Voice(Protocol):
    """Figures of a voice over a segment; None = not measured."""

    @property
    def pitch_hz(self) -> float | None:
        """Median pitch."""

    @property
    def pitch_range_st(self) -> float | None:
        """Its range in semitones."""

    @property
    def syllables_per_s(self) -> float | None:
        """Syllable nuclei a second of speech."""

    @property
    def level_over_usual_db(self) -> float | None:
        """Level against the voice's usual one."""
