"""Verdicts of people on units: stored with what the dataset claimed at the time, taken back, read.

All verdicts are kept; of an author's on a unit the newest counts, so undo takes the author's newest away and what was
said before counts again. Written under the dataset's lock, a file a source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from curation.audit.follow import Present, one
from curation.dataset import Dataset
from curation.engine.run import locked
from curation.labels.formats import unwritable
from curation.storage.store import table_file
from schemas import tables as t
from schemas.settings.policy import UnitKind
from schemas.tables.audits import ASPECTS, VERDICTS, AuditRow
from schemas.units import UNITS


class AuditError(ValueError):
    """A verdict that cannot be stored; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says of a unit."""

    verdict: str
    what: Sequence[str] = ()
    true_state: str | None = None
    comment: str | None = None


def judge(
    dataset: Dataset, kind: UnitKind, unit_id: str, said: Said, author: str, drawn: str | None = None
) -> AuditRow:
    """Store a verdict on a unit as it is now.

    Raises:
        AuditError: there is no such unit, no author, or the verdict makes no sense.
        RunStoppedError: another command is writing the dataset.
    """
    _check(said, author)
    unit = one(dataset, kind, unit_id) if kind in UNITS else None
    if unit is None:
        raise AuditError(f"no {str(kind).removesuffix('s')} {unit_id!r} is in the dataset now; draw the sample again")
    if said.true_state is not None and unit.state is None:
        raise AuditError(f"a {kind.removesuffix('s')} has no state that could be another")
    row = _row(unit, said, author.strip(), drawn, datetime.now(UTC).isoformat(timespec="microseconds"))
    with locked(dataset.store):
        _write(dataset, unit.source_id, [*of_source(dataset, unit.source_id), row])
    return row


def undo(dataset: Dataset, author: str) -> AuditRow:
    """Take the newest verdict of an author back and return it.

    Raises:
        AuditError: the author judged nothing.
        RunStoppedError: another command is writing the dataset.
    """
    with locked(dataset.store):
        con = dataset.connect(tables=[t.AUDITS])
        sql = "SELECT source_id, audit_id FROM audits WHERE author = ? ORDER BY judged_at DESC, audit_id LIMIT 1"
        newest = con.execute(sql, [author.strip()]).fetchall()
        if not newest:
            raise AuditError(f"there is no verdict by {author.strip()!r} to take back")
        ((source_id, audit_id),) = newest
        rows = of_source(dataset, source_id)
        _write(dataset, source_id, [r for r in rows if r.audit_id != audit_id])
    return next(r for r in rows if r.audit_id == audit_id)


def of_source(dataset: Dataset, source_id: str) -> list[AuditRow]:
    """Return the verdicts on one source and what is in it."""
    return t.AUDITS.rows(dataset.table(t.AUDITS, sources=[source_id]))


def _write(dataset: Dataset, source_id: str, rows: list[AuditRow]) -> None:
    first = not dataset.files(t.AUDITS)
    dataset.store.write_table(table_file(t.AUDITS, source_id), t.AUDITS, t.AUDITS.from_rows(rows))
    if first:  # from then on the catalogue's view knows where to look
        dataset.write_catalog()


def _check(said: Said, author: str) -> None:
    if not author.strip():
        raise AuditError("who judges? A verdict needs a name")
    if found := unwritable(author + (said.comment or "")):
        raise AuditError(f"{found} is no character of a text; take it out of the name or the comment")
    if said.verdict not in VERDICTS:
        raise AuditError(f"{said.verdict!r} is no verdict; there are {', '.join(VERDICTS)}")
    strange = [w for w in said.what if w not in ASPECTS]
    if strange:
        raise AuditError(f"{strange[0]!r} cannot be wrong of a unit; there are {', '.join(ASPECTS)}")
    if (said.verdict == "wrong") != bool(said.what):
        raise AuditError("say what is wrong" if said.verdict == "wrong" else "only a wrong unit has something wrong")
    if said.true_state is not None and (said.true_state not in t.LABEL_STATES or "state" not in said.what):
        raise AuditError(f"the true state is given where the state is wrong, as one of {', '.join(t.LABEL_STATES)}")


def _row(unit: Present, said: Said, author: str, drawn: str | None, at: str) -> AuditRow:
    content = (unit.unit, unit.unit_id, said.verdict, *said.what, author, at)
    x, y = unit.place or (None, None)
    return AuditRow(
        audit_id=hashlib.sha256("\0".join(content).encode()).hexdigest()[:16],
        source_id=unit.source_id,
        unit=unit.unit,
        unit_id=unit.unit_id,
        track_id=unit.track_id,
        start_s=unit.span.start_s,
        end_s=unit.span.end_s,
        center_x=x,
        center_y=y,
        outcome=unit.outcome,
        rule=unit.rule,
        state=unit.state,
        claimed=unit.claimed,
        verdict=said.verdict,
        what=[w for w in ASPECTS if w in said.what],
        true_state=said.true_state,
        comment=said.comment or None,
        author=author,
        judged_at=at,
        drawn=drawn,
    )
