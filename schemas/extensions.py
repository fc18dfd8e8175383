"""Tables of a user's own stages: declared while the program runs, and known from then on like ours.

A table whose key is the id of a kind of unit alone belongs to that unit: policy rules see its columns, and those that
are marked as packed go into the manifest and into samples. What a dataset holds is written down as JSON, so that it is
read without the code that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NotRequired, TypedDict

import pyarrow as pa
from pydantic import JsonValue

from schemas.packed import Packed
from schemas.samples.sample import Audio, Scores
from schemas.settings.policy import UnitKind
from schemas.table import Column, Grain, Row, Table, TableError
from schemas.tables import MANIFEST, TABLES
from schemas.units import UNITS, chain, packed_columns, view_columns

OURS = frozenset(TABLES)
"""Names of openlpm's own tables."""
VIEWS = frozenset({"rights", *(f"units_{kind}" for kind in UNITS)})
"""Names of the views that are made over tables: a table of that name would be a view of itself."""
PARTITION = "bucket"
"""The column that DuckDB reads from the names of folders, in place of a table's own."""


def declare(table: Table[Any]) -> None:
    """Make a table known to queries, rules and the data contract.

    Raises:
        TableError: one of our own tables or views has that name; a column cannot have its name, or is marked as packed
            and cannot be.
    """
    known = TABLES.get(table.name)
    if known == table and known.key == table.key:
        return
    if table.name in OURS:
        raise TableError(f"table {table.name!r} is one of openlpm's own; give yours another name")
    if table.name.lower() in VIEWS:
        raise TableError(f"table {table.name!r} has the name of one of openlpm's views; give yours another name")
    _check_names(table)
    _check_packed(table)
    TABLES[table.name] = table
    for kind, unit in UNITS.items():
        others = tuple(c for c in unit.companions if c.name != table.name)
        mine = (table,) if table.key == (unit.id,) and table.grain != "window" else ()
        UNITS[kind] = replace(unit, companions=(*others, *mine))


def _check_names(table: Table[Any]) -> None:
    """Refuse columns that would be replaced when they are read, or mean two things in the views of units."""
    for c in table.columns:
        if c.name.lower() == PARTITION:
            raise TableError(
                f"column {c.name!r} of table {table.name!r} has the name of the folders that tables lie in, whose "
                "number would be read in its place; give it another"
            )
    for kind, unit in UNITS.items():
        if table.key != (unit.id,) or table.grain == "window":
            continue
        for below in (k for k in UNITS if kind in chain(k)):
            _check_view(table, "" if below == kind else unit.prefix, below)


def _check_view(table: Table[Any], prefix: str, kind: UnitKind) -> None:
    """Refuse columns that a view has already, of another unit: it would show one of the two."""
    seen = {name.lower(): at for name, at in view_columns(kind).items()}  # SQL tells no case apart
    ids = {unit.id for unit in UNITS.values()}
    for c in (c for c in table.columns if c.name not in ids):
        name = prefix + c.name
        other, column, owner = seen.get(name.lower(), (table, c, prefix))
        if owner != prefix and other.name != table.name:
            raise TableError(
                f"column {c.name!r} of table {table.name!r} would be {name!r} in units_{kind}, which is "
                f"{column.name!r} of table {other.name!r}; give it another name"
            )


def _check_packed(table: Table[Any]) -> None:
    marked = [c for c in table.columns if c.packed is not None]
    if marked and (table.key not in {(unit.id,) for unit in UNITS.values()} or table.grain == "window"):
        raise TableError(
            f"column {marked[0].name!r} of table {table.name!r} is marked as packed, but the table belongs to no unit: "
            f"its key must be one of {', '.join(unit.id for unit in UNITS.values())} alone"
        )
    taken = dict.fromkeys((*MANIFEST.row.columns, *Scores.model_fields, *Audio.model_fields), "the sample's own")
    taken = {str(name): owner for name, owner in taken.items()}
    taken |= {c.name: f"table {other.name!r}" for _, other, c in packed_columns() if other.name != table.name}
    for c in marked:
        if c.name in taken:
            raise TableError(
                f"column {c.name!r} of table {table.name!r} cannot be packed under that name, which is "
                f"{taken[c.name]}; give it another"
            )


class ColumnJson(TypedDict):
    """A column's declaration as plain data."""

    name: str
    type: JsonValue
    doc: str
    unit: str
    null: bool
    packed: NotRequired[Mapping[str, Any] | None]


class TableJson(TypedDict):
    """A table's declaration as plain data."""

    name: str
    doc: str
    key: list[str]
    grain: Grain
    columns: list[ColumnJson]


def to_json(table: Table) -> TableJson:
    """Return a table's declaration as plain data."""
    columns: list[ColumnJson] = [
        {
            "name": c.name, "type": _written(c.type), "doc": c.doc, "unit": c.unit, "null": c.nullable,
            "packed": None if c.packed is None else asdict(c.packed),
        }
        for c in table.columns
    ]  # fmt: skip
    return {
        "name": table.name, "doc": table.doc, "key": list(table.key), "grain": table.grain, "columns": columns,
    }  # fmt: skip


def from_json(data: TableJson) -> Table:
    """Return the table that `to_json` wrote."""
    columns = {
        x["name"]: Column[Any](_read(x["type"]), x["doc"], x["unit"], x["null"], _mark(x.get("packed")))
        for x in data["columns"]
    }
    row: type[Row] = type("ReadRow", (Row,), {"__doc__": data["doc"], **columns})
    return Table(row, data["name"], [columns[name] for name in data["key"]], data["grain"])


def _mark(data: Mapping[str, Any] | None) -> Packed | None:
    return None if data is None else Packed(**data)


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
