"""Rows and names that the page asks for, a few at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import duckdb

from schemas.table import Row, Table

R = TypeVar("R", bound=Row)


def read_rows(con: duckdb.DuckDBPyConnection, table: Table[R], sql: str) -> list[R]:
    """Return the few rows of a query for all columns of a table."""
    return table.rows(con.sql(sql).to_arrow_table())


def source_names(con: duckdb.DuckDBPyConnection, sources: Iterable[str]) -> dict[str, str]:
    """Return the file names of some sources; of several paths of one, the first."""
    sql = (
        "SELECT DISTINCT ON (source_id) source_id, name FROM inputs WHERE list_contains(?, source_id) ORDER BY 1, path"
    )
    return {str(i): str(name) for i, name in con.execute(sql, [sorted(set(sources))]).fetchall()}


def path_of(con: duckdb.DuckDBPyConnection, source_id: str) -> str | None:
    """Return where a source was registered; of several paths, the first that is there."""
    rows = [p for (p,) in con.execute("SELECT path FROM inputs WHERE source_id = ? ORDER BY 1", [source_id]).fetchall()]
    return next((p for p in rows if "://" in p or Path(p).is_file()), rows[0] if rows else None)
