"""Cut sources out of what concerns the dataset as a whole: its tables, shards, sidecars and manifest.

Works on files alone: no stage runs, no weight is needed, and a dataset of an older version of the program is as good as
a new one. Everything that names one of the sources goes, so a sample of another source that carries a picture from
there goes too; a run makes it again. Costs a read of all records in the shards, and writes those that change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import search_index
from curation.pack.shards import ShardIndex, end_of_archive, stored_size, write_members
from curation.storage.commits import read_commit
from curation.storage.store import Store, parquet_bytes, table_file
from schemas import tables as t
from schemas.table import Table
from schemas.tables.output import FORMER_KEY, ManifestRow, Member


def strip(store: Store, source_ids: Sequence[str]) -> int:
    """Cut sources out; returns how many samples left the shards."""
    for name in list(store.names("tables", "/dataset.parquet")):
        if name != table_file(t.FORGOTTEN):
            _table(store, name, source_ids)
    return _shards(store, source_ids)


def _named(value: object, source_ids: Sequence[str]) -> bool:
    text = str(value)
    return any(i in text for i in source_ids)


def _read(store: Store, name: str) -> pa.Table:
    with store.filesystem().open_input_file(store.path(name)) as f:
        return pq.read_table(f)  # as it was written: older versions had fewer columns


def _table(store: Store, name: str, source_ids: Sequence[str]) -> None:
    rows = _read(store, name)
    keep = [not _named(row, source_ids) for row in rows.to_pylist()]
    if not all(keep):
        store.write(name, parquet_bytes(rows.filter(pa.array(keep))))
        _unvouch(store, name.split("/")[1])


def keep_sources(store: Store, tables: Iterable[Table], live: Collection[str]) -> None:
    """Cut the rows of sources that are not `live` out of tables of the whole dataset."""
    for table in tables:
        name = table_file(table)
        if not store.exists(name):
            continue
        rows = _read(store, name)
        kept = rows.filter(pc.is_in(rows["source_id"], pa.array(sorted(live), pa.string())))
        if kept.num_rows < rows.num_rows:
            store.write(name, parquet_bytes(kept))
            _unvouch(store, table.name)


def _unvouch(store: Store, table: str) -> None:
    for commit_name in list(store.names("commits", "/dataset.json")):
        commit = read_commit(store, commit_name)
        if commit is not None and table in commit.tables:
            store.delete(commit_name)  # what it vouched for is no more: the next run makes it again


def _shards(store: Store, source_ids: Sequence[str]) -> int:
    before, after, schema = 0, [], None
    index = ShardIndex.read(store)
    digests = {} if index is None else index.sha256
    for sidecar in list(store.names("shards", ".parquet")):
        shard = sidecar.removesuffix(".parquet") + ".tar"
        rows = _read(store, sidecar)
        before, schema = before + rows.num_rows, rows.schema
        kept = [
            r for r in t.MANIFEST.rows(rows)
            if not _named(dict(r), source_ids) and not _record(store, shard, r, source_ids)
        ]  # fmt: skip
        if not kept:
            store.delete(shard)
            store.delete(sidecar)
            continue
        if len(kept) < rows.num_rows:
            digest, written = _rewrite(store, shard, kept)
            rows = pa.Table.from_pylist([dict(r) for r in written], schema=schema)
            digests |= {base(sidecar): store.write(sidecar, parquet_bytes(rows)), base(shard): digest}
        after.append(rows)
    if schema is None:
        return 0
    key = FORMER_KEY if FORMER_KEY in schema.names else ManifestRow.segment_id.name
    rows = pa.concat_tables([schema.empty_table(), *after]).sort_by(key)
    if rows.num_rows < before:
        search_index.drop(store)
        store.write(table_file(t.MANIFEST), parquet_bytes(rows))
        shards = sorted(set(ManifestRow.shard.values(rows)))
        size = sum(store.size(f"shards/{name}") for name in shards)
        # Without a plan the next packing writes the shards as they should be.
        live = {n: d for n, d in digests.items() if n.rpartition(".")[0] + ".tar" in shards}
        ShardIndex("", rows.num_rows, shards, size, live).write(store)
    return before - rows.num_rows


def _record(store: Store, shard: str, row: ManifestRow, source_ids: Sequence[str]) -> bool:
    """Say whether a sample's record names one of the sources."""
    place = next(m for m in row.members if m["name"].endswith(".json"))
    record = store.read(shard, place["offset"], place["size"])
    return any(i.encode() in record for i in source_ids)


def base(name: str) -> str:
    """Return a file's name under its folder."""
    return name.rpartition("/")[2]


def _rewrite(store: Store, shard: str, rows: list[ManifestRow]) -> tuple[str, list[ManifestRow]]:
    """Write a shard again with these samples alone; returns its hash, and their rows with the new places."""
    out, offset = [], 0
    with store.open_output(shard) as f:
        for row in rows:
            members = [(m["name"], store.read(shard, m["offset"], m["size"])) for m in row.members]
            index = write_members(f, members, offset)
            offset += stored_size(len(data) for _, data in members)
            out.append(row.but(members=[Member(name=n, offset=o, size=s) for n, o, s in index]))
        end_of_archive(f)
    return f.hexdigest(), [row.but(shard_sha256=f.hexdigest()) for row in out]
