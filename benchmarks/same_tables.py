"""Whether two datasets of the same sources hold the same tables, by content.

    python benchmarks/same_tables.py BEFORE AFTER [--json FILE]

A table's hash is the SHA-256 of its rows, sorted by key, as Arrow bytes without metadata; columns that only one of the
two has are named and left out. Rows that differ are counted by column.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import record

from schemas import tables as t
from schemas.table import Table


def content(dataset: Path, table: Table) -> pa.Table:
    """Return all rows of a table of a dataset, sorted by its key; no columns where it has no file."""
    files = sorted((dataset / "tables" / table.name).rglob("*.parquet"))
    if not files:
        return pa.table({})
    parts = [pq.read_table(file, partitioning=None) for file in files]
    rows = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
    return rows.sort_by([(k, "ascending") for k in table.key]).combine_chunks()


def digest(rows: pa.Table) -> str:
    """Return the first 16 hex digits of the SHA-256 of a table's values."""
    return hashlib.sha256(json.dumps(rows.to_pylist(), default=_plain, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def compare(before: pa.Table, after: pa.Table) -> dict[str, Any]:
    """Return both hashes over the columns that both have, the others' names, and how many rows differ by column."""
    shared = [name for name in before.column_names if name in after.column_names]
    only = sorted(set(before.column_names) ^ set(after.column_names))
    a, b = before.select(shared), after.select(shared)
    out: dict[str, Any] = {"rows": [a.num_rows, b.num_rows], "sha256": [digest(a), digest(b)]}
    out["equal"] = out["sha256"][0] == out["sha256"][1]
    if only:
        out["columns_of_one"] = only
    if not out["equal"] and a.num_rows == b.num_rows:
        pairs = {name: zip(a[name].to_pylist(), b[name].to_pylist(), strict=True) for name in shared}
        counts = {name: sum(x != y for x, y in values) for name, values in pairs.items()}
        out["different"] = {name: n for name, n in counts.items() if n}
    return out


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tables = {}
    for name, table in t.TABLES.items():
        before, after = content(args.before, table), content(args.after, table)
        if before.num_rows or after.num_rows:
            tables[name] = compare(before, after)
    equal = [name for name, found in tables.items() if found["equal"]]
    print(f"{len(equal)} of {len(tables)} tables equal")
    for name, found in tables.items():
        if not found["equal"]:
            print(f"  {name}: rows {found['rows']}, {found.get('different', '')}")
    record.write(args.json, {**record.today_here(), "equal": len(equal), "of": len(tables), "tables": tables})


if __name__ == "__main__":
    main()
