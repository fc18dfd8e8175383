"""The ledger: every source, shot, track and segment ends as kept, filtered, quarantined or pending, with a reason.

`in = kept + filtered + quarantined + pending`, in counts and in seconds, is checked here and by `lpm verify`.
A parent without a kept child takes the outcome of its most advanced child, so that the reason is always a measured
one. All in SQL, from tables and commits, on as many sources as the connection shows; no media is touched.

`judge` goes down from sources to segments (what does a rule or an error say of the unit and of what holds it?) and up
again (what did its children come to, and is there work left?).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from curation.decisions.decide import decision_sql, judging, unit_tables
from curation.stage import GateMode
from schemas import tables as t
from schemas.settings.policy import STEPS, Policy, Rule, UnitKind
from schemas.table import Table
from schemas.tables.output import DecisionRow
from schemas.units import RIGHTS, UNITS

OUTCOMES = ("kept", "filtered", "quarantined", "pending")

_NO_CHILD_STEP = {"shots": "single_shot", "tracks": "human_presence", "segments": "conversation"}


class LedgerError(RuntimeError):
    """The conservation law does not hold; a bug in the engine, never in the data."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage of a source waits for: `bit` is its place in the masks of `cover` and `state`."""

    name: str
    bit: int
    gate: UnitKind | None
    mode: GateMode
    covers: bool
    """its units wait for it one by one"""


def ledger_tables() -> list[Table[Any]]:
    """Return the tables that decisions rest on."""
    return [t.INPUTS, *(table for table in unit_tables() if table is not RIGHTS)]


def live(con: duckdb.DuckDBPyConnection, policy: Policy) -> dict[UnitKind, list[str]]:
    """Return the ids of all units that `con` shows and that pass with all their parents, sorted."""
    out: dict[UnitKind, list[str]] = {}
    for kind, unit in UNITS.items():
        above = f"LEFT JOIN passing_{unit.parent} p ON p.unit_id = v.parent_id" if unit.parent else ""
        passes = "v.failed IS NULL AND coalesce(p.passes, true)" if unit.parent else "v.failed IS NULL"
        sql = f"SELECT v.unit_id, {passes} AS passes FROM ({decision_sql(policy, kind)}) v {above}"
        with judging(con, policy):
            con.execute(f"CREATE TEMP TABLE passing_{kind} AS {sql}")
        found = con.execute(f"SELECT unit_id FROM passing_{kind} WHERE passes ORDER BY 1").fetchall()
        out[kind] = [str(i) for (i,) in found]
    return out


def judge(con: duckdb.DuckDBPyConnection, policy: Policy, work: Sequence[Work] = ()) -> None:
    """Decide every unit that `con` shows, into the view `decided` (columns of DECISIONS).

    `con` has the tables of units, `rights` and `inputs` by name, and: `failed` (unit_id, stage, error, message), what
    is in quarantine; `cover` (unit_id, mask), which stages have measured a unit; `state` (source_id, done, settled),
    which stages have a commit for it, and whether every commit is of what is there now; `exact` (source_id, missing),
    the next stage of sources that are not settled.
    """
    kinds = list(UNITS)
    for kind in kinds:
        with judging(con, policy):
            con.execute(f"CREATE TEMP TABLE down_{kind} AS {_down(policy, kind, work)}")
    con.execute(f"CREATE TEMP TABLE waits AS {_waits(work)}")
    *above, leaf = kinds
    con.execute(_hold_back(leaf, work))
    con.execute(f"CREATE TEMP VIEW up_{leaf} AS FROM down_{leaf}")
    for kind in reversed(above):
        con.execute(f"CREATE TEMP TABLE up_{kind} AS {_up(kind, work)}")
    decided = " UNION ALL ".join(
        f"SELECT '{kind}' AS {DecisionRow.unit}, unit_id AS {DecisionRow.unit_id}, source_id AS "
        f"{DecisionRow.source_id}, duration_s AS {DecisionRow.duration_s}, d.* FROM up_{kind}"
        for kind in kinds
    )
    con.execute(f"CREATE TEMP VIEW decided AS {decided}")


_D = (
    DecisionRow.outcome, DecisionRow.step, DecisionRow.rule, DecisionRow.reason, DecisionRow.measured,
    DecisionRow.decided_by,
)  # fmt: skip


def _decision(outcome: str, step: str, rule: str, reason: str, measured: str, decided_by: str) -> str:
    values = zip(_D, (outcome, step, rule, reason, measured, decided_by), strict=True)
    return "{" + ", ".join(f"'{name}': CAST({value} AS VARCHAR)" for name, value in values) + "}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _step_index(step: str) -> str:
    """Return SQL for the place of a step in the funnel; -1 for what is no step, such as a stage."""
    return "CASE " + step + " ".join(["", *(f"WHEN '{s}' THEN {i}" for i, s in enumerate(STEPS))]) + " ELSE -1 END"


_FILTERED = _decision(
    "CASE WHEN v.undecidable THEN 'quarantined' ELSE 'filtered' END",
    "r.step", "r.rule", "CASE WHEN v.undecidable THEN r.undecidable || v.measured || "
    "': write it to say what null means' ELSE r.is_false || v.shown END",
    "v.measured", "v.unit_id",
)  # fmt: skip
_ERROR = _decision("'quarantined'", "f.stage", "f.error", "f.message", "NULL", "f.unit_id")
_KEPT = _decision("'kept'", "NULL", "NULL", "NULL", "NULL", "v.unit_id")
_NOT_FOUND = _decision("'pending'", "NULL", "NULL", "'not measured yet'", "NULL", "v.unit_id")


def _down(policy: Policy, kind: UnitKind, work: Sequence[Work]) -> str:
    """Return the SELECT of what decides units from above or by themselves; the outcome is "kept" where nothing does.

    Of several rules against a unit and its parents, the one earliest in the funnel decides (`step_at`): later steps
    would not have seen the unit any more. Of several errors (`stuck` 1), the nearest; a source in quarantine (`stuck`
    2) takes all that is in it along.
    """
    joins = (
        f"LEFT JOIN ({_rules(policy.on(kind))}) r ON r.failed = v.failed LEFT JOIN failed f ON f.unit_id = v.unit_id"
    )
    bits, mask = sum(1 << w.bit for w in work if w.gate == kind and w.mode != "once"), "CAST(0 AS UBIGINT)"
    if bits:
        joins += f" LEFT JOIN (FROM cover WHERE mask & {bits} <> 0) c ON c.unit_id = v.unit_id"
        mask = "coalesce(c.mask, 0)"
    columns = f"v.unit_id, v.source_id, v.parent_id, v.duration_s, {mask} AS mask"
    if kind == "sources":
        return f"""
            WITH judged AS ({decision_sql(policy, kind)}),
            v AS (
                SELECT i.source_id AS unit_id, i.source_id, CAST(NULL AS VARCHAR) AS parent_id,
                       coalesce(j.duration_s, 0.0) AS duration_s, j.failed, j.undecidable, j.measured, j.shown,
                       coalesce(j.passes_so_far, false) AS passes_so_far, j.unit_id IS NOT NULL AS found
                FROM (SELECT DISTINCT source_id FROM inputs) i LEFT JOIN judged j ON j.unit_id = i.source_id
            )
            SELECT {columns}, v.found, v.passes_so_far AS live, r.step_at,
                   CASE WHEN f.unit_id IS NOT NULL THEN {_ERROR} WHEN NOT v.found THEN {_NOT_FOUND}
                   WHEN v.failed IS NOT NULL THEN {_FILTERED} ELSE {_KEPT} END AS d,
                   CASE WHEN (d).outcome = 'quarantined' THEN 2 ELSE 0 END AS stuck
            FROM v {joins}
        """
    # Of parents, only those that have something against their children are looked up.
    return f"""
        WITH v AS ({decision_sql(policy, kind)})
        SELECT {columns}, v.passes_so_far AND coalesce(p.live, true) AS live, least(p.step_at, r.step_at) AS step_at,
               CASE WHEN p.stuck = 2 THEN p.d WHEN f.unit_id IS NOT NULL THEN {_ERROR}
                    WHEN p.stuck = 1 OR p.step_at <= coalesce(r.step_at, p.step_at) THEN p.d
                    WHEN v.failed IS NOT NULL THEN {_FILTERED} ELSE {_KEPT} END AS d,
               greatest(coalesce(p.stuck, 0), CASE WHEN f.unit_id IS NOT NULL THEN 1 ELSE 0 END) AS stuck
        FROM v {joins} LEFT JOIN (
            FROM down_{UNITS[kind].parent} WHERE step_at IS NOT NULL OR stuck > 0 OR NOT live
        ) p ON p.unit_id = v.parent_id
    """


def _rules(rules: Sequence[Rule]) -> str:
    """Return the SELECT of what is said of units that a rule is against, by the rule's place."""
    rows = [
        f"({i}, {STEPS.index(r.step)}, {_text(r.step)}, {_text(r.id)}, {_text(f'{r.keep} is false for ')}, "
        f"{_text(f'rule {r.id} ({r.keep}) is undecidable on ')})"
        for i, r in enumerate(rules)
    ]
    nothing = "(-1, 0, '', '', '', '')"
    columns = "failed, step_at, step, rule, is_false, undecidable"
    return f"FROM (VALUES {', '.join(rows) or nothing}) rules({columns})"


def _waits(work: Sequence[Work]) -> str:
    """Return the SELECT of the next stage of every source; null = nothing is left to do for it as a whole.

    Where all commits are of what is there now, it follows from which units are alive; else it was found out stage by
    stage (`exact`).
    """
    kinds = [k for k in UNITS if any(w.gate == k for w in work)]
    joins, cases = [], []
    for kind in kinds:
        mine = [w for w in work if w.gate == kind and w.mode != "once"]
        columns = ["bool_or(live) AS live"]
        columns += [f"bool_or(live AND {_bit('mask', w)} = 0) AS less{w.bit}" for w in mine if w.mode == "each"]
        columns += [f"bool_or(live <> ({_bit('mask', w)} <> 0)) AS less{w.bit}" for w in mine if w.mode == "together"]
        joins.append(
            f"LEFT JOIN (SELECT source_id, {', '.join(columns)} FROM down_{kind} GROUP BY 1) {kind} USING (source_id)"
        )
    for w in work:
        if w.gate is not None:
            less = "" if w.mode == "once" else f" OR {w.gate}.less{w.bit}"
            cases.append(f"WHEN {w.gate}.live AND ({_bit('s.done', w)} = 0{less}) THEN {_text(w.name)}")
    settled = f"CASE {' '.join(cases)} END" if cases else "NULL"
    return (
        f"SELECT source_id, CAST(CASE WHEN s.settled THEN {settled} ELSE e.missing END AS VARCHAR) AS missing "
        "FROM (SELECT unit_id AS source_id FROM down_sources) LEFT JOIN state s USING (source_id) "
        f"LEFT JOIN exact e USING (source_id) {' '.join(joins)}"
    )


def _bit(mask: str, work: Work) -> str:
    return f"({mask} & {1 << work.bit})"


_HAS_TO_RUN = _decision(
    "'pending'", "m.missing", "NULL", "'stage ' || m.missing || ' has to run'", "NULL", "u.unit_id"
)  # fmt: skip


def _unmeasured(kind: UnitKind, work: Iterable[Work]) -> str:
    """Return SQL for the first stage that a unit itself waits for, null where it waits for none."""
    cases = " ".join(f"WHEN {_bit('u.mask', w)} = 0 THEN {_text(w.name)}" for w in work if w.covers and w.gate == kind)
    return f"CASE {cases} END" if cases else "NULL"


def _not_measured_yet(stage: str) -> str:
    said = f"'stage ' || {stage} || ' has not measured it yet'"
    return _decision("'pending'", stage, "NULL", said, "NULL", "u.unit_id")


def _hold_back(leaf: UnitKind, work: Sequence[Work]) -> str:
    """Return the UPDATE that makes kept units without children pending where work is missing: as a rule none."""
    first = _unmeasured(leaf, work)
    pending = f"CASE WHEN ({first}) IS NOT NULL THEN {_not_measured_yet(first)} ELSE {_HAS_TO_RUN} END"
    return f"""
        UPDATE down_{leaf} t SET d = w.d FROM (
            SELECT u.unit_id, {pending} AS d
            FROM down_{leaf} u LEFT JOIN waits m USING (source_id)
            WHERE u.d.outcome = 'kept' AND (({first}) IS NOT NULL OR m.missing IS NOT NULL)
        ) w WHERE w.unit_id = t.unit_id
    """


def _up(kind: UnitKind, work: Iterable[Work]) -> str:
    """Return the SELECT that settles units from what became of their children: missing work makes pending."""
    kinds = list(UNITS)
    child = kinds[kinds.index(kind) + 1]
    first = _unmeasured(kind, work)
    cases = [f"WHEN ({first}) IS NOT NULL THEN {_not_measured_yet(first)}"]
    none = _decision(
        "'filtered'", _text(_NO_CHILD_STEP[child]), _text(f"no_{child}"), _text(f"no {child} were found in it"),
        "NULL", "u.unit_id",
    )  # fmt: skip
    cases += [
        "WHEN b.kept THEN u.d", "WHEN b.pending IS NOT NULL THEN b.pending",
        "WHEN b.quarantined IS NOT NULL THEN b.quarantined", "WHEN b.last IS NOT NULL THEN b.last.d",
        f"WHEN m.missing IS NOT NULL THEN {_HAS_TO_RUN}",
    ]  # fmt: skip
    return f"""
        WITH below AS (
            SELECT parent_id AS unit_id, bool_or(d.outcome = 'kept') AS kept,
                   arg_min(d, unit_id) FILTER (d.outcome = 'pending') AS pending,
                   arg_min(d, unit_id) FILTER (d.outcome = 'quarantined') AS quarantined,
                   bool_and(d.outcome = 'filtered') AS filtered,
                   arg_max({{'at': at_step, 'd': d}}, {{'at': at_step, 'long': duration_s, 'id': unit_id}}) AS last
            FROM (SELECT *, {_step_index("d.step")} AS at_step FROM up_{child}) WHERE parent_id IS NOT NULL GROUP BY 1
        )
        SELECT u.unit_id, u.source_id, u.parent_id, u.duration_s,
               CASE WHEN u.d.outcome = 'kept' THEN CASE {" ".join(cases)} ELSE {none} END
                    -- Its children were out before this step of the funnel: then that is where the unit ends.
                    WHEN u.d.outcome = 'filtered' AND b.filtered AND b.last.at < {_step_index("u.d.step")} THEN b.last.d
                    {_never_measured(kind)}
                    ELSE u.d END AS d
        FROM down_{kind} u LEFT JOIN below b USING (unit_id) LEFT JOIN waits m USING (source_id)
    """


def _never_measured(kind: UnitKind) -> str:
    if kind != "sources":
        return ""
    pending = _decision("'pending'", "m.missing", "NULL", "'not measured yet'", "NULL", "u.unit_id")
    return f"WHEN NOT u.found AND u.d.outcome = 'pending' THEN {pending}"


# ------------------------------------------------------------------------------------------------ the balance


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


def balances(con: duckdb.DuckDBPyConnection, decided: str = "decisions") -> list[Balance]:
    """Return one balance a kind of unit, of all that the connection shows.

    Accounted for must be every registered source and every measured shot, track and segment.
    """
    out = []
    for kind, unit in UNITS.items():
        table = t.INPUTS if kind == "sources" else unit.table
        # The ids of units are the key of their table; the registry may have several paths to one source.
        distinct = "DISTINCT " if kind == "sources" else ""
        rows = con.execute(
            f"WITH expected AS MATERIALIZED (SELECT {distinct}{unit.id} FROM {table.name}) "
            f"SELECT outcome, count(*) FILTER (unit_id IN (FROM expected)), coalesce(sum(duration_s), 0.0) "
            f"FROM {decided} WHERE unit = '{kind}' GROUP BY 1 UNION ALL SELECT NULL, count(*), 0.0 FROM expected"
        ).fetchall()
        total = next(n for x, n, _ in rows if x is None)
        counts = {o: next((n for x, n, _ in rows if x == o), 0) for o in OUTCOMES}
        seconds = {o: next((s for x, _, s in rows if x == o), 0.0) for o in OUTCOMES}
        out.append(Balance(kind, total, sum(s for _, _, s in rows), counts, seconds))
    return out


def total(parts: Iterable[list[Balance]]) -> list[Balance]:
    """Add up the balances of several slices."""
    out: list[Balance] = [Balance(k, 0, 0.0, dict.fromkeys(OUTCOMES, 0), dict.fromkeys(OUTCOMES, 0.0)) for k in UNITS]
    for part in parts:
        for i, (a, b) in enumerate(zip(out, part, strict=True)):
            out[i] = replace(
                a,
                total=a.total + b.total,
                total_s=a.total_s + b.total_s,
                counts={o: a.counts[o] + b.counts[o] for o in OUTCOMES},
                seconds={o: a.seconds[o] + b.seconds[o] for o in OUTCOMES},
            )
    return out


def mute(con: duckdb.DuckDBPyConnection, decided: str = "decisions") -> list[str]:
    """Return the ids of units that were not kept and have no reason."""
    rows = con.execute(
        f"SELECT unit_id FROM {decided} WHERE outcome <> 'kept' AND coalesce(reason, '') = ''"
    ).fetchall()
    return [str(i) for (i,) in rows]


def check(found: list[Balance], without_reason: Sequence[str] = ()) -> list[Balance]:
    """Return the balances after checking the conservation law.

    Raises:
        LedgerError: a unit is missing, counted twice, or without a reason.
    """
    lost = [f"{b.unaccounted} {b.unit}" for b in found if b.unaccounted]
    if lost:
        raise LedgerError(f"unaccounted for: {', '.join(lost)}")
    if without_reason:
        raise LedgerError(f"no reason is recorded for {without_reason[0]} and {len(without_reason) - 1} more")
    return found
