"""Rows for tables, with plain defaults for every column that a test does not name."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from schemas import tables as t
from schemas.table import Table


def row(table: Table, **values: Any) -> dict[str, Any]:
    """Return a row of `table`: the given values, null where a column allows it, else an empty value."""
    unknown = values.keys() - set(table.column_names)
    if unknown:
        raise KeyError(f"table {table.name} has no columns {sorted(unknown)}")
    return {c.name: values.get(c.name, None if c.nullable else _empty(c.type)) for c in table.columns}


def source_row(source_id: str, **values: Any) -> dict[str, Any]:
    """Return a SOURCES row of a healthy file."""
    facts: dict[str, Any] = {"duration_s": 60.0, "width": 1280, "height": 720, "short_side_px": 720, "fps": 25.0}
    return row(t.SOURCES, source_id=source_id, **{**facts, "has_audio": True, **values})


def _empty(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return []
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_binary(kind):
        return b""
    if pa.types.is_boolean(kind):
        return False
    return 0
