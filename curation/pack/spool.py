"""Samples on their way into shards: put by in a file, in order of source, and taken out in the order of shards.

Neighbours in a shard are unrelated, so that order is by hash of the key. DuckDB sorts only where each sample lies in
the file: a sort of the samples themselves would take more room than memory, and it spills narrow rows to disk, wide
ones not well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from curation.pack.samples import BATCH, Entry
from curation.runs.scratch import scratch
from curation.storage.batches import batches
from curation.storage.duck import connect
from curation.storage.store import Store
from schemas.samples.sample import Sample

_FIELDS: list[pa.Field[Any]] = [
    pa.field("split", pa.string()), pa.field("place", pa.string()), pa.field("sample_id", pa.string()),
    pa.field("size", pa.int64()), pa.field("start", pa.int64()), pa.field("length", pa.int64()),
    pa.field("unpacked", pa.int64()),
]  # fmt: skip
_SCHEMA = pa.schema(_FIELDS)
MEMORY = "512MB"
"""What DuckDB may hold."""


class Spool(contextlib.ExitStack):
    """Samples in a temporary file; a context manager that removes it."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def __enter__(self) -> Spool:
        super().__enter__()
        self._folder = self.enter_context(scratch("pack"))
        con = connect(memory_limit=MEMORY, temp_directory=str(self._folder), threads=2)
        self.con = self.enter_context(contextlib.closing(con))
        self._samples = self.enter_context((self._folder / "samples").open("w+b"))
        return self

    def fill(self, entries: Iterable[Entry], settings: BaseModel) -> str:
        """Put samples by, and return a hash of all that will be in the shards."""
        digest = hashlib.sha256(settings.model_dump_json().encode())
        file, end = self._folder / "index.parquet", 0
        with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            for batch in batches(((e, 1.0) for e in entries), BATCH):
                rows = []
                for e in batch:
                    size, sample = self._store.size(e.clip_file), e.sample.model_dump_json()
                    digest.update(sample.encode())
                    digest.update(json.dumps([e.uri, e.clip_file, size, e.refs]).encode())
                    key = e.sample.sample_id
                    data = json.dumps([sample, e.uri, e.clip_file, e.refs]).encode()
                    packed = pa.compress(data, "zstd", asbytes=True)
                    place = hashlib.sha256(key.encode()).hexdigest()
                    rows.append((e.sample.split, place, key, size, end, len(packed), len(data)))
                    end += self._samples.write(packed)
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
        for start, length, unpacked in self._rows("start, length, unpacked", split, first, last):
            self._samples.seek(start)
            data = pa.decompress(self._samples.read(length), unpacked, "zstd", asbytes=True)
            sample, uri, clip_file, refs = json.loads(data)
            keys = tuple((suffix, sid, track, k, tuple(box)) for suffix, sid, track, k, box in refs)
            yield Entry(Sample.model_validate_json(sample), uri, clip_file, keys)

    def runs(self, most: int) -> list[tuple[str, str]]:
        """Return the first and last id of `most` samples at a time, in order of id."""
        with contextlib.closing(self.con.cursor()) as cursor:
            found = cursor.execute("SELECT sample_id FROM spooled ORDER BY 1")
            ids = ((str(i), 1.0) for rows in iter(lambda: found.fetchmany(256), []) for (i,) in rows)
            return [(run[0], run[-1]) for run in batches(ids, most)]

    def _rows(self, columns: str, split: str, first: str, last: str) -> Iterator[tuple[Any, ...]]:
        sql = f"SELECT {columns} FROM spooled WHERE split = ? AND place BETWEEN ? AND ? ORDER BY place"
        with contextlib.closing(self.con.cursor()) as cursor:
            found = cursor.execute(sql, [split, first, last])
            for rows in iter(lambda: found.fetchmany(256), []):
                yield from rows
