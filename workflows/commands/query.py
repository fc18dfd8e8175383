"""`lpm query`: SQL over a dataset, shown as a table or written as CSV, JSON lines or Parquet.

The whole result is held in memory, within a limit of time and memory; only what is shown on the screen is cut, at 200
rows and, as a table, at the width of the screen. Columns that cannot stand beside each other there are shown as `long`
does: one value a line, whole.
"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as RichTable

from curation.dataset import Dataset
from curation.storage.bounds import Bounds
from schemas.printable import printable
from workflows.usage import UsageError

LEAST_GB = 0.25
FORMATS = ("table", "long", "csv", "json", "parquet")
SUFFIXES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}

_NARROWEST = 6
"""Characters of the narrowest column of a table that still tells something, its border and margins included."""
_SHOWN = 200


def query(out: Console, target: str, sql: str, format_: str, file: Path | None, unsafe: bool, bounds: Bounds) -> None:
    """Run SQL and print or write the result; unless it is `unsafe`, it can reach this dataset alone."""
    check_format(format_, file)

    def give_up() -> None:
        sys.stderr.write(f"error: the query took longer than {bounds.max_s:g} s and does not stop; ask for less\n")
        sys.stderr.flush()
        os._exit(1)  # one function of SQL is at work, which looks at nothing until it is done; nothing was written

    show(out, Dataset(target).answer(sql, bounds, shut=not unsafe, stuck=give_up), format_, file)


def bounds_of(max_s: float, max_memory_gb: float) -> Bounds:
    """Return the bounds that a user gave: seconds and GB, 0 for none and for half of the memory. Raises UsageError."""
    if max_s < 0:
        raise UsageError(f"--max-s {max_s:g} is no time: say how many seconds, or 0 for no end")
    if max_memory_gb and max_memory_gb < LEAST_GB:
        raise UsageError(f"--max-memory {max_memory_gb:g} is too little for any query; say {LEAST_GB} (GB) or more")
    return Bounds(max_s, int(max_memory_gb * 1e9))


def check_format(format_: str, file: Path | None) -> None:
    """Refuse a format that there is not, or not for this file, before any work. Raises UsageError."""
    if format_ not in FORMATS:
        raise UsageError(f"no format {format_!r}; there are: {', '.join(FORMATS)}")
    if format_ == "parquet" and file is None:
        raise UsageError("--format parquet needs --out FILE")
    form_of(format_, file)


def form_of(format_: str, file: Path | None) -> str:
    """Return the format that was chosen, or, for a table, the one that the file's suffix says. Raises UsageError."""
    meant = None if file is None else SUFFIXES.get(file.suffix.lower())
    if file is None or meant is None or format_ == meant:
        return format_
    if format_ != "table":
        raise UsageError(
            f"--format {format_} is not what {file.name} ends in: leave --format out, or name it otherwise"
        )
    return meant


def show(out: Console, rows: pa.Table, format_: str, file: Path | None) -> None:
    """Print rows, or write them to a file, in the form that its suffix says. Raises UsageError."""
    format_ = form_of(format_, file)
    if format_ == "parquet" and file is not None:
        pq.write_table(rows, file)
        return
    if format_ == "table" and file is None:
        _on_screen(out, rows)
        return
    if format_ == "long":
        data = "".join(f"{_long(row)}\n" for row in rows.to_pylist()).encode()
    elif format_ == "csv":
        data = _csv(rows)
    elif format_ == "json":
        data = _json(rows)
    else:
        text = Console(file=None, record=True, width=200)
        with text.capture() as capture:
            text.print(_rich_table(rows))
        data = capture.get().encode()
    if file is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        file.write_bytes(data)


def _on_screen(out: Console, rows: pa.Table) -> None:
    if rows.num_columns * _NARROWEST < out.width:
        out.print(_rich_table(rows))
        return
    for row in rows.slice(0, _SHOWN).to_pylist():
        out.print(_long(row), markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"{_counted(rows)}; {rows.num_columns} columns do not fit beside each other in {out.width} characters: "
        "name some, or take --format csv, json or parquet",
        highlight=False,
    )


def _counted(rows: pa.Table) -> str:
    return f"{rows.num_rows} rows" + (f", {_SHOWN} shown" if rows.num_rows > _SHOWN else "")


def _long(row: dict[str, Any]) -> str:
    """Return a row with one value a line, whole."""
    width = max(map(len, row), default=0)
    cells = {k: f"<{len(v)} bytes>" if isinstance(v, bytes) else printable(str(v)) for k, v in row.items()}
    return "".join(f"{k:<{width}}  {v}\n" for k, v in cells.items())


def _json(rows: pa.Table) -> bytes:
    names = rows.column_names
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise UsageError(f"two columns are named {twice!r}, of which JSON holds one: name them apart with AS")
    lines = (json.dumps(_plain(r), default=str, ensure_ascii=False, allow_nan=False) for r in rows.to_pylist())
    return "".join(f"{line}\n" for line in lines).encode()


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: null for what is no number, base64 text for bytes, text for an interval."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, pa.MonthDayNano):
        return f"{value.months} months {value.days} days {value.nanoseconds / 1e9:g} s"
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _csv(rows: pa.Table) -> bytes:
    # CSV has no lists: they become JSON text, which every reader can take apart again.
    columns: list[Any] = []
    for column in rows.columns:
        nested = pa.types.is_list(column.type) or pa.types.is_struct(column.type) or pa.types.is_map(column.type)
        if nested:
            columns.append(pa.array([json.dumps(_plain(v), default=str) for v in column.to_pylist()], pa.string()))
        elif pa.types.is_interval(column.type):  # Arrow writes none
            columns.append(pa.array([_plain(v) for v in column.to_pylist()], pa.string()))
        else:
            columns.append(column)
    sink = pa.BufferOutputStream()
    pacsv.write_csv(pa.table(columns, names=rows.column_names), sink)
    return bytes(sink.getvalue().to_pybytes())


def _rich_table(rows: pa.Table) -> RichTable:
    table = RichTable(*rows.column_names, caption=_counted(rows))
    for row in rows.slice(0, _SHOWN).to_pylist():
        table.add_row(*(_cell(v) for v in row.values()))
    return table


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return escape(f"{value:.4g}" if isinstance(value, float) else printable(str(value)))
