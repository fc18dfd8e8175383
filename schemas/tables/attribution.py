"""Tables that join faces and voices: speaker scores, lip-audio offset, bindings."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, SOURCE, TRACK, K, flag, real, reals, seconds, text
from schemas.table import Table

ASD_FRAMES = Table(
    "asd_frames",
    "active speaker score per track and grid point",
    ("track_id", "k"),
    (TRACK, K, real("score", "active speaker score; > 0 = this face speaks"), ANNOTATOR),
)

SYNC = Table(
    "sync",
    "lip-audio offset per track, over stretches with speech",
    ("track_id",),
    (
        TRACK,
        real("offset_ms", "how late the sound is against the lips; negative = early", "ms", null=True),
        real(
            "confidence",
            "maximum minus median over lags: of the mean log-odds a frame (learned), of the correlation (heuristic)",
            null=True,
        ),
        real("correlation", "correlation at the best lag", "-1-1", null=True),
        real(
            "own_voice",
            "probability that the sound is this face's own voice at some constant lag, priors equal; null = unknown",
            "0-1",
            null=True,
        ),
        seconds("evidence_s", "speech on which this rests"),
        ANNOTATOR,
    ),
)

SYNC_FRAMES = Table(
    "sync_frames",
    "evidence over time that the voice heard is this face's own; sums over frames are log-odds, priors equal",
    ("track_id", "k"),
    (
        TRACK,
        K,
        real("log_odds", "at the track's own lag (`sync.offset_ms`, else 0), mean over 1 s", "nats a frame"),
        real("log_odds_at_zero", "taking the sound for in time, mean over 1 s", "nats a frame"),
        reals("log_odds_by_lag", "this frame alone, at lags of -15 to 15 frames; positive = sound late; 0 = unknown"),
        flag("known", "the lips were seen here"),
        ANNOTATOR,
    ),
)

BINDINGS = Table(
    "bindings",
    "which face speaks with which voice, over the whole source",
    ("speaker_id", "track_id"),
    (
        text("speaker_id", "voice"),
        TRACK,
        SOURCE,
        seconds("heard_s", "seconds this voice is heard while the face is seen"),
        seconds("spoken_s", "of these, seconds in which the face's active speaker score is positive"),
        real("mean_asd", "mean active speaker score while the voice is heard"),
        real("strength", "spoken_s / heard_s, shrunk by half a second of doubt", "0-1"),
        flag("bound", "this face is taken for the voice's owner here"),
    ),
)

VOICES = Table(
    "voices",
    "per voice: is its owner ever seen",
    ("speaker_id",),
    (
        text("speaker_id", "voice"),
        SOURCE,
        seconds("speech_s", "speech of this voice"),
        seconds("seen_s", "of it, seconds with a bound face in view"),
        flag("off_screen", "no visible face was bound to this voice"),
    ),
)
