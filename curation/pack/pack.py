"""Gather the kept clips into shards with their captions, references and provenance, and write the manifest.

Clips are encoded already (stage `packing`), so this is a copy with small additions: re-packing after a new decision
or caption costs no encoding. Shards and manifest are deterministic; an equal dataset is not written again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curation import search_index
from curation.dataset import Dataset
from curation.engine.run import Job, Shards
from curation.pack.samples import Entry, PackError, across_files, kept_entries, kept_sides, pair_status
from curation.pack.shards import INDEX, ShardIndex, end_of_archive, read_members, stored_size, write_members
from curation.pack.spool import Spool
from curation.pack.vectors import SampleVectors
from curation.storage.batches import batches
from curation.storage.store import Store, parquet_bytes, table_file
from curation.storage.table_writer import writing
from schemas import tables as t
from schemas.samples.manifest import manifest_row
from schemas.samples.members import reference_members
from schemas.tables.output import ManifestRow as M
from schemas.tables.scan import PortraitRow

_MANIFEST_ROWS = 32_768
"""Rows of the manifest that are sorted at once: some 130 MB."""
_VECTOR_ROWS = 4096
"""The same where they have vectors: six of 512 numbers a sample are 12 KB."""

__all__ = ["PackError", "PackSettings", "across_files", "kept_sides", "pack", "pair_status"]


class PackSettings(BaseModel):
    """How samples are gathered into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shard_mb: float = Field(default=512.0, gt=0, description="start a new shard beyond this many MiB")
    shard_samples: int = Field(default=10_000, gt=0, description="or beyond this many samples")


def pack(job: Job, *, dry_run: bool = False) -> Shards:
    """Write shards, sidecars and manifest.parquet for all segments that the ledger keeps; return what was written.

    A dry run writes nothing and counts the bytes of the clips alone. Raises PackError where a kept segment cannot
    become a sample, and for a workflow that encodes no clips.
    """
    if job.pipeline.writer(t.CLIPS) is None:
        raise PackError(
            f"no stage of workflow '{job.pipeline.workflow.name}' encodes clips; run the dataset with one that has a "
            "packing stage"
        )
    settings = PackSettings.model_validate(job.pipeline.workflow.pack)
    stepper = job.stepper()
    store = stepper.store
    identities = {r.name: dict(stepper.provenance(r)) for r in job.pipeline.stages}
    with Spool(store) as spool:
        plan = spool.fill(kept_entries(Dataset(job.store_uri), identities, job.policy.policy_id), settings)
        old = ShardIndex.read(store) or ShardIndex("")
        there = _there(store, old) if old.plan == plan else set[str]()
        if old.plan == plan and old.sha256 and there == set(old.sha256) and store.exists(table_file(t.MANIFEST)):
            return Shards(old, "unchanged")
        index = ShardIndex(plan)
        if old.plan not in ("", plan) and not dry_run:
            replace(old, plan="").write(store)  # from here on what is under shards/ is of no plan, or of the new one
        images, vectors = _Images(Dataset(job.store_uri)), SampleVectors(Dataset(job.store_uri))
        for split, name, keys in _divided(spool, settings):
            index.shards.append(name)
            index.samples += len(keys)
            sidecar = f"{name[:-4]}.parquet"
            if dry_run:
                index.bytes += spool.clip_bytes(split, keys[0], keys[-1])
            elif {name, sidecar} <= there:
                index.sha256 |= {n: old.sha256[n] for n in (name, sidecar)}
                index.bytes += store.size(f"shards/{name}")
            else:
                new, size = _write_shard(store, name, spool.entries(split, keys[0], keys[-1]), images, vectors)
                described = new.cast(t.MANIFEST.described)
                index.sha256[sidecar] = store.write(f"shards/{sidecar}", parquet_bytes(described))
                index.sha256[name] = str(new[M.shard_sha256.name][0])
                index.bytes += size
        if dry_run:
            return Shards(index, "unwritten")
        rows = _VECTOR_ROWS if vectors.there else _MANIFEST_ROWS
        _write_manifest(store, spool, [f"shards/{n[:-4]}.parquet" for n in index.shards], rows)
    _delete_others(store, index)
    index.write(store)
    return Shards(index, "written")


def _there(store: Store, index: ShardIndex) -> set[str]:
    """Return which shards and sidecars of an index are there."""
    sizes = store.sizes("shards")
    return {name for name in index.sha256 if f"shards/{name}" in sizes}


# ------------------------------------------------------------------------------------------------ shards


def _divided(spool: Spool, settings: PackSettings) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (split, name, samples) of every shard, in order."""
    for split in spool.splits():
        sized = ((key, float(size)) for key, size in spool.sizes(split))
        # The clip's tar is nearly all of a sample; the limit is a target, not a promise.
        for number, keys in enumerate(batches(sized, settings.shard_mb * 2**20, settings.shard_samples)):
            yield split, f"{split}-{number:06d}.tar", keys


def _delete_others(store: Store, index: ShardIndex) -> None:
    live = {f"shards/{n}" for n in index.shards} | {f"shards/{n[:-4]}.parquet" for n in index.shards}
    for name in list(store.names("shards")):
        if name not in live | {INDEX}:
            store.delete(name)


def _write_manifest(store: Store, spool: Spool, sidecars: list[str], at_once: int) -> None:
    """Put the sidecars' rows together in order of sample, some at a time: together they may not fit into memory."""
    import pyarrow.dataset as pads  # see curation.dataset

    search_index.drop(store)
    with writing(store, table_file(t.MANIFEST), t.MANIFEST) as append:
        if not sidecars:
            return
        paths = [store.path(n) for n in sidecars]
        spool.con.register("sidecars", pads.dataset(paths, t.MANIFEST.schema, "parquet", store.filesystem()))
        sql = "SELECT * FROM sidecars WHERE segment_id BETWEEN ? AND ? ORDER BY segment_id"
        for first, last in spool.runs(at_once):
            append(spool.con.sql(sql, params=[first, last]).to_arrow_table())


def _write_shard(
    store: Store, name: str, batch: Iterable[Entry], images: _Images, vectors: SampleVectors
) -> tuple[pa.Table, int]:
    """Write a shard; return the rows of its sidecar, and its size in bytes."""
    rows, shown = [], {}
    offset = 0
    with store.open_output(f"shards/{name}") as out:
        for e in batch:
            key = e.sample.sample_id
            members = [
                *read_members(store.read(e.clip_file)),
                (f"{key}.json", e.sample.model_dump_json(indent=1).encode()),
            ]
            shown_here = [(name, images.get(sid, track, k, part)) for name, sid, track, k, part in e.refs]
            members += [(f"{key}.{suffix}", data) for suffix, data in reference_members(shown_here)]
            index = write_members(out, members, offset)
            offset += stored_size(len(data) for _, data in members)
            digests = [hashlib.sha256(data).hexdigest() for _, data in members]
            rows.append(manifest_row(e.sample, e.uri, name, index, digests))
            shown[key] = [(source, track, k) for _, source, track, k, _ in e.refs]
        end_of_archive(out)
    rows = [row.but(shard_sha256=out.hexdigest()) for row in rows]
    return vectors.filled(t.MANIFEST.from_rows(rows), shown), offset + 1024


class _Images:
    """Portraits by (source, track, grid index); keeps the last sources read."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._load = functools.lru_cache(maxsize=16)(self._source)

    def _source(self, source_id: str) -> dict[tuple[str, int], bytes]:
        track = {
            r.tracklet_id: r.track_id for r in t.TRACKLETS.rows(self._dataset.table(t.TRACKLETS, None, [source_id]))
        }
        columns = (PortraitRow.tracklet_id, PortraitRow.k, PortraitRow.image)
        portraits = self._dataset.table(t.PORTRAITS, columns, [source_id])
        return {(track.get(r.tracklet_id, ""), r.k): r.image for r in t.PORTRAITS.rows(portraits)}

    def get(self, source_id: str, track_id: str, k: int, part_xywh: tuple[float, ...]) -> bytes:
        """Return the JPEG of one portrait, or of a part of it (shares of its width and height).

        Raises:
            PackError: there is no such portrait.
        """
        with contextlib.suppress(KeyError):
            image = self._load(source_id)[track_id, k]
            if not part_xywh:
                return image
            from curation.media.encode import jpeg_part  # only who packs cut images needs the codecs

            return jpeg_part(image, part_xywh)
        raise PackError(f"no portrait of track {track_id} at grid index {k}; run `lpm run` again")
