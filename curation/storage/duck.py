"""Open DuckDB the way every command wants it."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import duckdb

_NUMBERS = itertools.count()


def connect(catalog: str = ":memory:", **config: str | int) -> duckdb.DuckDBPyConnection:
    """Open DuckDB with settings by name, in UTC, and without its progress bar, which would stand between our own lines.

    What does not fit into memory goes to the folder for temporary files, in a folder of this connection's own that is
    made when it is needed and goes with it.
    """
    con = duckdb.connect(catalog, config=config)
    con.execute("SET enable_progress_bar = false")
    con.execute("SET TimeZone = 'UTC'")
    spill = Path(tempfile.gettempdir(), f"lpm-sql-{os.getpid()}-{next(_NUMBERS)}")
    con.execute("SET temp_directory = $1", [str(spill)])
    return con


def shut(con: duckdb.DuckDBPyConnection, folder: str | None = None) -> None:
    """Let SQL reach no file and no network from here on, but for what lies in one folder, and change no setting."""
    if folder is not None:
        con.execute(f"SET allowed_directories = ['{folder.replace(chr(39), chr(39) * 2)}/']")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
