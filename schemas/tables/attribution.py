"""Tables that join faces and voices: speaker scores, lip-audio offset, bindings."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class AsdFrameRow(Row):
    """Active speaker score per track and grid point."""

    track_id: Column[str] = c.track_id()
    k: Column[int] = c.grid_index()
    score: Column[float] = c.real("active speaker score; > 0 = this face speaks; mean of the networks that were asked")
    score_highest: Column[float] = c.real(
        "the highest of these networks' scores: one of them follows lips in silence as well"
    )
    mouth_motion: Column[float | None] = c.real(
        "deviation of the mouth's opening (inner lip gap / face height) over 1.6 s; null = lips not seen", null=True
    )
    mouth_motion_beside: Column[float | None] = c.real(
        "the lesser of its deviations over the 0.8 s before and the 0.8 s after; null = lips not seen", null=True
    )
    annotator: Column[str] = c.annotator()


ASD_FRAMES = Table(AsdFrameRow, "asd_frames", (AsdFrameRow.track_id, AsdFrameRow.k))


class SyncRow(Row):
    """Lip-audio offset per track, over stretches with speech."""

    track_id: Column[str] = c.track_id()
    offset_ms: Column[float | None] = c.real(
        "how late the sound is against the lips; negative = early", "ms", null=True
    )
    confidence: Column[float | None] = c.real(
        "maximum minus median over lags: of the mean log-odds a frame (learned), of the correlation (heuristic)",
        null=True,
    )
    correlation: Column[float | None] = c.real("correlation at the best lag", "-1-1", null=True)
    own_voice: Column[float | None] = c.real(
        "probability that the sound is this face's own voice at some constant lag, priors equal; null = unknown",
        "0-1",
        null=True,
    )
    evidence_s: Column[float] = c.seconds("speech on which this rests")
    annotator: Column[str] = c.annotator()


SYNC = Table(SyncRow, "sync", (SyncRow.track_id,))


class SyncFrameRow(Row):
    """Evidence over time that the voice heard is this face's own; sums over frames are log-odds, priors equal."""

    track_id: Column[str] = c.track_id()
    k: Column[int] = c.grid_index()
    log_odds: Column[float] = c.real("at the track's own lag (`sync.offset_ms`, else 0), mean over 1 s", "nats a frame")
    log_odds_at_zero: Column[float] = c.real("taking the sound for in time, mean over 1 s", "nats a frame")
    log_odds_by_lag: Column[list[float]] = c.reals(
        "this frame alone, at lags of -15 to 15 frames; positive = sound late; 0 = unknown"
    )
    known: Column[bool] = c.flag("the lips were seen here")
    annotator: Column[str] = c.annotator()


SYNC_FRAMES = Table(SyncFrameRow, "sync_frames", (SyncFrameRow.track_id, SyncFrameRow.k))


class VoiceTurnRow(Row):
    """Who speaks when, by voice and lips: `turns`, with a voice divided where it is seen to be two people's."""

    speaker_id: Column[str] = c.text("voice; one of `turns`, or a part of it (its name, a dot and a number)")
    diarized_as: Column[str] = c.text("the voice of `turns` that it was taken for by sound alone")
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    overlapped: Column[bool] = c.flag("another voice speaks in part of the turn")
    annotator: Column[str] = c.annotator()


VOICE_TURNS = Table(
    VoiceTurnRow, "voice_turns", (VoiceTurnRow.source_id, VoiceTurnRow.start_s, VoiceTurnRow.speaker_id)
)


class BindingRow(Row):
    """Which face speaks with which voice, over the whole source."""

    speaker_id: Column[str] = c.text("voice")
    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    heard_s: Column[float] = c.seconds("seconds this voice is heard while the face is seen")
    spoken_s: Column[float] = c.seconds("of these, seconds in which the face's active speaker score is positive")
    asd_mean: Column[float] = c.real("mean active speaker score while the voice is heard")
    strength: Column[float] = c.real("spoken_s / heard_s, shrunk by half a second of doubt", "0-1")
    sync_s: Column[float] = c.seconds(
        "seconds of this voice alone over this face's moving lips, on which the log-odds rest"
    )
    sync_log_odds: Column[float | None] = c.real(
        "log-odds that these lips speak with this voice; null = too little heard", "nats", null=True
    )
    sync_lag_ms: Column[float | None] = c.real(
        "lag at which they fit best; positive = the sound is late", "ms", null=True
    )
    binding: Column[str] = c.text(
        "bound; contested: another face fits as well; unsynced: not these lips' voice; human_label: a person bound it; "
        "or other"
    )
    doubted: Column[bool] = c.flag(
        "sync speaks as clearly against the pair as for unsynced, over whatever time there is"
    )
    bound: Column[bool] = c.flag("this face is taken for the voice's owner here")


BINDINGS = Table(BindingRow, "bindings", (BindingRow.speaker_id, BindingRow.track_id))


class VoiceRow(Row):
    """Per voice: is its owner ever seen."""

    speaker_id: Column[str] = c.text("voice")
    diarized_as: Column[str] = c.text("the voice of `speakers` that it is, or that it is a part of")
    source_id: Column[str] = c.source_id()
    speech_s: Column[float] = c.seconds("speech of this voice")
    seen_s: Column[float] = c.seconds("of it, seconds with a bound face in view")
    off_screen: Column[bool] = c.flag("no visible face was bound to this voice")
    talk_share: Column[float] = c.real("share of all voices' speaking time", "0-1")


VOICES = Table(VoiceRow, "voices", (VoiceRow.speaker_id,))


class BackchannelRow(Row):
    """Short utterances while another voice goes on: they tell that one listens and take no turn."""

    source_id: Column[str] = c.source_id()
    speaker_id: Column[str] = c.text("voice")
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    n_words: Column[int] = c.index("words recognised in it")
    text: Column[str] = c.text("those words")
    annotator: Column[str] = c.annotator()


BACKCHANNELS = Table(
    BackchannelRow, "backchannels", (BackchannelRow.source_id, BackchannelRow.start_s, BackchannelRow.speaker_id)
)


class TurnTakingRow(Row):
    """How the conversation of one source goes."""

    source_id: Column[str] = c.source_id()
    n_voices: Column[int] = c.index("voices told apart")
    n_turns: Column[int] = c.index("turns; backchannels take none")
    n_transfers: Column[int] = c.index("changes from one voice's turn to another's")
    gap_median_s: Column[float | None] = c.real(
        "median time from a turn's end to the next voice's turn; negative = overlap", "s", null=True
    )
    overlap_ratio: Column[float] = c.real("share of the time with speech in which two or more voices are heard", "0-1")
    backchannels_per_min: Column[float] = c.real("backchannels a minute of speech", "1/min")
    top_share: Column[float] = c.real("talk share of the voice that speaks most", "0-1")


TURN_TAKING = Table(TurnTakingRow, "turn_taking", (TurnTakingRow.source_id,))
