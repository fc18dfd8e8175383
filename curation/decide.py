"""Apply a policy to measured tables: one verdict a unit, by SQL, without touching media.

The same code gates stages (one source's tables, inside a worker) and decides the whole dataset (the ledger).
A rule whose measurement does not exist yet is skipped; a rule that is null on existing
measurements is `undecidable`, which is an error to look at, never a quiet filter.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from curation import rules
from schemas.policy import Policy, Rule, UnitKind
from schemas.table import Table
from schemas.units import UNITS, view_columns


@dataclass(slots=True)
class Verdict:
    """What the rules say of one unit, its parents not considered."""

    unit_id: str
    source_id: str
    parent_id: str | None
    duration_s: float
    rule: Rule | None = None
    undecidable: bool = False
    measured: str | None = None

    @property
    def passes(self) -> bool:
        """No rule that could be decided is against the unit."""
        return self.rule is None


Verdicts = dict[UnitKind, dict[str, Verdict]]
"""Per kind of unit, verdicts by unit id."""


def unit_tables() -> tuple[Table, ...]:
    """Return every table that rules may look at."""
    return tuple(dict.fromkeys(table for u in UNITS.values() for table in (u.table, *u.companions)))


@functools.lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    atexit.register(_connection.cache_clear)  # DuckDB's binding complains about connections that outlive it
    return rules.connect()


def create_views(con: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> None:
    """Register tables by name as `t_<name>` (missing ones as empty) and create one view a kind of unit."""
    known = unit_tables()
    for table in known:
        con.register(f"t_{table.name}", tables.get(table.name, table.empty()))
    names = " ".join(table.name for table in known)
    found = con.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'segments'").fetchone()
    if found is None or found[0] != names:  # tables of a user's own may have come since
        for kind in UNITS:
            con.execute(f"CREATE OR REPLACE VIEW {kind} AS {view_sql(kind)}")
        con.execute(f"COMMENT ON VIEW segments IS '{names}'")


def view_sql(kind: UnitKind, relation: str = "t_{}", presence: bool = True) -> str:
    """Return the SELECT behind a unit's view; `relation` turns a table name into a relation name."""
    unit = UNITS[kind]
    select, joins = [], []
    chain = [kind]
    while (up := UNITS[chain[-1]].parent) is not None:
        chain.append(up)
    for k in chain:
        u = UNITS[k]
        for table in (u.table, *u.companions):
            alias = f"{k}__{table.name}"
            source = relation.format(table.name)
            if k == kind and table is u.table:
                joins.append(f"FROM {source} {alias}")
            else:
                joins.append(f"LEFT JOIN {source} {alias} ON {alias}.{u.id} = {kind}__{unit.table.name}.{u.id}")
            if presence:
                select.append(f"({alias}.{u.id} IS NOT NULL) AS _has_{alias}")
    owner = {u.prefix: k for k, u in UNITS.items()}
    for name, (table, column, prefix) in view_columns(kind).items():
        select.append(f'{owner[prefix] if prefix else kind}__{table.name}."{column.name}" AS "{name}"')
    return f"SELECT {', '.join(select)} {' '.join(joins)}"


def evaluate(policy: Policy, tables: Mapping[str, pa.Table], down_to: UnitKind = "segments") -> Verdicts:
    """Return every unit's verdict under `policy`; `tables` maps table names to Arrow tables.

    `down_to` leaves out kinds below it (their verdicts come back empty), for gates that do not look at them.
    """
    con = _connection()
    create_views(con, tables)
    kinds = list(UNITS)
    wanted = kinds[: kinds.index(down_to) + 1]
    return {kind: _evaluate_kind(con, policy, kind) if kind in wanted else {} for kind in kinds}


def _evaluate_kind(con: duckdb.DuckDBPyConnection, policy: Policy, kind: UnitKind) -> dict[str, Verdict]:
    unit, chosen = UNITS[kind], policy.on(kind)
    parent = UNITS[unit.parent].id if unit.parent else "NULL"
    codes, measures = [], []
    for rule in chosen:
        present = [f"_has_{k}__{name}" for k, name in sorted(rules.tables_of(rule))]
        has = " AND ".join(present) or "true"
        keep = f"({rule.keep})"
        codes.append(f"CASE WHEN NOT ({has}) THEN 3 WHEN {keep} IS NULL THEN 2 WHEN {keep} THEN 0 ELSE 1 END")
        pairs = ", ".join(f'"{c}": "{c}"' for c in rules.columns_of(rule))
        value = f"CAST(to_json({{{pairs}}}) AS VARCHAR)" if pairs else "'{}'"
        measures.append(f"CASE WHEN ({has}) AND coalesce({keep}, false) = false THEN {value} END")
    sql = (
        f"SELECT {unit.id}, source_id, {parent}, duration_s, [{', '.join(codes)}], [{', '.join(measures)}] "
        f"FROM {kind} ORDER BY {unit.id}"
    )
    out: dict[str, Verdict] = {}
    for unit_id, source_id, parent_id, duration_s, verdicts, measured in con.execute(sql).fetchall():
        v = Verdict(unit_id, source_id, parent_id, duration_s)
        for rule, code, value in zip(chosen, verdicts, measured, strict=True):
            if code in (1, 2):
                v.rule, v.undecidable, v.measured = rule, code == 2, value
                break
        out[unit_id] = v
    return out


def alive(verdicts: Verdicts, kind: UnitKind) -> tuple[str, ...]:
    """Return the ids of units that pass and whose parents all pass, sorted."""
    return tuple(sorted(i for i in verdicts[kind] if dead_ancestor(verdicts, kind, i) is None))


def dead_ancestor(verdicts: Verdicts, kind: UnitKind, unit_id: str) -> tuple[UnitKind, str] | None:
    """Return the outermost unit that fails among a unit and its parents, or None when all pass.

    A parent whose own row is missing does not stop a unit.
    """
    failed: tuple[UnitKind, str] | None = None
    k: UnitKind | None = kind
    current: str | None = unit_id
    while k is not None and current is not None:
        v = verdicts[k].get(current)
        if v is None:
            break
        if not v.passes:
            failed = (k, current)
        k, current = UNITS[k].parent, v.parent_id
    return failed
