"""Everything known of one source, shot, track, segment or sample: measurements, every rule with its value, outcome.

Reads tables only. The answer prints as text and as JSON alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import duckdb

from curation.dataset import Dataset
from curation.decisions.rules import columns_of, thresholds_of
from curation.decisions.words import in_words
from schemas import tables as t
from schemas.settings.policy import Policy, Rule
from schemas.table import Row, Table
from schemas.tables.labels import LabelRow
from schemas.tables.output import DecisionRow, ErrorRow, ManifestRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.people import ReferenceRow
from schemas.tables.registry import InputRow
from schemas.units import UNITS, Unit

R = TypeVar("R", bound=Row)
Measured = Mapping[str, object]
"""Values of a unit's view, whose columns a user's stages add to, by name."""


class UnknownIdError(ValueError):
    """No unit of that id; the message says how to find one."""


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """What a rule says of a unit."""

    rule: str
    on: str
    id: str
    step: str
    keep: str
    measured: Measured
    thresholds: list[str]
    verdict: Literal["pass", "fail", "not decided"]
    why: str


@dataclass(frozen=True, slots=True)
class Child:
    """A unit below."""

    unit_id: str
    duration_s: float
    outcome: str
    rule: str | None


@dataclass(slots=True)
class Explanation:
    """All that is known of a unit. `rules` are those on it and on its parents."""

    unit: str
    id: str
    decision: DecisionRow | None
    measured: Measured | None
    rules: list[RuleAnswer]
    parents: dict[str, str]
    children: list[Child]
    errors: list[ErrorRow]
    labels: list[LabelRow]
    inputs: list[InputRow] = field(default_factory=list)
    sample: ManifestRow | None = None
    references: list[ReferenceRow] = field(default_factory=list)
    said: str = ""
    """why it was left out, in a person's words"""


def explain(dataset: Dataset, unit_id: str, policy: Policy) -> Explanation:
    """Return everything known of the unit with this id.

    Raises:
        UnknownIdError: nothing in the dataset has this id.
    """
    # The id of a unit begins with that of its source, so the other sources' files need not be opened.
    con = dataset.connect(sources=[unit_id[:16]])
    unit = _find(con, unit_id)
    measured = _one(con, unit, unit_id)
    chain: list[tuple[Unit, str]] = [(unit, unit_id)]
    while measured is not None and (parent := chain[-1][0].parent) is not None:
        up = UNITS[parent]
        chain.append((up, str(measured[up.id])))
    of_unit = f"{DecisionRow.unit_id} = ? AND {DecisionRow.unit} = ?"
    out = Explanation(
        unit=unit.kind.removesuffix("s"),
        id=unit_id,
        decision=next(iter(_rows(con, t.DECISIONS, of_unit, unit_id, unit.kind)), None),
        measured=measured,
        rules=[_verdict(con, u, i, rule) for u, i in reversed(chain) for rule in policy.on(u.kind)],
        parents={u.kind.removesuffix("s"): i for u, i in chain[1:]},
        children=_children(con, unit, unit_id),
        errors=_rows(con, t.ERRORS, f"{ErrorRow.unit_id} = ? OR {ErrorRow.source_id} = ?", unit_id, unit_id),
        labels=_labels(con, unit, measured),
    )
    if out.decision is not None and out.decision.decided_by == unit_id:
        state_reason = (measured or {}).get(SegmentRow.reason.name)
        out.said = str(in_words(out.decision, policy, None if state_reason is None else str(state_reason)))
    elif out.decision is not None:
        out.said = str(in_words(out.decision, policy))
    if unit.kind == "sources":
        out.inputs = _rows(con, t.INPUTS, f"{InputRow.source_id} = ?", unit_id)
    if unit.kind == "segments":
        out.sample = next(iter(_rows(con, t.MANIFEST, f"{ManifestRow.segment_id} = ?", unit_id)), None)
        out.references = _rows(con, t.REFERENCES, f"{ReferenceRow.segment_id} = ?", unit_id)
    return out


def _find(con: duckdb.DuckDBPyConnection, unit_id: str) -> Unit:
    for unit in UNITS.values():
        table = t.INPUTS if unit.kind == "sources" else unit.table
        if con.execute(f'SELECT 1 FROM "{table.name}" WHERE {unit.id} = ? LIMIT 1', [unit_id]).fetchall():
            return unit
    raise UnknownIdError(
        f"no source, shot, track, segment or sample {unit_id!r}; "
        'list ids with: lpm query DATASET "SELECT unit, unit_id, outcome FROM decisions"'
    )


def _rows(con: duckdb.DuckDBPyConnection, table: Table[R], where: str, *values: object) -> list[R]:
    return table.rows(con.sql(f'SELECT * FROM "{table.name}" WHERE {where}', params=[*values]).to_arrow_table())


def _labels(con: duckdb.DuckDBPyConnection, unit: Unit, measured: Measured | None) -> list[LabelRow]:
    """Return the human labels on a unit: of its track where it has one, within its time."""
    if measured is None:
        return []
    where, values = f"{LabelRow.source_id} = ?", [measured[t.SOURCES.key[0]]]
    if unit.kind in ("tracks", "segments"):
        where, values = f"{where} AND {LabelRow.track_id} = ?", [*values, measured[UNITS["tracks"].id]]
    if unit.kind != "sources":
        start, end = LabelRow.start_s, LabelRow.end_s  # the unit's own times have these names, too
        where = f"{where} AND {start} < ? AND {end} > ?"
        values = [*values, measured[end.name], measured[start.name]]
    return _rows(con, t.LABELS, f"{where} ORDER BY {LabelRow.start_s}, {LabelRow.labelled_at}", *values)


def _one(con: duckdb.DuckDBPyConnection, unit: Unit, unit_id: str, select: str = "*") -> Measured | None:
    cursor = con.execute(f"SELECT {select} FROM units_{unit.kind} WHERE {unit.id} = ?", [unit_id])
    names = [d[0] for d in cursor.description or ()]
    rows = cursor.fetchall()
    return {n: _plain(v) for n, v in zip(names, rows[0], strict=True)} if rows else None


def _plain(value: object) -> object:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def _verdict(con: duckdb.DuckDBPyConnection, unit: Unit, unit_id: str, rule: Rule) -> RuleAnswer:
    columns = ", ".join(f'"{c}"' for c in columns_of(rule)) or "1 AS one"
    found = dict(_one(con, unit, unit_id, f"({rule.keep}) AS _keep, {columns}") or {})
    keep = found.pop("_keep", None)
    return RuleAnswer(
        rule=rule.id,
        on=unit.kind.removesuffix("s"),
        id=unit_id,
        step=rule.step,
        keep=rule.keep,
        measured=found,
        thresholds=[f"{x.column} {x.operator} {x.value:g}" for x in thresholds_of(rule)],
        verdict="not decided" if keep is None else "pass" if keep else "fail",
        why=rule.why,
    )


def _children(con: duckdb.DuckDBPyConnection, unit: Unit, unit_id: str) -> list[Child]:
    child = next((u for u in UNITS.values() if u.parent == unit.kind), None)
    if child is None:
        return []
    d = DecisionRow
    sql = (
        f"SELECT d.{d.unit_id}, d.{d.duration_s}, d.{d.outcome}, d.{d.rule} FROM decisions d JOIN {child.kind} c "
        f"ON d.{d.unit_id} = c.{child.id} AND d.{d.unit} = '{child.kind}' WHERE c.{unit.id} = ? ORDER BY 1"
    )
    return [Child(*row) for row in con.execute(sql, [unit_id]).fetchall()]


def as_json(answer: Explanation) -> str:
    """Return an explanation for programs."""

    def plain(value: Any) -> object:
        if isinstance(value, Row):
            return dict(value)
        names = getattr(value, "__slots__", ())
        return {name: getattr(value, name) for name in names} if names else str(value)

    return json.dumps(answer, default=plain, ensure_ascii=False, indent=1)


def as_text(answer: Explanation) -> str:
    """Return an explanation for people."""
    lines = [f"{answer.unit} {answer.id}"]
    d = answer.decision
    if d is not None:
        lines.append(f"outcome: {d.outcome}" + (f" at {d.step} by {d.rule}: {answer.said}" if d.reason else ""))
        if d.decided_by != answer.id:
            lines.append(f"decided by: {d.decided_by}")
    lines += [f"{kind}: {i}" for kind, i in answer.parents.items()]
    lines += [f"file: {i.path}" for i in answer.inputs]
    lines.append("rules:")
    for r in answer.rules:
        values = ", ".join(f"{k} = {_short(v)}" for k, v in r.measured.items())
        lines.append(f"  {r.verdict:>11}  {r.rule} ({r.on}, {r.step}): {r.keep}    [{values}]")
    for x in answer.labels:
        note = f" ({x.note})" if x.note else ""
        where = f"{x.track_id}, {x.start_s:.2f}-{x.end_s:.2f} s"
        lines.append(f"human label: {x.state}, {where}, by {x.author} at {x.labelled_at}{note}")
    for e in answer.errors:
        lines += [f"error in {e.stage}: {e.error}: {e.message}", *e.traceback.splitlines()]
    if answer.measured:
        lines.append("measured:")
        lines += [f"  {k} = {_short(v)}" for k, v in answer.measured.items() if not k.startswith(("source_", "shot_l"))]
    for c in answer.children:
        lines.append(f"child {c.unit_id}: {c.outcome}" + (f" by {c.rule}" if c.rule else ""))
    if answer.sample:
        lines.append(f"sample in shard {answer.sample.shard}")
    return "\n".join(lines)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."
