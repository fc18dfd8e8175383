"""Gather the small table files of a bucket into larger ones, so that millions of sources stay queryable.

Each source writes its own small Parquet files, which makes commits atomic and workers independent; a dataset of a
million sources would have some forty million of them. `compact` gathers the small files of each bucket and table
once there are enough; `settle` removes rows that newer files hide. Both may be killed at any moment (see
`curation.storage.compacted` for the rules that make this safe) and both are run by the one process that holds the
dataset.
Costs one read and one write of what is gathered; nothing is decoded or measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from curation.storage.batches import batches
from curation.storage.compacted import FOLDER, FOOTER, Folder, live_parts
from curation.storage.registry import gather
from curation.storage.store import Store
from schemas import tables as t
from schemas.table import Table

_MIN_FILES = 64
"""Small files of one table in one bucket from which a run gathers them by itself."""

_MAX_FILES = 1024
"""Small files of one table, over all buckets, from which a run gathers all of them: to open them takes a second."""

_MAX_BYTES = 256 * 2**20
"""A compact file is closed beyond this many bytes of small files."""

MAX_PARTS = 512
"""And beyond this many of them: to read one part costs a look at the row groups of all in its file."""


@dataclass(slots=True)
class Compaction:
    """What was done: small files gathered, compact files written, hidden parts cleared away."""

    gathered: int = 0
    written: int = 0
    cleared: int = 0


def tidy(
    store: Store,
    *,
    min_files: int = _MIN_FILES,
    max_files: int = _MAX_FILES,
    progress: Callable[[str], None] = lambda _: None,
) -> Compaction:
    """Settle all compact files, then gather every bucket's small files where there are at least `min_files`.

    A table with more than `max_files` small files is gathered wherever there are two.

    Call it only while no other process writes the dataset. Raises ValueError where min_files is below 2.
    """
    if min_files < 2:
        raise ValueError(f"min_files must be at least 2, got {min_files}")
    done = Compaction()
    gather(store)
    for table in t.TABLES.values():
        if table.grain == "dataset":
            continue
        folders = store.folders(f"tables/{table.name}")
        least = 2 if sum(len(f.small) for f in folders.values()) > max_files else min_files
        for name, folder in folders.items():
            if folder.compact or folder.gone:
                progress(name)
                _settle(store, table, folder, done)
            if len(folder.small) >= least:
                progress(name)
                _gather(store, table, name, folder, done)
    return done


def _settle(store: Store, table: Table, folder: Folder, done: Compaction) -> None:
    """Rewrite compact files without their hidden parts, then drop the marks, which hide nothing any more."""
    listed = [store.compacted.parts(file) for file in folder.compact]
    for file, parts, live in zip(list(folder.compact), listed, live_parts(listed, folder.hidden), strict=True):
        if len(live) == len(parts):
            continue
        folder.compact.remove(file)
        if live:
            where = file.rpartition(f"/{FOLDER}/")[0]
            read = store.compacted.read_each(live, table.schema)
            rows = ((p.name, p.sha256, r) for p, r in zip(live, read, strict=True))
            folder.compact.append(_write(store, where, rows, [(p.name, p.sha256) for p in live]))
            done.written += 1
        done.cleared += len(parts) - len(live)
        store.delete(file)
    for mark in folder.gone:
        store.delete(mark)


def _gather(store: Store, table: Table, where: str, folder: Folder, done: Compaction) -> None:
    """Write the small files of one bucket into compact files of a bounded size, then delete them.

    Files of an older version of the table, with other columns, stay as they are until a run makes them again.
    """
    for files in batches(sorted(folder.small.items()), _MAX_BYTES, MAX_PARTS):
        digests, empty = [], {}
        for name in files:
            if (looked := _look(store, name, table)) is not None:
                digest, nothing = looked
                digests.append((name, digest))
                if nothing is not None:
                    empty[name] = nothing
        batch = [name for name, _ in digests]
        if len(batch) < 2:
            continue
        rows = (
            (name, digest, empty[name] if name in empty else store.read_table(name, table)) for name, digest in digests
        )
        _write(store, where, rows, digests)
        for name in batch:
            store.delete_file(name)
        done.gathered += len(batch)
        done.written += 1


def _look(store: Store, name: str, table: Table) -> tuple[str, pa.Table | None] | None:
    """Return the hash of a file's bytes, and its rows where it has none; None where its columns are not the table's."""
    data = store.read(name)
    file = pq.ParquetFile(pa.BufferReader(data))
    if file.schema_arrow.names != table.schema.names:
        return None
    rows = None if file.metadata.num_rows else file.schema_arrow.empty_table()
    return hashlib.sha256(data).hexdigest(), rows


def _write(
    store: Store,
    where: str,
    rows: Iterator[tuple[str, str, pa.Table]],
    content: list[tuple[str, str]],
) -> str:
    """Write one compact file, named after its content; one part in memory at a time. Returns its relative name."""
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    file = f"{where}/{FOLDER}/{key}.parquet"
    parts: list[dict[str, object]] = []
    first = 0
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(store.open_output(file))
        writer: pq.ParquetWriter | None = None
        for name, digest, part in rows:
            if writer is None:
                writer = stack.enter_context(
                    pq.ParquetWriter(cast(IO[bytes], sink), part.schema, compression="zstd", compression_level=3)
                )
            groups = -(-part.num_rows // _GROUP_ROWS)
            if groups:
                writer.write_table(part, row_group_size=_GROUP_ROWS)
            parts.append({"name": name, "sha256": digest, "rows": part.num_rows, "first": first, "groups": groups})
            first += groups
        assert writer is not None, "a compact file holds at least one part"
        writer.add_key_value_metadata({FOOTER.decode(): json.dumps(parts, separators=(",", ":"))})
    return file


_GROUP_ROWS = 65_536
"""Rows of a row group, at most; a part never shares one with another part."""
