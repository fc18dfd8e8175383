"""Rows for tables, with plain defaults for every column that a test does not name."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from schemas import tables as t
from schemas.table import Row, Table
from schemas.tables.registry import SourceRow
from schemas.tables.scan import FaceFrameRow
from stages.face_series import Series

R = TypeVar("R", bound=Row)


def row(table: Table[R], **values: Any) -> R:
    """Return a row of `table`: the given values, null where a column allows it, else an empty value."""
    defaults = {c.name: None if c.nullable else _empty(c.type) for c in table.columns}
    return table.row.of(defaults).but(**values) if values.keys() <= defaults.keys() else table.row(**values)


def source_row(source_id: str, **values: Any) -> SourceRow:
    """Return a SOURCES row of a healthy file."""
    facts: dict[str, Any] = {"duration_s": 60.0, "width": 1280, "height": 720, "short_side_px": 720, "fps": 25.0}
    return row(t.SOURCES, source_id=source_id, **{**facts, "has_audio": True, **values})


def face_series(k: Any, **columns: Any) -> Series:
    """Return columns of a face's FACE_FRAMES rows at grid points `k`."""
    return Series(np.asarray(k), {getattr(FaceFrameRow, name): np.asarray(v) for name, v in columns.items()})


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
