"""Tables that join faces and voices: speaker scores, lip-audio offset, bindings."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, END, SOURCE, START, TRACK, K, flag, index, real, reals, seconds, text
from schemas.table import Table

ASD_FRAMES = Table(
    "asd_frames",
    "active speaker score per track and grid point",
    ("track_id", "k"),
    (
        TRACK,
        K,
        real("score", "active speaker score; > 0 = this face speaks; mean of the networks that were asked"),
        real("score_highest", "the highest of these networks' scores: one of them follows lips in silence as well"),
        real(
            "mouth_motion",
            "deviation of the mouth's opening (inner lip gap / face height) over 1.6 s; null = lips not seen",
            null=True,
        ),
        real(
            "mouth_motion_beside",
            "the lesser of its deviations over the 0.8 s before and the 0.8 s after; null = lips not seen",
            null=True,
        ),
        ANNOTATOR,
    ),
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

VOICE_TURNS = Table(
    "voice_turns",
    "who speaks when, by voice and lips: `turns`, with a voice divided where it is seen to be two people's",
    ("source_id", "start_s", "speaker_id"),
    (
        text("speaker_id", "voice; one of `turns`, or a part of it (its name, a dot and a number)"),
        text("diarized_as", "the voice of `turns` that it was taken for by sound alone"),
        SOURCE,
        START,
        END,
        flag("overlapped", "another voice speaks in part of the turn"),
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
        seconds("sync_s", "seconds of this voice alone over this face's moving lips, on which the log-odds rest"),
        real(
            "sync_log_odds",
            "log-odds that these lips speak with this voice; null = too little heard",
            "nats",
            null=True,
        ),
        real("sync_lag_ms", "lag at which they fit best; positive = the sound is late", "ms", null=True),
        text("verdict", "bound; contested: another face fits as well; unsynced: not these lips' voice; or other"),
        flag("doubted", "sync speaks as clearly against the pair as for unsynced, over whatever time there is"),
        flag("bound", "this face is taken for the voice's owner here"),
    ),
)

VOICES = Table(
    "voices",
    "per voice: is its owner ever seen",
    ("speaker_id",),
    (
        text("speaker_id", "voice"),
        text("diarized_as", "the voice of `speakers` that it is, or that it is a part of"),
        SOURCE,
        seconds("speech_s", "speech of this voice"),
        seconds("seen_s", "of it, seconds with a bound face in view"),
        flag("off_screen", "no visible face was bound to this voice"),
        real("talk_share", "share of all voices' speaking time", "0-1"),
    ),
)

BACKCHANNELS = Table(
    "backchannels",
    "short utterances while another voice goes on: they tell that one listens and take no turn",
    ("source_id", "start_s", "speaker_id"),
    (
        SOURCE,
        text("speaker_id", "voice"),
        START,
        END,
        index("n_words", "words recognised in it"),
        text("text", "those words"),
        ANNOTATOR,
    ),
)

TURN_TAKING = Table(
    "turn_taking",
    "how the conversation of one source goes",
    ("source_id",),
    (
        SOURCE,
        index("n_voices", "voices told apart"),
        index("n_turns", "turns; backchannels take none"),
        index("n_transfers", "changes from one voice's turn to another's"),
        real(
            "gap_median_s", "median time from a turn's end to the next voice's turn; negative = overlap", "s", null=True
        ),
        real("overlap_ratio", "share of the time with speech in which two or more voices are heard", "0-1"),
        real("backchannels_per_min", "backchannels a minute of speech", "1/min"),
        real("top_share", "talk share of the voice that speaks most", "0-1"),
    ),
)
