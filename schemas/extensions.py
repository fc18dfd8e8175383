"""Tables of a user's own stages: declared while the program runs, and known from then on like ours.

A table whose key is the id of a kind of unit alone belongs to that unit: policy rules see its columns. What a dataset
holds is written down as JSON, so that it is read without the code that made it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from schemas.table import Column, Row, Table, TableError
from schemas.tables import TABLES
from schemas.units import UNITS

OURS = frozenset(TABLES)
"""Names of openlpm's own tables."""


def declare(table: Table[Any]) -> None:
    """Make a table known to queries, rules and the data contract.

    Raises:
        TableError: one of our own tables has that name.
    """
    known = TABLES.get(table.name)
    if known == table and known.key == table.key:
        return
    if table.name in OURS:
        raise TableError(f"table {table.name!r} is one of openlpm's own; give yours another name")
    TABLES[table.name] = table
    for kind, unit in UNITS.items():
        others = tuple(c for c in unit.companions if c.name != table.name)
        mine = (table,) if table.key == (unit.id,) and table.grain != "window" else ()
        UNITS[kind] = replace(unit, companions=(*others, *mine))


def to_json(table: Table) -> dict[str, Any]:
    """Return a table's declaration as plain data."""
    columns = [
        {"name": c.name, "type": _written(c.type), "doc": c.doc, "unit": c.unit, "null": c.nullable}
        for c in table.columns
    ]
    return {
        "name": table.name, "doc": table.doc, "key": list(table.key), "grain": table.grain, "columns": columns,
    }  # fmt: skip


def from_json(data: dict[str, Any]) -> Table:
    """Return the table that `to_json` wrote."""
    columns = {x["name"]: Column[Any](_read(x["type"]), x["doc"], x["unit"], x["null"]) for x in data["columns"]}
    row: type[Row] = type("ReadRow", (Row,), {"__doc__": data["doc"], **columns})
    return Table(row, data["name"], [columns[name] for name in data["key"]], data["grain"])


def own(tables: list[Table]) -> list[Table]:
    """Return those that are not openlpm's, in order of their names."""
    return sorted((t for t in tables if t.name not in OURS), key=lambda t: t.name)


def _written(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return {"list": _written(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"struct": {f.name: _written(f.type) for f in kind}}
    return str(kind)


def _read(kind: Any) -> pa.DataType:
    match kind:
        case {"list": inner}:
            return pa.list_(_read(inner))
        case {"struct": fields}:
            return pa.struct({name: _read(inner) for name, inner in fields.items()})
    simple: pa.DataType = pa.type_for_alias(kind)
    return simple
