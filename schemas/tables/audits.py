"""Table of what people found when they looked: verdicts on units, each with what the dataset claimed at that time."""

from __future__ import annotations

from typing import Literal, get_args

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table

Verdict = Literal["right", "wrong", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Aspect = Literal["state", "person", "cut", "caption", "reference", "crop", "filter"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
"""What can be wrong of a unit; `filter`: it was left out and should be in, or is in and should be left out."""


class AuditRow(Row):
    """Verdicts of people on units; of an author's verdicts on a unit the newest counts. No stage reads them."""

    audit_id: Column[str] = c.text("first 16 hex digits of a hash of what was judged, by whom and when")
    source_id: Column[str] = c.source_id()
    unit: Column[str] = c.text("sources, shots, tracks, or segments")
    unit_id: Column[str] = c.text("its id when it was judged; a later run may give it another")
    track_id: Column[str | None] = c.text("face track of a track or segment", null=True)
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    center_x: Column[float | None] = c.real(
        "horizontal centre of the person's face, to find the person under other track ids", "0-1", null=True
    )
    center_y: Column[float | None] = c.real("vertical centre", "0-1", null=True)
    outcome: Column[str] = c.text("kept, filtered, quarantined, or pending, when it was judged")
    rule: Column[str | None] = c.text("the rule that had filtered it, or the error", null=True)
    state: Column[str | None] = c.text("the state that a segment had", null=True)
    claimed: Column[str] = c.text("JSON object of what else was claimed: person, cut, caption, reference, crop")
    verdict: Column[str] = c.text("right, wrong, or unsure")
    what: Column[list[str]] = c.texts("what is wrong: state, person, cut, caption, reference, crop, filter")
    true_state: Column[str | None] = c.text("the state that it really is, where the author says so", null=True)
    comment: Column[str | None] = c.text("the author's remark", null=True)
    author: Column[str] = c.text("who judged")
    judged_at: Column[str] = c.text("when: ISO 8601, UTC")
    drawn: Column[str | None] = c.text("the sample that it was drawn in, as the page's address says it", null=True)


AUDITS = Table(AuditRow, "audits", (AuditRow.audit_id,))
