"""Policy rules as SQL: checking them before any work, and reading columns and thresholds out of them.

A rule is parsed and bound by DuckDB itself against empty views, so a wrong column or a syntax error is refused
with the rule's id before a frame is decoded. Costs milliseconds a policy.
"""

from __future__ import annotations

import atexit
import difflib
import functools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from curation.decisions.predicate_functions import MOST_CHARACTERS, MOST_TOGETHER, refusal, steps, walk
from curation.storage import duck
from curation.storage.bounds import BoundError, in_time
from schemas.column import Column
from schemas.settings.policy import Policy, PolicyError, Rule, UnitKind
from schemas.units import UNITS, view_columns

CHECK_S = 60.0
"""Seconds that checking a policy may take: the default one takes a tenth of one."""
_OPERATORS = {
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
}
_FLIPPED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "=": "=", "<>": "<>"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One comparison of a column with a number inside a predicate."""

    column: str
    operator: str
    value: float


def connect() -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that can reach no file and no network: predicates are data, not programs."""
    con = duck.connect(threads=1, memory_limit="512MB")
    duck.shut(con)
    return con


def check_policy(policy: Policy) -> None:
    """Refuse a policy with a rule that does not parse, names an unknown column, or is not a boolean.

    Raises:
        PolicyError: names the rule, the problem, and the closest known column.
    """
    con = connect()
    try:
        with in_time(con, CHECK_S):
            for kind, unit in UNITS.items():
                columns = {name: column for name, (_, column, _) in view_columns(kind).items()}
                con.register(f"empty_{kind}", _empty(columns))
                con.execute(f"CREATE VIEW {kind} AS SELECT * FROM empty_{kind}")
                for rule in policy.on(unit.kind):
                    _check_rule(con, rule, list(columns))
                check_together(policy.on(unit.kind))
    except BoundError as e:
        raise PolicyError(f"policy {policy.name}: checking its rules {e}; ask less, in rules that are simpler") from e


def check_predicate(text: str, columns: Mapping[str, Column[Any]], name: str) -> tuple[str, ...]:
    """Return the columns that a predicate over some columns looks at; it is held to what a policy's rules are held to.

    Raises:
        PolicyError: it does not parse, has a subquery, names an unknown column, or is not a boolean.
    """
    rule = Rule(id=name, on="segments", step="rights", keep=text)
    con = connect()
    con.register("empty_segments", _empty(columns))
    con.execute("CREATE VIEW segments AS SELECT * FROM empty_segments")
    _check_rule(con, rule, list(columns))
    return columns_of(rule)


def _empty(columns: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    return pa.schema([pa.field(name, c.type) for name, c in columns.items()]).empty_table()


def _check_rule(con: duckdb.DuckDBPyConnection, rule: Rule, known: list[str]) -> None:
    _parse(rule)
    _check_columns(rule, known)
    try:
        types = con.execute(f"DESCRIBE SELECT ({rule.keep}) AS keep FROM {rule.on}").fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error as e:
        raise PolicyError(f"rule {rule.id!r}: {str(e).splitlines()[0]} (in: {rule.keep})") from e
    if types[0][1] != "BOOLEAN":
        raise PolicyError(f"rule {rule.id!r}: keep must be true or false, but {rule.keep!r} is {types[0][1]}")


def _check_columns(rule: Rule, known: Collection[str]) -> None:
    if any(len(n["column_names"]) > 1 for n in walk(_parse(rule)) if n.get("class") == "COLUMN_REF"):
        raise PolicyError(f"rule {rule.id!r}: name a column by itself, without a table (in: {rule.keep})")
    unknown = [c for c in columns_of(rule) if c not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; `lpm schema units_{rule.on}` lists the columns"
        raise PolicyError(f"rule {rule.id!r}: {rule.on} has no column {unknown[0]!r}{hint}")


@functools.lru_cache(maxsize=1)
def _parser() -> duckdb.DuckDBPyConnection:
    atexit.register(_parser.cache_clear)  # DuckDB's binding complains about connections that outlive it
    return connect()


@functools.lru_cache(maxsize=1024)
def _parse(rule: Rule) -> Any:
    if len(rule.keep) > MOST_CHARACTERS:
        raise PolicyError(f"rule {rule.id!r} has {len(rule.keep)} characters; at most {MOST_CHARACTERS} are read")
    for keep in (rule.keep, f"({rule.keep})"):  # without brackets too: `a) OR (b` is not one predicate
        sql = f"SELECT {keep} FROM unit"
        ((text,),) = _parser().execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        tree: Any = json.loads(text)
        if tree["error"]:
            raise PolicyError(f"rule {rule.id!r}: {tree['error_message']} (in: {rule.keep})")
    why = "a rule is one predicate" if len(tree["statements"]) != 1 else refusal(tree)
    if why is not None:
        raise PolicyError(f"rule {rule.id!r}: {why} (in: {rule.keep})")
    return tree


def check_together(rules: Iterable[Rule]) -> None:
    """Refuse rules on one kind of unit that are too many to be asked together. Raises PolicyError."""
    n = sum(map(_steps_of, rules))
    if n > MOST_TOGETHER:
        raise PolicyError(
            f"rules on one kind of unit have {n} functions and operators together; at most {MOST_TOGETHER} are asked"
        )


@functools.lru_cache(maxsize=1024)
def _steps_of(rule: Rule) -> int:
    return steps(_parse(rule))


@functools.lru_cache(maxsize=1024)
def columns_of(rule: Rule) -> tuple[str, ...]:
    """Return the columns a rule looks at, in order of appearance."""
    found = [n["column_names"][-1] for n in walk(_parse(rule)) if n.get("class") == "COLUMN_REF"]
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=1024)
def thresholds_of(rule: Rule) -> tuple[Threshold, ...]:
    """Return the comparisons of one column with one number, for reports."""
    out: list[Threshold] = []
    for n in walk(_parse(rule)):
        if n.get("class") == "COMPARISON" and n.get("type") in _OPERATORS:
            op = _OPERATORS[n["type"]]
            for a, b, sign in ((n["left"], n["right"], op), (n["right"], n["left"], _FLIPPED[op])):
                column, value = _column(a), _number(b)
                if column and value is not None:
                    out.append(Threshold(column, sign, value))
        elif n.get("class") == "BETWEEN":
            column = _column(n["input"])
            for bound, sign in ((n["lower"], ">="), (n["upper"], "<=")):
                value = _number(bound)
                if column and value is not None:
                    out.append(Threshold(column, sign, value))
    return tuple(out)


def _column(node: dict[str, Any]) -> str | None:
    names = [n["column_names"][-1] for n in walk(node) if n.get("class") == "COLUMN_REF"]
    return str(names[0]) if len(set(names)) == 1 else None


def _number(node: dict[str, Any]) -> float | None:
    children: list[Any] = node.get("children") or []
    if node.get("class") == "FUNCTION" and node.get("function_name") == "-" and len(children) == 1:
        inner = _number(children[0])
        return None if inner is None else -inner
    literal = node.get("literal") if node.get("class") == "CONSTANT" else None
    if not isinstance(literal, dict):
        return None
    try:
        return float(literal["text"])
    except (KeyError, ValueError):
        return None


@functools.lru_cache(maxsize=1024)
def tables_of(rule: Rule) -> frozenset[tuple[UnitKind, str]]:
    """Return (unit kind, table name) pairs whose rows must exist before the rule can be decided."""
    view = view_columns(rule.on)
    _check_columns(rule, view)
    kinds = {u.prefix: k for k, u in UNITS.items()}
    out: set[tuple[UnitKind, str]] = set()
    for c in columns_of(rule):
        table, _, prefix = view[c]
        out.add((kinds[prefix] if prefix else rule.on, table.name))
    return frozenset(out)
