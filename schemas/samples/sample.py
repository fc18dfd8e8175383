"""What a sample's `.json` member holds: all that a trainer or an auditor needs without the rest of the dataset.

Times named `*_s` inside `words`, `states` and `events` are seconds from the start of the clip; `source.start_s` and
`source.end_s` place the clip in its source. `schemas.samples.members` says which other members there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from schemas.column import Column
from schemas.json_schema import column_schema
from schemas.packed import Part
from schemas.time import PACKED_AUDIO_HZ

V = TypeVar("V")

FPS = 25
"""Frame rate of packed video, 1/s."""

SAMPLES_PER_FRAME = PACKED_AUDIO_HZ // FPS
"""Audio samples a video frame: 1920."""

State = Literal["speak", "listen", "idle", "both"]
ReferenceKind = Literal["global", "view", "expression"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Packed(BaseModel):
    """A part of the sample that takes the columns which tables mark as packed, beside fields of its own.

    `sample.scores[SegmentRow.music]` is the value of a column.
    """

    model_config = ConfigDict(frozen=True, extra="allow", json_schema_extra=lambda schema: _packed_schema(schema))
    __pydantic_extra__: dict[str, JsonValue]

    @classmethod
    def of(cls, values: Mapping[Column[Any], object], **own: object) -> Self:
        """Make the part from values of columns and its own fields."""
        return cls.model_validate({**own, **{column.name: value for column, value in values.items()}})

    def __getitem__(self, column: Column[V]) -> V:
        """Return the value of a column; what stands for none where the sample has no such value."""
        value: Any = self.__pydantic_extra__.get(column.name, column.absent)
        return cast(V, value)


def _packed_schema(schema: JsonDict) -> None:
    """Name the columns of a part in its JSON Schema."""
    from schemas.units import packed_columns

    properties = cast(JsonDict, schema.setdefault("properties", {}))
    part = str(schema["title"]).lower()
    properties |= {c.name: column_schema(c) for _, _, c in packed_columns() if c.packed and c.packed.part == part}


class SourceRef(_Model):
    """Where the clip comes from."""

    source_id: str
    sha256: str = Field(description="of the source file's bytes")
    name: str = Field(description="file name as registered")
    start_s: float
    end_s: float
    shot_id: str
    track_id: str
    session: str | None = None


class Rights(_Model):
    """What is known of the right to use it; null = unknown."""

    license: str | None = None
    rights_holder: str | None = None
    consent: str | None = None


class Video(_Model):
    """The picture member."""

    width: int
    height: int
    fps: float
    n_frames: int
    crop_xywh: list[float] = Field(description="person crop in the source picture, pixels; mean of one that moves")
    crop_path: list[list[float]] = Field(
        default_factory=list,
        description="knots of a crop that follows the face: seconds from the clip's start, x, y, w, h; empty = still",
    )
    framing: str = Field(default="", description="half_body, shoulders, narrowed or tight")
    median_face_px: float


class Audio(_Packed):
    """The two sound members; with columns of `clips`."""

    rate_hz: int
    n_samples: int = Field(description="of each track")
    shift_ms: float = Field(description="sound moved by this much to correct a constant lip-audio offset")


class WordRef(_Model):
    """A recognised word inside the clip; words that are not known are left out."""

    word: str
    start_s: float
    end_s: float
    probability: float
    speaker_id: str | None = None


class StateRun(_Model):
    """A run of the person's state inside the clip."""

    state: str
    start_s: float
    end_s: float
    confidence: float
    reason: str


class EventRef(_Model):
    """What the person is seen to do for a while inside the clip, from the table `events`."""

    event: str = Field(description="term, such as nod, smile, look_away")
    kind: str = Field(description="facial_action, head_motion, gaze or body_action")
    start_s: float
    end_s: float
    confidence: float = Field(description="0-1, not calibrated")
    direction: str | None = Field(default=None, description="of a lean")


class ReferenceRef(_Model):
    """One reference image."""

    member: str = Field(description="ref.jpg, or the name of a file in refs.tar, e.g. ref_view_0.jpg")
    kind: ReferenceKind
    source_id: str
    time_s: float = Field(description="on the clock of its own source")
    distance: float = Field(description="identity distance to the person's mean embedding")
    view: str
    expression: str
    quality: float
    overlaps_clip: bool


class Performance(_Packed):
    """The performance annotation: columns of `captions` and of other tables."""


class Scores(_Packed):
    """Measurements behind the labels: columns of `segments` and of other tables."""

    state_confidence: float


class Sample(_Model):
    """The `.json` member."""

    sample_id: str
    format: Literal[1, 2] = Field(default=2, description="1: each reference is a member of its own name")
    state: State
    category: str = Field(default="Unknown", description="LPM 1.0's class of the clip, e.g. Listen_dialogue")
    split: str
    identity_id: str
    text: str | None = Field(description="words spoken or heard; null where they are not known")
    language: str | None
    source: SourceRef
    rights: Rights
    video: Video
    audio: Audio
    words: list[WordRef]
    states: list[StateRun]
    events: list[EventRef] = Field(default_factory=list, description="in order of time; empty in datasets of before")
    partner: str | None = None
    partner_track_id: str | None = None
    pair_id: str | None = None
    pair_status: Literal["paired", "orphan", "off_screen"] | None = None
    performance: Performance
    references: list[ReferenceRef]
    scores: Scores
    annotators: dict[str, dict[str, str]] = Field(description="stage -> back-ends and weights' SHA-256")
    policy_id: str

    def part(self, column: Column[Any]) -> _Packed:
        """Return the part that holds a packed column. Raises KeyError where the column is not marked."""
        if column.packed is None:
            raise KeyError(f"{column.name} is not packed")
        parts: dict[Part, _Packed] = {"scores": self.scores, "performance": self.performance, "audio": self.audio}
        return parts[column.packed.part]
