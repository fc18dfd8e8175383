"""Tables of states over time and of candidate clips."""

from __future__ import annotations

from collections.abc import Mapping

from schemas import columns as c
from schemas.column import Column
from schemas.packed import IN_SCORES, SCORES
from schemas.row import Row
from schemas.table import Table

STATE_REASONS: Mapping[str, str] = {
    "synced_voice": "the lips follow the voice that is heard",
    "heard_voice": "somebody else is heard and the lips rest",
    "silence": "nobody is heard and the lips rest",
    "overlapped_voices": "the person speaks while another voice is heard",
    "lips_without_voice": "the lips move as in speech, but nothing is heard",
    "foreign_voice": "the lips move as in speech, but the voice that is heard is not theirs",
    "own_voice_still_lips": "the person's own voice is heard, but the lips do not move",
    "unsure": "the lips could not be measured",
    "backchannel": "the person answers in passing while the other goes on",
    "human_label": "a person labelled it",
    "laughter": "the person laughs",
}
"""What each reason of a state means."""


class TimelineRow(Row):
    """Each track's states over time; runs partition the track."""

    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    state: Column[str] = c.text("speak, listen, idle, both, or discard")
    reason: Column[str] = c.text(
        "what decided it: e.g. synced_voice, heard_voice, silence, lips_without_voice, foreign_voice, human_label"
    )
    confidence: Column[float] = c.real("mean confidence of the run", "0-1")
    partner: Column[str | None] = c.text("track or voice this person listens or speaks to", null=True)


TIMELINE = Table(TimelineRow, "timeline", (TimelineRow.track_id, TimelineRow.start_s))


class SegmentRow(Row):
    """Candidate clips: they partition each track, discarded stretches included."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    shot_id: Column[str] = c.shot_id()
    track_id: Column[str] = c.track_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    duration_s: Column[float] = c.duration_s()
    state: Column[str] = c.text("speak, listen, idle, both, or discard")
    reason: Column[str] = c.text("why this state")
    category: Column[str] = c.text(
        "Speak, Conversation, Listen_dialogue, Listen_nondialogue, Silence or Unknown: LPM 1.0's classes, by rule"
    )
    confidence: Column[float] = c.real("mean state confidence", "0-1")
    state_ratio: Column[float] = c.real("share of the segment in its own state", "0-1")
    speaker_id: Column[str | None] = c.text("the voice heard most", null=True)
    partner_track_id: Column[str | None] = c.text("face of the other person, where one is seen", null=True)
    partner: Column[str | None] = c.text("off-screen voice or track of the other person", null=True)
    pair_id: Column[str | None] = c.text("groups segments of one exchange: same source, overlapping time", null=True)
    text: Column[str | None] = c.text(
        "words spoken by this person (speak) or heard (listen), … for those not known; null where less than "
        "half is known, empty in idle",
        null=True,
    )
    word_probability: Column[float | None] = c.real("mean confidence of all words, known or not", "0-1", null=True)
    speech_ratio: Column[float] = c.real("share of the segment with speech", "0-1", packed=IN_SCORES)
    overlap_ratio: Column[float] = c.real("share of the segment with two voices at once", "0-1", packed=IN_SCORES)
    asd_mean: Column[float | None] = c.real("mean active speaker score", null=True, packed=SCORES)
    sync_offset_ms: Column[float | None] = c.real(
        "lip-audio offset of the track; null where the voice heard is not its own", "ms", null=True, packed=SCORES
    )
    sync_confidence: Column[float | None] = c.real("its confidence", null=True, packed=SCORES)
    level_db: Column[float | None] = c.real("RMS level of the sound", "dBFS", null=True)
    music: Column[float | None] = c.real(
        "mean score of music in the sound; null where there is none", "0-1", null=True, packed=SCORES
    )
    singing: Column[float | None] = c.real(
        "mean score of singing in the sound; null where there is none", "0-1", null=True, packed=SCORES
    )
    laughter: Column[float | None] = c.real(
        "mean score of laughter in the sound; null where there is none", "0-1", null=True, packed=SCORES
    )
    noise: Column[float | None] = c.real(
        "mean score of noise in the sound; null where there is none", "0-1", null=True, packed=SCORES
    )
    visible_ratio: Column[float] = c.real(
        "share of grid points with a face: landmarks fit it, or the detector was sure", "0-1", packed=IN_SCORES
    )
    median_face_px: Column[float] = c.real("median shorter side of the face box", "px")
    frozen_ratio: Column[float] = c.real("share of frozen frames", "0-1")
    cuts_word: Column[bool] = c.flag("a border lies inside a recognised word")


SEGMENTS = Table(SegmentRow, "segments", (SegmentRow.segment_id,))


class VerdictRow(Row):
    """A served audio-visual model's opinion of each segment's class (optional stage `verification`)."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    verdict: Column[str] = c.text("Speak, Conversation, Listen_dialogue, Listen_nondialogue, Silence or Unknown")
    verdict_confidence: Column[float] = c.real("as the model says", "0-1")
    verdict_agrees: Column[bool] = c.flag("it is the class that the rules found")
    verdict_note: Column[str] = c.text("what speaks for it, in the model's words")
    verifier: Column[str] = c.text("the model")


VERDICTS = Table(VerdictRow, "verdicts", (VerdictRow.segment_id,))
