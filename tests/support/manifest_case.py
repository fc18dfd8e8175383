"""Manifests of few rows, for what opens them: made of plain dictionaries, with a shard each of one byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables.output import MANIFEST


def table(made: list[dict[str, Any]]) -> pa.Table:
    nothing: dict[str, Any] = {"string": "", "int32": 0, "int64": 0, "double": 0.0, "float": 0.0}
    rows = []
    for one in made:
        name, at = one["segment_id"], one["at"]
        members = [{"name": f"{name}.{s}", "offset": at + i, "size": i} for i, s in enumerate(one["suffixes"])]
        plain = {c.name: None if c.nullable else nothing.get(str(c.type), []) for c in MANIFEST.columns}
        rows.append(plain | {n: v for n, v in one.items() if n in plain} | {"members": members})
    return pa.Table.from_pylist(rows, MANIFEST.schema)


def packed(folder: Path, made: pa.Table, group: int = 7) -> Path:
    (folder / "shards").mkdir(parents=True)
    for name in ("a.tar", "b.tar", "c.tar"):
        (folder / "shards" / name).write_bytes(b"x")
    pq.write_table(made, folder / "manifest.parquet", row_group_size=group)
    return folder
