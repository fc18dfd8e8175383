"""Tables of states over time and of candidate clips."""

from __future__ import annotations

from schemas.columns import DURATION, END, SEGMENT, SHOT, SOURCE, START, TRACK, flag, real, text
from schemas.table import Table

TIMELINE = Table(
    "timeline",
    "each track's states over time; runs partition the track",
    ("track_id", "start_s"),
    (
        TRACK,
        SOURCE,
        START,
        END,
        text("state", "speak, listen, idle, both, or discard"),
        text(
            "reason",
            "what decided it: e.g. synced_voice, heard_voice, silence, lips_without_voice, foreign_voice, human_label",
        ),
        real("confidence", "mean confidence of the run", "0-1"),
        text("partner", "track or voice this person listens or speaks to", null=True),
    ),
)

SEGMENTS = Table(
    "segments",
    "candidate clips: they partition each track, discarded stretches included",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        SHOT,
        TRACK,
        START,
        END,
        DURATION,
        text("state", "speak, listen, idle, both, or discard"),
        text("reason", "why this state"),
        text(
            "category",
            "Speak, Conversation, Listen_dialogue, Listen_nondialogue, Silence or Unknown: LPM 1.0's classes, by rule",
        ),
        real("confidence", "mean state confidence", "0-1"),
        real("state_ratio", "share of the segment in its own state", "0-1"),
        text("speaker_id", "the voice heard most", null=True),
        text("partner_track_id", "face of the other person, where one is seen", null=True),
        text("partner", "off-screen voice or track of the other person", null=True),
        text("pair_id", "groups segments of one exchange: same source, overlapping time", null=True),
        text(
            "text",
            "words spoken by this person (speak) or heard (listen), … for those not known; null where less than half "
            "is known, empty in idle",
            null=True,
        ),
        real("word_probability", "mean confidence of all words, known or not", "0-1", null=True),
        real("speech_ratio", "share of the segment with speech", "0-1"),
        real("overlap_ratio", "share of the segment with two voices at once", "0-1"),
        real("asd_mean", "mean active speaker score", null=True),
        real(
            "sync_offset_ms",
            "lip-audio offset of the track; null where the voice heard is not its own",
            "ms",
            null=True,
        ),
        real("sync_confidence", "its confidence", null=True),
        real("level_db", "RMS level of the sound", "dBFS", null=True),
        *(
            real(name, f"mean score of {name} in the sound; null where there is none", "0-1", null=True)
            for name in ("music", "singing", "laughter", "noise")
        ),
        real("visible_ratio", "share of grid points with a face: landmarks fit it, or the detector was sure", "0-1"),
        real("median_face_px", "median shorter side of the face box", "px"),
        real("frozen_ratio", "share of frozen frames", "0-1"),
        flag("cuts_word", "a border lies inside a recognised word"),
    ),
)

VERDICTS = Table(
    "verdicts",
    "a served audio-visual model's opinion of each segment's class (optional stage `verification`)",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("verdict", "Speak, Conversation, Listen_dialogue, Listen_nondialogue, Silence or Unknown"),
        real("verdict_confidence", "as the model says", "0-1"),
        flag("verdict_agrees", "it is the class that the rules found"),
        text("verdict_note", "what speaks for it, in the model's words"),
        text("verifier", "the model"),
    ),
)
