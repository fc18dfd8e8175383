"""Tables of what people say: states, voices, words, captions, cuts, who is who; kept beside what the machine found.

No stage writes them; `lpm review`, `lpm labels import` and `lpm identities` do. Each is read by the stage whose work it
corrects. Times and places are stored, so what was said outlives changed ids.
"""

from __future__ import annotations

from typing import Any

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class LabelRow(Row):
    """States given by people; they override the machine's, the newest where several overlap."""

    label_id: Column[str] = c.text(
        "first 16 hex digits of a hash of what the label says and who said it; of the review also of when"
    )
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
    labelled_at: Column[str] = c.text("when it was given or imported: ISO 8601, UTC")
    center_x: Column[float] = c.real(
        "horizontal centre of the person's face, to find the person under other track ids", "0-1"
    )
    center_y: Column[float] = c.real("vertical centre", "0-1")


LABELS = Table(LabelRow, "labels", (LabelRow.label_id,))

LABEL_STATES = ("speak", "listen", "idle", "both", "discard")
"""States that a label may give."""


class VoiceLabelRow(Row):
    """Whose face a voice is; the newest of a voice holds. Read by stage `attribution`."""

    label_id: Column[str] = c.text("first 16 hex digits of a hash of what is said, by whom and when")
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    speaker_id: Column[str] = c.text("the voice's id then; by its time it is found under another")
    track_id: Column[str | None] = c.text("the face that it belongs to; null = nobody in view", null=True)
    center_x: Column[float | None] = c.real("horizontal centre of that face", "0-1", null=True)
    center_y: Column[float | None] = c.real("vertical centre", "0-1", null=True)
    author: Column[str] = c.text("who said it")
    labelled_at: Column[str] = c.text("when: ISO 8601, UTC")


VOICE_LABELS = Table(VoiceLabelRow, "voice_labels", (VoiceLabelRow.label_id,))


class WordLabelRow(Row):
    """What was said in a stretch of time, in place of the words whose middle lies in it; the newest holds.

    Stages `attribution` and `pairing` read it, and samples; the table `words` keeps what the recogniser heard.
    """

    label_id: Column[str] = c.text("first 16 hex digits of a hash of what is said, by whom and when")
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    word: Column[str | None] = c.text("the word or words; null = nothing is said there", null=True)
    author: Column[str] = c.text("who said it")
    labelled_at: Column[str] = c.text("when: ISO 8601, UTC")


WORD_LABELS = Table(WordLabelRow, "word_labels", (WordLabelRow.label_id,))


class CaptionLabelRow(Row):
    """A field of a clip's caption; the newest of a field holds. Read by stage `performance`.

    It is that of the clip of the same person that shares more than half of their common time with it.
    """

    label_id: Column[str] = c.text("first 16 hex digits of a hash of what is said, by whom and when")
    source_id: Column[str] = c.source_id()
    track_id: Column[str] = c.track_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    center_x: Column[float] = c.real("horizontal centre of the face, to find it under another track id", "0-1")
    center_y: Column[float] = c.real("vertical centre", "0-1")
    field: Column[str] = c.text("the caption's field, such as prose, gaze or emotions")
    value: Column[str] = c.text("its value as JSON")
    author: Column[str] = c.text("who said it")
    labelled_at: Column[str] = c.text("when: ISO 8601, UTC")


CAPTION_LABELS = Table(CaptionLabelRow, "caption_labels", (CaptionLabelRow.label_id,))


class CutLabelRow(Row):
    """Whether a new shot begins; the newest near a time holds. Read by stage `scan`, for the window that it lies in."""

    label_id: Column[str] = c.text("first 16 hex digits of a hash of what is said, by whom and when")
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    cut: Column[bool] = c.flag("true: a new shot begins at the start of the stretch; false: none begins within it")
    author: Column[str] = c.text("who said it")
    labelled_at: Column[str] = c.text("when: ISO 8601, UTC")


CUT_LABELS = Table(CutLabelRow, "cut_labels", (CutLabelRow.label_id,))

LABEL_TABLES: tuple[Table[Any], ...] = (LABELS, VOICE_LABELS, WORD_LABELS, CAPTION_LABELS, CUT_LABELS)
"""What people say about a stretch of a source's time."""


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
