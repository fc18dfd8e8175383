"""The table of human labels: states that an annotator gave to a person, kept beside what the machine found.

No stage writes it; `lpm labels import` does. Times and places are stored, so a label outlives changed track ids.
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
