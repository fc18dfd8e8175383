"""Tables of sessions: recordings made together as separate files, one camera and microphone a participant."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class SoundSignatureRow(Row):
    """Band levels of the sound a hundred times a second, by which recordings of one session are laid side by side."""

    source_id: Column[str] = c.source_id()
    n: Column[int] = c.index("stretch of ten seconds of the source")
    levels: Column[bytes] = c.blob(
        "bytes [T, 4], T <= 1000: level v in a band is -120 + v / 2 dBFS (`annotators.sound.sound_signature`)"
    )


SOUND_SIGNATURES = Table(SoundSignatureRow, "sound_signatures", (SoundSignatureRow.source_id, SoundSignatureRow.n))


class SessionRow(Row):
    """Files of one session on one clock: t_session = t * (1 + drift_ppm / 1e6) + offset_s."""

    session: Column[str] = c.text("session key from the input list")
    source_id: Column[str] = c.source_id()
    reference_source_id: Column[str] = c.text(
        "file whose clock is the session's; each group of files that share sound has one"
    )
    offset_s: Column[float | None] = c.seconds(
        "added to this file's clock: positive if it started later; null = not known", null=True
    )
    drift_ppm: Column[float | None] = c.real(
        "how much longer this file's seconds are; null = too little to tell", "1e-6", null=True
    )
    confidence: Column[float | None] = c.real(
        "of the weakest link: 1 - best rival / best match; null = no link", "0-1", null=True
    )
    method: Column[str] = c.text(
        "reference, sound, unrelated (no sound in common found), no_sound, or alone (one file)"
    )


SESSIONS = Table(SessionRow, "sessions", (SessionRow.session, SessionRow.source_id), grain="dataset")


class SessionPairRow(Row):
    """Segments whose partner is in another file of their session; these replace partner and pair_id of the segment."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    session: Column[str] = c.text("session key")
    session_state: Column[str] = c.text(
        "state with all microphones considered; where it differs, the segment's own is wrong"
    )
    session_reason: Column[str] = c.text("partner_speaks, partner_listens, leaked_voice, unheard_partner, or exchange")
    session_partner: Column[str | None] = c.text(
        "track of the other person: `track:<track_id>`, or as in the segment", null=True
    )
    session_partner_track_id: Column[str | None] = c.text("the same, as an id", null=True)
    session_pair_id: Column[str] = c.text("groups segments of one exchange, across files")
    shared_s: Column[float] = c.seconds("time in which one of the two speaks and the other is seen")
    sound_match: Column[float | None] = c.real(
        "correlation of both files' sound then; high = one voice in both", "-1-1", null=True
    )
    level_gap_db: Column[float | None] = c.real(
        "level in the own microphone minus that in the partner's", "dB", null=True
    )


SESSION_PAIRS = Table(SessionPairRow, "session_pairs", (SessionPairRow.segment_id,), grain="dataset")
