"""What DuckDB is told of a table: its columns when no file holds any, and what it and they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from schemas.table import Table


def comments(tables: Iterable[Table[Any]]) -> Iterator[str]:
    """Yield the SQL that says of every view and column in the catalogue what it is."""
    for table in tables:
        yield f'COMMENT ON VIEW "{table.name}" IS {_quoted(table.doc)}'
        for c in table.columns:
            said = f"{c.doc} [{c.unit}]" if c.unit else c.doc
            yield f'COMMENT ON COLUMN "{table.name}"."{c.name}" IS {_quoted(said)}'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def no_rows(table: Table) -> str:
    """Return the SELECT of no rows of a table."""
    casts = ", ".join(f'CAST(NULL AS {_sql_type(c.type)}) AS "{c.name}"' for c in table.columns)
    return f"SELECT {casts} WHERE false"


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return _sql_type(kind.value_type) + "[]"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{f.name}" {_sql_type(f.type)}' for f in kind) + ")"
    names = {
        pa.string(): "VARCHAR", pa.float32(): "FLOAT", pa.float64(): "DOUBLE", pa.int64(): "BIGINT",
        pa.int32(): "INTEGER", pa.bool_(): "BOOLEAN", pa.binary(): "BLOB",
    }  # fmt: skip
    return names[kind]
