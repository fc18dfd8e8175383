"""JSON Schema of a table's row and of its columns."""

from __future__ import annotations

import pyarrow as pa
from pydantic.config import JsonDict

from schemas.column import Column
from schemas.table import Table


def table_schema(table: Table) -> JsonDict:
    """Return the JSON Schema of one row of a table."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": table.name,
        "description": table.doc,
        "type": "object",
        "properties": {c.name: column_schema(c) for c in table.columns},
        "required": list(table.column_names),
        "additionalProperties": False,
        "key": list(table.key),
    }


def column_schema(c: Column[object]) -> JsonDict:
    """Return the JSON Schema of one value of a column."""
    kind = _json_type(c.type)
    if c.nullable:
        kind["type"] = [kind["type"], "null"]
    return {**kind, "description": c.doc + (f" [{c.unit}]" if c.unit else "")}


def _json_type(kind: pa.DataType) -> JsonDict:
    if pa.types.is_list(kind):
        return {"type": "array", "items": _json_type(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"type": "object", "properties": {f.name: _json_type(f.type) for f in kind}}
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    if pa.types.is_floating(kind):
        return {"type": "number"}
    if pa.types.is_binary(kind):
        return {"type": "string", "contentEncoding": "base64"}
    return {"type": "string"}
