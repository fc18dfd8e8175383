"""Apply a policy to measured tables: one decision a unit, by SQL, without touching media.

The same code gates stages (one source's tables, inside a worker) and decides the whole dataset (the ledger).
A rule whose measurement does not exist yet is skipped; a rule that is null on existing
measurements is `undecidable`, which is an error to look at, never a quiet filter.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from curation.decisions import rules
from curation.storage.bounds import JUDGE_S, BoundError, in_time
from schemas.settings.policy import Policy, PolicyError, Rule, UnitKind
from schemas.table import Table
from schemas.units import ACROSS, UNITS, chain, view_columns


@dataclass(slots=True)
class Decision:
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


Decisions = dict[UnitKind, dict[str, Decision]]
"""Per kind of unit, decisions by unit id."""


_OF_RULES = (
    duckdb.BinderException, duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException,
)  # fmt: skip
"""What DuckDB raises of an expression that holds for the types of columns, and not for every value."""


@contextlib.contextmanager
def judging(con: duckdb.DuckDBPyConnection, policy: Policy, max_s: float = JUDGE_S) -> Iterator[None]:
    """Ask the rules of a policy inside.

    Raises:
        PolicyError: a rule cannot be asked of a value that was measured, or the rules take too long or too much memory.
    """
    less = "ask less of a unit, in rules that are simpler"
    try:
        with in_time(con, max_s):
            yield
    except _OF_RULES as e:
        said = str(e).partition("\n")[0]
        raise PolicyError(
            f"policy {policy.name}: a rule cannot be asked of a value that was measured: {said}; write TRY(...) or "
            "try_cast(... AS ...) around it, which make null of such a value"
        ) from e
    except BoundError as e:
        raise PolicyError(f"policy {policy.name}: judging a slice of the dataset by its rules {e}; {less}") from e
    except duckdb.OutOfMemoryException as e:
        raise PolicyError(f"policy {policy.name}: its rules need more memory than there is; {less}") from e


def unit_tables() -> tuple[Table, ...]:
    """Return every table that rules may look at."""
    return tuple(dict.fromkeys(table for u in UNITS.values() for table in (u.table, *u.companions)))


@functools.lru_cache(maxsize=1)
def _connection() -> tuple[duckdb.DuckDBPyConnection, dict[str, pa.Table]]:
    """Return a connection, and what is registered there."""
    atexit.register(_connection.cache_clear)  # DuckDB's binding complains about connections that outlive it
    return rules.connect(), {}


def register_tables(con: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> None:
    """Register tables by name as `t_<name>`, missing ones as empty."""
    for table in unit_tables():
        con.register(f"t_{table.name}", tables.get(table.name, _empty(table)))


@functools.cache
def _empty(table: Table) -> pa.Table:
    return table.empty()


def view_sql(
    kind: UnitKind, relation: str = "t_{}", presence: bool = True, columns: Collection[str] | None = None
) -> str:
    """Return the SELECT behind a unit's view.

    Args:
        kind: the unit.
        relation: turns a table name into a relation name.
        presence: add columns that say which tables have a row of it.
        columns: select these only, and join only the tables that hold them; None = all.
    """
    unit = UNITS[kind]
    owner = {u.prefix: k for k, u in UNITS.items()}
    select, joins = [], []
    held = {(kind, unit.table.name)}
    values = []
    for name, (table, column, prefix) in view_columns(kind).items():
        if columns is None or name in columns:
            k = owner[prefix] if prefix else kind
            held.add((k, table.name))
            values.append(f'{k}__{table.name}."{column.name}" AS "{name}"')
    for k in reversed(chain(kind)):
        u = UNITS[k]
        for table in (u.table, *u.companions):
            if columns is not None and (k, table.name) not in held:
                continue
            alias = f"{k}__{table.name}"
            source = f'"{relation.format(table.name)}"'  # a user's table may be named by a word of SQL
            if k == kind and table is u.table:
                joins.append(f"FROM {source} {alias}")
            else:
                joins.append(f"LEFT JOIN {source} {alias} ON {alias}.{u.id} = {kind}__{unit.table.name}.{u.id}")
            if presence:
                select.append(f"({alias}.{u.id} IS NOT NULL) AS _has_{alias}")
    return f"SELECT {', '.join(select + values)} {' '.join(joins)}"


def evaluate(policy: Policy, tables: Mapping[str, pa.Table], down_to: UnitKind = "segments") -> Decisions:
    """Return every unit's decision under `policy`; `tables` maps table names to Arrow tables.

    `down_to` leaves out kinds below it (their decisions come back empty), for gates that do not look at them.
    """
    wanted = chain(down_to)
    return {kind: evaluate_kind(policy, tables, kind) if kind in wanted else {} for kind in UNITS}


def evaluate_kind(policy: Policy, tables: Mapping[str, pa.Table], kind: UnitKind) -> dict[str, Decision]:
    """Return the decision of every unit of a kind by id; of the tables, those that `read_by` names are looked at."""
    con, registered = _connection()
    for table in read_by(policy, kind):
        rows = tables.get(table.name, _empty(table))
        if registered.get(table.name) is not rows:  # to register takes longer than to decide a few units
            con.register(f"t_{table.name}", rows)
            registered[table.name] = rows
    chosen = policy.on(kind)
    out: dict[str, Decision] = {}
    columns = "unit_id, source_id, parent_id, duration_s, failed, undecidable, measured"
    sql = f"SELECT {columns} FROM ({decision_sql(policy, kind, 't_{}')}) ORDER BY unit_id"
    with judging(con, policy):
        found = con.execute(sql).fetchall()
    for unit_id, source_id, parent_id, duration_s, failed, undecidable, measured in found:
        rule = None if failed is None else chosen[failed]
        out[unit_id] = Decision(unit_id, source_id, parent_id, duration_s, rule, bool(undecidable), measured)
    return out


def read_by(policy: Policy, kind: UnitKind) -> tuple[Table, ...]:
    """Return the tables that the decisions of a kind of unit depend on."""
    return tuple(columns_by(policy, kind))


def columns_by(policy: Policy, kind: UnitKind) -> dict[Table, list[str]]:
    """Return, of each table that the decisions of a kind of unit depend on, the columns that they need."""
    known, ids = view_columns(kind), {u.id for u in UNITS.values()}
    needed: dict[Table, set[str]] = {UNITS[kind].table: set()}
    for table, column, _ in (known[name] for name in sorted(_looked_at(policy, kind)) if name in known):
        needed.setdefault(table, set()).add(column.name)
    return {table: [c for c in table.column_names if c in mine | ids] for table, mine in needed.items()}


def _looked_at(policy: Policy, kind: UnitKind) -> set[str]:
    """Return the columns of a unit's view that decide it and tell its place."""
    unit = UNITS[kind]
    parent = {UNITS[unit.parent].id} if unit.parent else set()
    return {unit.id, "source_id", "duration_s", *parent, *(c for r in policy.on(kind) for c in rules.columns_of(r))}


def decision_sql(policy: Policy, kind: UnitKind, relation: str = "{}") -> str:
    """Return the SELECT that judges every unit of a kind by the rules on that kind.

    `relation` turns a table's name into that of a relation; only what the rules look at is read.

    Columns: unit_id, source_id, parent_id, duration_s; `failed`, the place of the first rule against it among
    `policy.on(kind)`, null where none is; `undecidable`; `measured`, the values that rule looked at as JSON; `shown`,
    the same for people; and `passes_so_far`: no rule is against it that a source's own tables can decide.
    """
    unit, chosen = UNITS[kind], policy.on(kind)
    rules.check_together(chosen)
    parent = UNITS[unit.parent].id if unit.parent else "NULL"
    fails, own = [], []
    for i, rule in enumerate(chosen):
        needed = rules.tables_of(rule)
        has = " AND ".join(f"_has_{k}__{name}" for k, name in sorted(needed)) or "true"
        fails.append(f"(({has}) AND coalesce({_keep(rule)}, false) = false) AS _f{i}")
        if not {name for _, name in needed} & {table.name for table in ACROSS}:
            own.append(f"NOT _f{i}")
    columns = [c for rule in chosen for c in rules.columns_of(rule)]
    wanted = ", ".join(f'"{c}"' for c in dict.fromkeys((unit.id, "source_id", "duration_s", *columns)))
    types = {name: column.type for name, (_, column, _) in view_columns(kind).items()}

    def by_rule(value: Callable[[Rule], str], other: str = "NULL") -> str:
        cases = " ".join(f"WHEN {i} THEN {value(rule)}" for i, rule in enumerate(chosen))
        return f"CASE failed {cases} ELSE {other} END" if chosen else other

    first = " ".join(f"WHEN _f{i} THEN {i}" for i in range(len(chosen)))
    facts = view_sql(kind, relation, columns=_looked_at(policy, kind))
    judged = f"SELECT {wanted}, {parent} AS parent_id, {', '.join(fails) or 'NULL AS _none'} FROM ({facts})"
    placed = f"SELECT *, {f'CASE {first} END' if chosen else 'CAST(NULL AS INTEGER)'} AS failed FROM ({judged})"
    return (
        f"SELECT {unit.id} AS unit_id, source_id, parent_id, duration_s, failed, "
        f"{by_rule(lambda r: f'{_keep(r)} IS NULL')} AS undecidable, {by_rule(_measured)} AS measured, "
        f"{by_rule(lambda r: _shown(r, types))} AS shown, {' AND '.join(own) or 'true'} AS passes_so_far "
        f"FROM ({placed})"
    )


def _keep(rule: Rule) -> str:
    return f"({rule.keep})"


def _measured(rule: Rule) -> str:
    pairs = ", ".join(f'"{c}": "{c}"' for c in rules.columns_of(rule))
    return f"CAST(to_json({{{pairs}}}) AS VARCHAR)" if pairs else "'{}'"


def _shown(rule: Rule, types: Mapping[str, pa.DataType]) -> str:
    """Return SQL for `a = 1.234, b = x`, numbers and truth written as Python writes them."""
    parts = []
    for c in rules.columns_of(rule):
        text = f'CAST("{c}" AS VARCHAR)'
        if pa.types.is_floating(types[c]):
            text = f"format('{{:.4g}}', CAST(\"{c}\" AS DOUBLE))"
        elif pa.types.is_boolean(types[c]):
            text = f"CASE WHEN \"{c}\" THEN 'True' ELSE 'False' END"
        parts.append(f"'{c} = ' || CASE WHEN \"{c}\" IS NULL THEN 'None' ELSE {text} END")
    return " || ', ' || ".join(parts) or "''"


def alive(decisions: Decisions, kind: UnitKind) -> tuple[str, ...]:
    """Return the ids of units that pass and whose parents all pass, sorted."""
    return tuple(sorted(i for i in decisions[kind] if _dead_ancestor(decisions, kind, i) is None))


def _dead_ancestor(decisions: Decisions, kind: UnitKind, unit_id: str) -> tuple[UnitKind, str] | None:
    """Return the outermost unit that fails among a unit and its parents, or None when all pass.

    A parent whose own row is missing does not stop a unit.
    """
    failed: tuple[UnitKind, str] | None = None
    k: UnitKind | None = kind
    current: str | None = unit_id
    while k is not None and current is not None:
        v = decisions[k].get(current)
        if v is None:
            break
        if not v.passes:
            failed = (k, current)
        k, current = UNITS[k].parent, v.parent_id
    return failed
