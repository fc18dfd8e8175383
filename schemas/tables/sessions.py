"""Tables of sessions: recordings made together as separate files, one camera and microphone a participant."""

from __future__ import annotations

from schemas.columns import SEGMENT, SOURCE, blob, index, real, seconds, text
from schemas.table import Table

SOUND_SIGNATURES = Table(
    "sound_signatures",
    "band levels of the sound a hundred times a second, by which recordings of one session are laid side by side",
    ("source_id", "n"),
    (
        SOURCE,
        index("n", "stretch of ten seconds of the source"),
        blob(
            "levels", "bytes [T, 4], T <= 1000: level v in a band is -120 + v / 2 dBFS (`annotators.sound_signature`)"
        ),
    ),
)

SESSIONS = Table(
    "sessions",
    "files of one session on one clock: t_session = t * (1 + drift_ppm / 1e6) + offset_s",
    ("session", "source_id"),
    (
        text("session", "session key from the input list"),
        SOURCE,
        text("reference_source_id", "file whose clock is the session's; each group of files that share sound has one"),
        seconds("offset_s", "added to this file's clock: positive if it started later; null = not known", null=True),
        real("drift_ppm", "how much longer this file's seconds are; null = too little to tell", "1e-6", null=True),
        real("confidence", "of the weakest link: 1 - best rival / best match; null = no link", "0-1", null=True),
        text("method", "reference, sound, unrelated (no sound in common found), no_sound, or alone (one file)"),
    ),
    grain="dataset",
)  # fmt: skip

SESSION_PAIRS = Table(
    "session_pairs",
    "segments whose partner is in another file of their session; these replace partner and pair_id of the segment",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("session", "session key"),
        text("session_state", "state with all microphones considered; where it differs, the segment's own is wrong"),
        text("session_reason", "partner_speaks, partner_listens, leaked_voice, unheard_partner, or exchange"),
        text("session_partner", "track of the other person: `track:<track_id>`, or as in the segment", null=True),
        text("session_partner_track_id", "the same, as an id", null=True),
        text("session_pair_id", "groups segments of one exchange, across files"),
        seconds("shared_s", "time in which one of the two speaks and the other is seen"),
        real("sound_match", "correlation of both files' sound then; high = one voice in both", "-1-1", null=True),
        real("level_gap_db", "level in the own microphone minus that in the partner's", "dB", null=True),
    ),
    grain="dataset",
)  # fmt: skip
