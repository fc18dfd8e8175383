"""Samples on their way into shards: put by in a file, in order of source, and taken out in the order of shards.

Neighbours in a shard are unrelated, so that order is by hash of the key. Sorting a dataset's samples takes more room
than memory, so DuckDB does it in a temporary directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from curation.batches import batches
from curation.pack_samples import BATCH, Entry
from curation.store import Store
from schemas.sample import Sample

_FIELDS: list[pa.Field[Any]] = [
    pa.field("split", pa.string()), pa.field("place", pa.string()), pa.field("sample", pa.string()),
    pa.field("clip_file", pa.string()), pa.field("size", pa.int64()), pa.field("refs", pa.string()),
]  # fmt: skip
_SCHEMA = pa.schema(_FIELDS)
MEMORY = "512MB"


class Spool(contextlib.ExitStack):
    """Samples in a temporary file; a context manager that removes it."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def __enter__(self) -> Spool:
        super().__enter__()
        self._folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="lpm-pack-")))
        config = {"memory_limit": MEMORY, "temp_directory": str(self._folder), "threads": 2}
        self.con = self.enter_context(contextlib.closing(duckdb.connect(":memory:", config=config)))
        return self

    def fill(self, entries: Iterable[Entry], settings: BaseModel) -> str:
        """Put samples by, and return a hash of all that will be in the shards."""
        digest = hashlib.sha256(settings.model_dump_json().encode())
        file = self._folder / "samples.parquet"
        with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            for batch in batches(((e, 1.0) for e in entries), BATCH):
                rows = []
                for e in batch:
                    size, sample = self._store.size(e.clip_file), e.sample.model_dump_json()
                    digest.update(sample.encode())
                    digest.update(json.dumps([e.clip_file, size, e.refs]).encode())
                    place = hashlib.sha256(e.sample.sample_id.encode()).hexdigest()
                    rows.append((e.sample.split, place, sample, e.clip_file, size, json.dumps(e.refs)))
                columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), _SCHEMA, strict=True)]
                writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
        sorted_file = self._folder / "sorted.parquet"
        self.con.execute(
            f"COPY (SELECT * FROM '{file}' ORDER BY split, place) TO '{sorted_file}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {BATCH})"
        )
        file.unlink()
        self.con.execute(f"CREATE VIEW spooled AS SELECT * FROM '{sorted_file}'")
        return digest.hexdigest()

    def splits(self) -> list[str]:
        """Return the splits that have samples."""
        return [str(s) for (s,) in self.con.execute("SELECT DISTINCT split FROM spooled ORDER BY 1").fetchall()]

    def sizes(self, split: str) -> Iterator[tuple[str, int]]:
        """Yield (place in the order of shards, bytes of the clip) of a split's samples, in that order."""
        for place, size in self._rows("place, size", split, "", "g"):
            yield str(place), int(size)

    def clip_bytes(self, split: str, first: str, last: str) -> int:
        """Return the bytes of the clips between two places, both included."""
        sql = "SELECT coalesce(sum(size), 0) FROM spooled WHERE split = ? AND place BETWEEN ? AND ?"
        ((size,),) = self.con.execute(sql, [split, first, last]).fetchall()
        return int(size)

    def entries(self, split: str, first: str, last: str) -> Iterator[Entry]:
        """Yield the samples between two places, both included, in order."""
        for sample, clip_file, refs in self._rows("sample, clip_file, refs", split, first, last):
            keys = tuple((suffix, sid, track, k, tuple(box)) for suffix, sid, track, k, box in json.loads(refs))
            yield Entry(Sample.model_validate_json(sample), clip_file, keys)

    def _rows(self, columns: str, split: str, first: str, last: str) -> Iterator[tuple[Any, ...]]:
        sql = f"SELECT {columns} FROM spooled WHERE split = ? AND place BETWEEN ? AND ? ORDER BY place"
        with contextlib.closing(self.con.cursor()) as cursor:
            found = cursor.execute(sql, [split, first, last])
            while rows := found.fetchmany(256):
                yield from rows
