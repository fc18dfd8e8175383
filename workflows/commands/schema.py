"""`lpm schema`: the JSON Schema of a table, of the view a rule reads, or of a model, from the schemas themselves."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from schemas import tables as t
from schemas.caption import PerformanceCaption
from schemas.policy import Policy
from schemas.sample import Sample
from schemas.table import Table
from schemas.units import UNITS, view_columns
from schemas.workflow import Workflow
from workflows.usage import UsageError

_MODELS: dict[str, type[BaseModel]] = {
    "sample": Sample, "caption": PerformanceCaption, "policy": Policy, "workflow": Workflow,
}  # fmt: skip


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a table, a rule's view (units_<kind>), or a model."""
    if name == "list":
        views = [f"units_{k}" for k in UNITS]
        return {"models": sorted(_MODELS), "tables": sorted(t.TABLES), "views": views}
    if name in _MODELS:
        return _MODELS[name].model_json_schema()
    if name in t.TABLES:
        return table_schema(t.TABLES[name])
    if name.startswith("units_") and name[6:] in UNITS:
        kind = next(k for k in UNITS if k == name[6:])
        columns = {n: column for n, (_, column, _) in view_columns(kind).items()}
        return {"title": name, "type": "object", "properties": {n: _column_schema(c) for n, c in columns.items()}}
    raise UsageError(f"no schema {name!r}; `lpm schema list` names them all")


def table_schema(table: Table) -> dict[str, Any]:
    """Return the JSON Schema of one row of a table."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": table.name,
        "description": table.doc,
        "type": "object",
        "properties": {c.name: _column_schema(c) for c in table.columns},
        "required": list(table.column_names),
        "additionalProperties": False,
        "key": list(table.key),
    }


def _column_schema(c: Any) -> dict[str, Any]:
    kind = _json_type(c.type)
    if c.nullable:
        kind = {**kind, "type": [kind["type"], "null"]}
    return {**kind, "description": c.doc + (f" [{c.unit}]" if c.unit else "")}


def _json_type(kind: pa.DataType) -> dict[str, Any]:
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
