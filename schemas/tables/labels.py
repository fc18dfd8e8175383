"""Tables of what people say: states of a person, who is who; kept beside what the machine found.

No stage writes them; `lpm labels import` and `lpm identities` do. Times and places are stored, so what was said
outlives changed track ids.
"""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class LabelRow(Row):
    """States given by people; they override the machine's, the newest where several overlap."""

    label_id: Column[str] = c.text("first 16 hex digits of a hash of what the label says and who said it")
    source_id: Column[str] = c.source_id()
    track_id: Column[str] = c.track_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    state: Column[str] = c.text("speak, listen, idle, both, or discard")
    partner: Column[str | None] = c.text(
        "track:<track_id>, voice:<speaker_id> or off_screen, where the author names one", null=True
    )
    note: Column[str | None] = c.text("the author's remark", null=True)
    author: Column[str] = c.text("who gave it")
    labelled_at: Column[str] = c.text("when it was imported: ISO 8601, UTC")
    center_x: Column[float] = c.real(
        "horizontal centre of the person's face, to find the person under other track ids", "0-1"
    )
    center_y: Column[float] = c.real("vertical centre", "0-1")


LABELS = Table(LabelRow, "labels", (LabelRow.label_id,))

LABEL_STATES = ("speak", "listen", "idle", "both", "discard")
"""States that a label may give."""


class IdentityDecisionRow(Row):
    """What people decided about who is who, one row a track that a decision names; the newest holds where two
    disagree.
    """

    decision_id: Column[str] = c.text("first 12 hex digits of a hash of what was decided, by whom and when")
    kind: Column[str] = c.text("merge: both sides are one person; split: the tracks of side `b` are somebody else")
    side: Column[str] = c.text("a or b")
    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    center_x: Column[float] = c.real("horizontal centre of the face, to find the track under another id", "0-1")
    center_y: Column[float] = c.real("vertical centre", "0-1")
    identity_id: Column[str] = c.text("the name that the merged person keeps, or the new name of side `b`")
    author: Column[str] = c.text("who decided")
    note: Column[str | None] = c.text("the author's remark", null=True)
    decided_at: Column[str] = c.text("when: ISO 8601, UTC")


IDENTITY_DECISIONS = Table(
    IdentityDecisionRow,
    "identity_decisions",
    (IdentityDecisionRow.decision_id, IdentityDecisionRow.side, IdentityDecisionRow.track_id),
    grain="dataset",
)
