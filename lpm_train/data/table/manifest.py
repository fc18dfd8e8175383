"""The file `manifest.parquet`, read piece by piece: which rows a condition holds for, and columns of them.

Thirty million rows are a hundred gigabytes when all is unpacked. So only the columns that are asked for are read, some
ten thousand rows at a time, from the open file (of a directory or an object store); DuckDB, too, is given the file as a
stream of the columns that a condition names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lpm_train.data.table.columns import narrow
from lpm_train.storage import DataError, Storage
from schemas.tables.output import FORMER_KEY, ManifestRow

NAME = "manifest.parquet"
PIECE = 65_536
"""Rows of a piece at most."""
_HASHED = 1 << 22
"""Bytes that are hashed at a time."""
_SMALL = 1 << 26
"""Bytes of a file that is fetched whole from an object store."""
_MEMORY = "4GB"
"""What DuckDB may take for a condition; one that looks at single rows takes next to none."""

Positions = NDArray[np.int64]
"""Numbers of rows in the file, ascending."""


class Manifest:
    """A manifest that is open, without its vectors, which may be most of it and which no trainer asks for."""

    def __init__(self, storage: Storage, needed: Sequence[str]) -> None:
        """Open the manifest of a dataset; reads the file's footer alone.

        Raises:
            DataError: there is none, it lacks one of the columns `needed`, or it holds no row.
        """
        self._storage = storage
        try:
            source = storage.open(NAME)
        except FileNotFoundError as e:
            raise DataError(f"no {NAME} under {storage.uri}: pack the dataset first, or name its directory") from e
        if not storage.local and source.size() <= _SMALL:
            source = pa.BufferReader(source.read_buffer())
        self._source, self._file = source, self._open(source)
        vectors = (ManifestRow.vector.name, ManifestRow.reference_vectors.name)
        key = ManifestRow.segment_id.name
        fields = [f for f in self._file.schema_arrow if f.name not in vectors]
        self._stored = {key if f.name == FORMER_KEY else f.name: f.name for f in fields}
        self.schema = pa.schema([f.with_name(key) if f.name == FORMER_KEY else f for f in fields])
        if missing := set(needed) - set(self._stored):
            raise DataError(f"the manifest lacks the columns {sorted(missing)}; it was not written by this project")
        if not len(self):
            raise DataError("the manifest holds no sample: nothing was kept when the dataset was packed")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def matching(self, where: str, most: int | None = None) -> Positions:
        """Return the rows for which a SQL condition over the columns holds, the first `most` of them.

        Raises:
            DataError: the condition is not valid SQL, or holds for no row.
        """
        columns, limit = self._columns(), "" if most is None else f"LIMIT {most}"
        numbered = f"(SELECT {columns}, row_number() OVER () - 1 AS _i FROM _file) AS manifest"
        with self._connected() as connection, _named_in(where, [*self.schema.names, "_i"]):
            found = connection.sql(f"SELECT _i FROM {numbered} WHERE ({where}) {limit}").fetchnumpy()["_i"]
        if not len(found):
            raise DataError(f"--where {where!r} holds for none of the {len(self)} samples")
        return np.sort(np.asarray(found, np.int64))

    def asked(self, select: str, where: str = "", group: str = "", having: str = "true") -> list[tuple[Any, ...]]:
        """Return groups of rows, all of them at once: SQL over the columns, of rows for which a condition holds.

        Raises:
            DataError: the condition is not valid SQL.
        """
        query = f"SELECT {select} FROM manifest WHERE ({where or 'true'}) GROUP BY {group} HAVING {having}"
        with self._connected() as connection, _named_in(where, self.schema.names):
            return list(connection.sql(query).fetchall())

    def _columns(self) -> str:
        return ", ".join(f"{_quoted(old)} AS {_quoted(new)}" for new, old in self._stored.items())

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a database with the view `manifest`, within limits and without a way to other files."""
        limits = {"enable_external_access": "false", "memory_limit": _MEMORY, "threads": "1"}  # one: rows keep order
        with duckdb.connect(config=limits) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.register("_file", self._dataset())
            connection.execute(f"CREATE TEMP VIEW manifest AS SELECT {self._columns()} FROM _file")
            yield connection

    def digest(self) -> str:
        """Hash the file, all of its bytes: one second for about a gigabyte."""
        found, source = hashlib.sha256(), self._storage.open(NAME)
        while data := source.read(_HASHED):
            found.update(data)
        return found.hexdigest()

    def kind(self, name: str, member: str = "") -> np.dtype[np.signedinteger[Any]]:
        """Return the smallest type for the whole numbers of a column, or of a field of its lists, by the footer."""
        path, parts, low, high = f"{self._stored[name]}.", self._file.metadata, 0, 0
        at = [i for i in range(parts.num_columns) if _named(parts.schema.column(i).path, path, member)]
        for group in range(parts.num_row_groups):
            told: list[Any] = [parts.row_group(group).column(i).statistics for i in at]
            if not told or not all(t is not None and t.has_min_max for t in told):
                return np.dtype(np.int64)
            low, high = min(low, *(t.min for t in told)), max(high, *(t.max for t in told))
        return narrow(np.array([low, high])).dtype

    def _open(self, source: Any, coded: Sequence[str] = ()) -> pq.ParquetFile:
        # Of a row group, an object store is asked for all columns at once; a disk is read as it goes.
        return pq.ParquetFile(
            source, pre_buffer=not self._storage.local, buffer_size=1 << 20, read_dictionary=list(coded)
        )

    def pieces(
        self, names: Sequence[str], rows: Positions | None = None, coded: Sequence[str] = ()
    ) -> Iterator[pa.Table]:  # fmt: skip
        """Yield columns of all rows, or of some, in the order of the file; those named in `coded` as dictionaries."""
        stored, start = [self._stored[n] for n in names], 0
        file = self._open(self._source, coded) if coded else self._file
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            mine = None if rows is None else rows[slice(*np.searchsorted(rows, (start, stop)))] - start
            if mine is None or len(mine):
                yield from _taken(file.iter_batches(PIECE, [group], stored), stored, names, mine)
            start = stop

    def _dataset(self) -> Any:
        if isinstance(self._source, pa.BufferReader):
            return self._file.read(list(self._stored.values()))
        reading = pads.ParquetFragmentScanOptions(pre_buffer=False)
        form: Any = pads.ParquetFileFormat(default_fragment_scan_options=reading)
        return pads.dataset(self._storage.path(NAME), format=form, filesystem=self._storage.filesystem)


def _taken(
    batches: Iterator[pa.RecordBatch], stored: Sequence[str], names: Sequence[str], rows: Positions | None
) -> Iterator[pa.Table]:  # fmt: skip
    at = 0
    for batch in batches:
        piece, end = pa.Table.from_batches([batch]).select(list(stored)).rename_columns(list(names)), at + len(batch)
        if rows is not None:
            here: Any = pa.array(rows[slice(*np.searchsorted(rows, (at, end)))] - at)
            piece = piece.take(here)
        at = end
        if piece.num_rows:
            yield piece


@contextmanager
def _named_in(where: str, known: Sequence[str]) -> Iterator[None]:
    """Say of an error of the database that it is a user's condition, and which columns there are."""
    try:
        yield
    except duckdb.Error as e:
        raise DataError(f"--where {where!r} is not a valid condition: {e}\nThe columns are: {', '.join(known)}") from e


def rechunked(pieces: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut pieces anew: all of `size` rows, the last of what is left."""
    waiting: list[pa.Table] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(p.num_rows for p in waiting) >= size:
            whole = pa.concat_tables(waiting)
            waiting = [whole.slice(size)]
            yield whole.slice(0, size)
    left = pa.concat_tables(waiting)
    while left.num_rows:
        yield left.slice(0, size)
        left = left.slice(size)


def _named(path: str, column: str, member: str) -> bool:
    return f"{path}.".startswith(column) and path.endswith(f".{member}" if member else path)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
