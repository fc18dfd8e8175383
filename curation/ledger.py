"""The ledger: every source, shot, track and segment ends as kept, filtered, quarantined or pending, with a reason.

`in = kept + filtered + quarantined + pending`, in counts and in seconds, is checked here and by `lpm verify`.
A parent without a kept child takes the outcome of its most advanced child, so that the reason is always a measured
one. All from tables and commits; no media is touched.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation.decide import Verdict, Verdicts
from schemas import tables as t
from schemas.policy import STEPS, UnitKind
from schemas.units import UNITS

OUTCOMES = ("kept", "filtered", "quarantined", "pending")


@dataclass(slots=True)
class Progress:
    """How far a source has come, from its commits."""

    missing: str | None = None
    """first stage that has still to run for the source as a whole (its gate is open), or None"""
    covered: dict[UnitKind, dict[str, set[str]]] = field(default_factory=dict)
    """gate kind -> stage -> ids of units that the stage has measured (stages that work on sets or single units)"""


@dataclass(slots=True)
class Row:
    """One decision in the making."""

    unit: UnitKind
    unit_id: str
    source_id: str
    duration_s: float
    outcome: str
    step: str | None = None
    rule: str | None = None
    reason: str | None = None
    measured: str | None = None
    decided_by: str = ""


class LedgerError(RuntimeError):
    """The conservation law does not hold; a bug in the engine, never in the data."""


def decide_all(
    inputs: pa.Table,
    verdicts: Verdicts,
    errors: Iterable[Mapping[str, Any]],
    progress: Mapping[str, Progress],
) -> pa.Table:
    """Return the DECISIONS table for all registered sources.

    Args:
        inputs: the INPUTS table.
        verdicts: every unit's verdict under the policy.
        errors: rows of the ERRORS table.
        progress: per source, what has still to run.
    """
    failed: dict[str, Mapping[str, Any]] = {}
    for e in errors:
        failed.setdefault(e["unit_id"], e)
    rows: dict[UnitKind, dict[str, Row]] = {k: {} for k in UNITS}
    for source_id in sorted({str(s) for s in inputs["source_id"].to_pylist()}):
        v = verdicts["sources"].get(source_id)
        duration = 0.0 if v is None else v.duration_s
        row = Row("sources", source_id, source_id, duration, "pending", decided_by=source_id)
        rows["sources"][source_id] = row
        if source_id in failed:
            _quarantine(row, failed[source_id])
        elif v is None:
            missing = progress[source_id].missing if source_id in progress else None
            row.step, row.reason = missing, "not measured yet"
    for kind in UNITS:
        for unit_id, v in verdicts[kind].items():
            if kind == "sources":
                if rows[kind][unit_id].outcome != "quarantined":
                    _own(rows[kind][unit_id], verdicts, kind, failed)
                continue
            row = Row(kind, unit_id, v.source_id, v.duration_s, "kept", decided_by=unit_id)
            rows[kind][unit_id] = row
            source = rows["sources"].get(v.source_id)
            if source is not None and source.outcome == "quarantined" and source.decided_by == v.source_id:
                _inherit(row, source)
            else:
                _own(row, verdicts, kind, failed)
    _close(rows, verdicts, progress)
    table = [_as_dict(r) for kind in UNITS for r in rows[kind].values()]
    return t.DECISIONS.from_rows(table)


def _own(row: Row, verdicts: Verdicts, kind: UnitKind, failed: Mapping[str, Mapping[str, Any]]) -> None:
    """Fill in what decides a unit from above or by itself; leave it open ("kept") otherwise.

    Of several rules that are against a unit and its parents, the one earliest in the funnel decides: later steps of
    the funnel would not have seen the unit any more.
    """
    row.outcome, row.step, row.reason = "kept", None, None
    against: list[tuple[int, int, str, Verdict]] = []
    k: UnitKind | None = kind
    current: str | None = row.unit_id
    depth = 0
    while k is not None and current is not None:
        if current in failed:
            _quarantine(row, failed[current])
            return
        v = verdicts[k].get(current)
        if v is not None and v.rule is not None:
            against.append((STEPS.index(v.rule.step), -depth, current, v))
        k, current, depth = UNITS[k].parent, None if v is None else v.parent_id, depth + 1
    if against:
        _, _, decider, v = min(against)
        _filter(row, decider, v)


def _filter(row: Row, decider: str, v: Verdict) -> None:
    """Book a unit under the rule that is false for `decider`; undecidable rules are errors, never quiet filters."""
    assert v.rule is not None
    row.decided_by, row.measured = decider, v.measured
    row.step, row.rule = v.rule.step, v.rule.id
    if v.undecidable:
        row.outcome = "quarantined"
        row.reason = f"rule {v.rule.id} ({v.rule.keep}) is undecidable on {v.measured}: write it to say what null means"
    else:
        row.outcome = "filtered"
        row.reason = f"{v.rule.keep} is false for {_values(v.measured)}"


def _values(measured: str | None) -> str:
    """Return measured values for people: `a = 1.234, b = x`."""
    found = json.loads(measured or "{}")
    return ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in found.items())


def _quarantine(row: Row, error: Mapping[str, Any]) -> None:
    row.outcome, row.step, row.rule = "quarantined", error["stage"], error["error"]
    row.reason, row.decided_by = error["message"], error["unit_id"]


def _inherit(row: Row, other: Row) -> None:
    row.outcome, row.step, row.rule, row.reason = other.outcome, other.step, other.rule, other.reason
    row.measured, row.decided_by = other.measured, other.decided_by


def _close(rows: dict[UnitKind, dict[str, Row]], verdicts: Verdicts, progress: Mapping[str, Progress]) -> None:
    """Settle open units from the leaves up: missing work makes them pending, dead children close a parent."""
    kinds = list(UNITS)
    children: dict[tuple[UnitKind, str], list[Row]] = defaultdict(list)
    for kind in reversed(kinds):
        parent = UNITS[kind].parent
        child = kinds[kinds.index(kind) + 1] if kind != kinds[-1] else None
        for row in rows[kind].values():
            below = children[kind, row.unit_id]
            if row.outcome == "kept":
                _settle(row, below, child, progress.get(row.source_id, Progress()))
            elif row.outcome == "filtered" and below and all(b.outcome == "filtered" for b in below):
                # Its children were out before this step of the funnel: then that is where the unit ends.
                last = max(below, key=_advance)
                if _advance(last)[0] < _advance(row)[0]:
                    _inherit(row, last)
            v = verdicts[kind].get(row.unit_id)
            if parent is not None and v is not None and v.parent_id is not None:
                children[parent, v.parent_id].append(row)


def _settle(row: Row, below: list[Row], child: UnitKind | None, progress: Progress) -> None:
    waiting = [s for s, ids in progress.covered.get(row.unit, {}).items() if row.unit_id not in ids]
    if waiting:
        row.outcome, row.step, row.reason = "pending", waiting[0], f"stage {waiting[0]} has not measured it yet"
        return
    if child is None:
        if progress.missing is not None:
            row.outcome, row.step, row.reason = "pending", progress.missing, f"stage {progress.missing} has to run"
        return
    for outcome in ("kept", "pending", "quarantined"):
        found = [b for b in below if b.outcome == outcome]
        if found:
            if outcome != "kept":
                _inherit(row, found[0])
            return
    if below:
        _inherit(row, max(below, key=_advance))
    elif progress.missing is not None:
        row.outcome, row.step, row.reason = "pending", progress.missing, f"stage {progress.missing} has to run"
    else:
        row.outcome, row.rule = "filtered", f"no_{child}"
        row.step = {"shots": "single_shot", "tracks": "human_presence"}.get(child, "conversation")
        row.reason = f"no {child} were found in it"


def _advance(row: Row) -> tuple[int, float, str]:
    step = STEPS.index(row.step) if row.step in STEPS else -1  # type: ignore[arg-type]
    return step, row.duration_s, row.unit_id


def _as_dict(r: Row) -> dict[str, Any]:
    return {c: getattr(r, c) for c in t.DECISIONS.column_names}


@dataclass(frozen=True, slots=True)
class Balance:
    """Counts and seconds of one kind of unit by outcome."""

    unit: str
    total: int
    total_s: float
    counts: dict[str, int]
    seconds: dict[str, float]

    @property
    def unaccounted(self) -> int:
        """Units that are in none of the outcomes; 0 when the law holds."""
        return self.total - sum(self.counts.values())


def balances(decisions: pa.Table, expected: Mapping[UnitKind, list[str]]) -> list[Balance]:
    """Return one balance a kind of unit; `expected` maps kinds to every id that must be accounted for."""
    rows = decisions.to_pylist()
    out = []
    for kind in UNITS:
        mine = [r for r in rows if r["unit"] == kind]
        ids = set(expected.get(kind, [r["unit_id"] for r in mine]))
        counts = {o: sum(r["outcome"] == o and r["unit_id"] in ids for r in mine) for o in OUTCOMES}
        seconds = {o: sum(r["duration_s"] for r in mine if r["outcome"] == o) for o in OUTCOMES}
        out.append(Balance(kind, len(ids), sum(r["duration_s"] for r in mine), counts, seconds))
    return out


def check(decisions: pa.Table, expected: Mapping[UnitKind, list[str]]) -> list[Balance]:
    """Return the balances after checking the conservation law.

    Raises:
        LedgerError: a unit is missing, counted twice, or without a reason.
    """
    result = balances(decisions, expected)
    lost = [f"{b.unaccounted} {b.unit}" for b in result if b.unaccounted]
    if lost:
        raise LedgerError(f"unaccounted for: {', '.join(lost)}")
    mute = [r["unit_id"] for r in decisions.to_pylist() if r["outcome"] != "kept" and not r["reason"]]
    if mute:
        raise LedgerError(f"no reason is recorded for {mute[0]} and {len(mute) - 1} more")
    return result
