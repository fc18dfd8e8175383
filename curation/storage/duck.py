"""Open DuckDB the way every command wants it."""

from __future__ import annotations

import duckdb


def connect(catalog: str = ":memory:", **config: str | int) -> duckdb.DuckDBPyConnection:
    """Open DuckDB with settings by name, and without its progress bar, which would stand between our own lines."""
    con = duckdb.connect(catalog, config=config)
    con.execute("SET enable_progress_bar = false")
    return con
