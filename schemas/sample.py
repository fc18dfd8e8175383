"""What a sample's `.json` member holds: all that a trainer or an auditor needs without the rest of the dataset.

Times named `*_s` inside `words` and `states` are seconds from the start of the clip; `source.start_s` and
`source.end_s` place the clip in its source. Members of a sample, by key suffix: `.mp4` (25 fps, no sound),
`.speak.flac` and `.listen.flac` (48 kHz mono, n_frames * 1920 samples), `.json`, and `.ref_<kind>_<n>.jpg`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.time import PACKED_AUDIO_HZ

FPS = 25
"""Frame rate of packed video, 1/s."""

SAMPLES_PER_FRAME = PACKED_AUDIO_HZ // FPS
"""Audio samples a video frame: 1920."""

State = Literal["speak", "listen", "idle", "both"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Audio(_Model):
    """The two sound members."""

    rate_hz: int
    n_samples: int = Field(description="of each track")
    shift_ms: float = Field(description="sound moved by this much to correct a constant lip-audio offset")
    speak_level_db: float | None = None
    listen_level_db: float | None = None
    speak_wrong_energy: float | None = Field(
        default=None, description="share of the speak audio under another voice, 0-1"
    )
    listen_wrong_energy: float | None = Field(
        default=None, description="share of the listen audio under the own voice, 0-1"
    )
    overlap_s: float = Field(default=0.0, description="own and another voice at once")
    separated_s: float = Field(default=0.0, description="of these, taken apart by a separation model")


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


class ReferenceRef(_Model):
    """One reference image member."""

    member: str = Field(description="key suffix, e.g. ref_global_0.jpg")
    kind: Literal["global", "view", "expression"]
    source_id: str
    time_s: float = Field(description="on the clock of its own source")
    distance: float = Field(description="identity distance to the person's mean embedding")
    view: str
    expression: str
    quality: float
    overlaps_clip: bool


class Performance(_Model):
    """The performance annotation."""

    caption: str
    emotions: list[str]
    expressions: list[str]
    head_motion: list[str]
    gaze: str
    stance: str | None
    shot_type: str
    body_motion: str
    hands: str = Field(default="unknown", description="what is seen of the hands in the clip")
    posture: str | None = Field(default=None, description="standing or sitting; null = legs not seen")
    speaking_style: list[str] = Field(default_factory=list, description="heuristics on pitch, level and rate")
    camera: str = Field(default="unknown", description="camera motion term")
    clothing: str | None = Field(default=None, description="colour below the chin, by a heuristic; null = not clear")
    hair: str | None = Field(default=None, description="null = no captioner looked at pictures, or it is not clear")
    glasses: bool | None = Field(default=None, description="null likewise")
    place: str | None = Field(default=None, description="null likewise")
    contradictions: list[str]
    annotator: str


class Scores(_Model):
    """Measurements behind the labels."""

    state_confidence: float
    asd_mean: float | None = None
    sync_offset_ms: float | None = None
    sync_confidence: float | None = None
    speech_ratio: float
    overlap_ratio: float
    visible_ratio: float
    music: float | None = None
    singing: float | None = None
    laughter: float | None = None
    noise: float | None = None


class Sample(_Model):
    """The `.json` member."""

    sample_id: str
    format: Literal[1] = 1
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
    partner: str | None = None
    partner_track_id: str | None = None
    pair_id: str | None = None
    pair_status: Literal["paired", "orphan", "off_screen"] | None = None
    performance: Performance
    references: list[ReferenceRef]
    scores: Scores
    annotators: dict[str, dict[str, str]] = Field(description="stage -> back-ends and weights' SHA-256")
    policy_id: str
