"""Tables of what people say: states of a person, who is who; kept beside what the machine found.

No stage writes them; `lpm labels import` and `lpm identities` do. Times and places are stored, so what was said
outlives changed track ids.
"""

from __future__ import annotations

from schemas.columns import END, SOURCE, START, TRACK, real, text
from schemas.table import Table

LABELS = Table(
    "labels",
    "states given by people; they override the machine's, the newest where several overlap",
    ("label_id",),
    (
        text("label_id", "first 16 hex digits of a hash of what the label says and who said it"),
        SOURCE,
        TRACK,
        START,
        END,
        text("state", "speak, listen, idle, both, or discard"),
        text("partner", "track:<track_id>, voice:<speaker_id> or off_screen, where the author names one", null=True),
        text("note", "the author's remark", null=True),
        text("author", "who gave it"),
        text("labelled_at", "when it was imported: ISO 8601, UTC"),
        real("center_x", "horizontal centre of the person's face, to find the person under other track ids", "0-1"),
        real("center_y", "vertical centre", "0-1"),
    ),
)

LABEL_STATES = ("speak", "listen", "idle", "both", "discard")
"""States that a label may give."""

IDENTITY_DECISIONS = Table(
    "identity_decisions",
    "what people decided about who is who, one row a track that a decision names; the newest holds where two disagree",
    ("decision_id", "side", "track_id"),
    (
        text("decision_id", "first 12 hex digits of a hash of what was decided, by whom and when"),
        text("kind", "merge: both sides are one person; split: the tracks of side `b` are somebody else"),
        text("side", "a or b"),
        TRACK,
        SOURCE,
        START,
        END,
        real("center_x", "horizontal centre of the face, to find the track under another id", "0-1"),
        real("center_y", "vertical centre", "0-1"),
        text("identity_id", "the name that the merged person keeps, or the new name of side `b`"),
        text("author", "who decided"),
        text("note", "the author's remark", null=True),
        text("decided_at", "when: ISO 8601, UTC"),
    ),
    grain="dataset",
)
