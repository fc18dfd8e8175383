"""Which functions a policy's predicate may call: those whose answer follows from the unit alone, and stays small.

DuckDB says of its functions what they are; of a macro its definition tells. Costs milliseconds, once a process.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import duckdb

_GROWS = {
    "array_resize", "bar", "bitstring", "format", "generate_series", "list_resize", "lpad", "printf", "range",
    "repeat", "rpad", "to_base",
}  # fmt: skip
"""Their result can be as large as a number in the predicate says."""


def refusal(con: duckdb.DuckDBPyConnection, tree: Any) -> str | None:
    """Return why a parsed predicate (`json_serialize_sql`) may not be asked of a unit; None where it may."""
    for node in walk(tree):
        kind, name = node.get("class"), str(node.get("function_name", ""))
        if kind == "SUBQUERY":
            return "a rule is one predicate without subqueries"
        if kind == "STAR":
            return "a rule names its columns; it cannot ask of all of them (*, COLUMNS)"
        if kind == "WINDOW":
            return f"{name}() looks at several units, and a rule at one"
        if kind == "FUNCTION" and (why := _against(con, name)):
            return why
    return None


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement, outer before inner."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def _against(con: duckdb.DuckDBPyConnection, name: str) -> str | None:
    if name in _GROWS:
        return f"{name}() can grow without bound"
    known = _functions(con).get(name)
    if known is None:
        return None  # DuckDB itself says that there is no such function, and which are near
    kinds, stability, definitions = known
    if kinds - {"scalar", "macro"}:
        return f"{name.replace('count_star', 'count')}() looks at several units, and a rule at one"
    if stability - {"CONSISTENT"}:
        return f"{name}() does not give the same answer whenever it is asked, and decisions must"
    for definition in definitions:
        tree = _parsed(con, definition)
        if refusal(con, tree) is not None or any(_reads_a_clock(node) for node in walk(tree)):
            return f"{name}() is more than a function of its arguments, and a rule must follow from the unit alone"
    return None


def _reads_a_clock(node: dict[str, Any]) -> bool:
    """Whether a node of a macro's definition is a word such as `current_timestamp`, which SQL takes for a column."""
    return node.get("class") == "COLUMN_REF" and str(node["column_names"][-1]).startswith(("current_", "local"))


def _parsed(con: duckdb.DuckDBPyConnection, expression: str) -> Any:
    ((text,),) = con.execute("SELECT json_serialize_sql(?)", [f"SELECT ({expression})"]).fetchall()
    return json.loads(text)


_Known = dict[str, tuple[frozenset[str], frozenset[str], tuple[str, ...]]]


@functools.lru_cache(maxsize=1)
def _functions(con: duckdb.DuckDBPyConnection) -> _Known:
    """Return by name the kinds of function that it is, their stability, and macros' definitions."""
    sql = (
        "SELECT function_name, list(DISTINCT function_type), list(DISTINCT stability) FILTER (stability IS NOT NULL), "
        "list(DISTINCT macro_definition ORDER BY macro_definition) FILTER (macro_definition IS NOT NULL) "
        "FROM duckdb_functions() GROUP BY 1"
    )
    return {
        str(name): (frozenset(kinds), frozenset(stable or ()), tuple(macros or ()))
        for name, kinds, stable, macros in con.execute(sql).fetchall()
    }
