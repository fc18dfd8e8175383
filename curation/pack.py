"""Gather the kept clips into shards with their captions, references and provenance, and write the manifest.

Clips are encoded already (stage `packing`), so this is a copy with small additions: re-packing after a new decision
or caption costs no encoding. Shards and manifest are deterministic; an equal dataset is not written again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curation.batches import batches
from curation.dataset import Dataset
from curation.pack_samples import Entry, PackError, across_files, kept_entries, kept_sides, pair_status
from curation.run import Job
from curation.shards import end_of_archive, read_members, stored_size, write_members
from curation.store import Store, parquet_bytes, table_file
from schemas import tables as t
from schemas.manifest import manifest_row

__all__ = ["PackError", "PackSettings", "across_files", "kept_sides", "pack", "pair_status"]


class PackSettings(BaseModel):
    """How samples are gathered into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_mb: float = Field(default=512.0, gt=0, description="start a new shard beyond this many MiB")
    shard_samples: int = Field(default=10_000, gt=0, description="or beyond this many samples")


def pack(job: Job) -> dict[str, Any]:
    """Write shards, sidecars and manifest.parquet for all segments that the ledger keeps; return what was written.

    Returns {"samples", "shards", "bytes", "status": "written" | "unchanged"}. Raises PackError where a kept segment
    cannot become a sample, and for a workflow that encodes no clips.
    """
    if job.pipeline.writer(t.CLIPS) is None:
        raise PackError(
            f"no stage of workflow '{job.pipeline.workflow.name}' encodes clips; run the dataset with one that has a "
            "packing stage"
        )
    settings = PackSettings.model_validate(job.pipeline.workflow.pack)
    stepper = job.stepper()
    store = stepper.store
    decided = Dataset(job.store_uri).table(t.DECISIONS).to_pylist()
    kept = {r["unit_id"] for r in decided if r["unit"] == "segments" and r["outcome"] == "kept"}
    identities = {r.name: dict(stepper.identity(r)) for r in job.pipeline.stages}
    entries = kept_entries(Dataset(job.store_uri), kept, identities, job.policy.policy_id)
    plan = _plan_key(entries, settings, store)
    old = store.read_json("shards/index.json")
    if old is not None and old["plan"] == plan and all(store.exists(f"shards/{n}") for n in old["shards"]):
        return {**old, "status": "unchanged"}
    images = _Images(store, Dataset(job.store_uri))
    rows: list[dict[str, Any]] = []
    shards: list[str] = []
    total = 0
    for split, group in _by_split(entries):
        # The clip's tar is nearly all of a sample; the limit is a target, not a promise.
        sized = ((e, float(store.size(e.clip_file))) for e in group)
        for number, batch in enumerate(batches(sized, settings.shard_mb * 2**20, settings.shard_samples)):
            name = f"{split}-{number:06d}.tar"
            new, size = _write_shard(store, name, batch, images)
            store.write(f"shards/{name[:-4]}.parquet", parquet_bytes(t.MANIFEST.from_rows(new)))
            rows += new
            shards.append(name)
            total += size
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(rows))
    live = {f"shards/{n}" for n in shards} | {f"shards/{n[:-4]}.parquet" for n in shards} | {"shards/index.json"}
    for name in list(store.names("shards")):
        if name not in live:
            store.delete(name)
    index = {"plan": plan, "samples": len(rows), "shards": shards, "bytes": total}
    store.write_json("shards/index.json", index)
    return {**index, "status": "written"}


# ------------------------------------------------------------------------------------------------ shards


def _plan_key(entries: Iterable[Entry], settings: PackSettings, store: Store) -> str:
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for e in entries:
        digest.update(e.sample.model_dump_json().encode())
        digest.update(json.dumps([e.clip_file, store.size(e.clip_file), e.refs]).encode())
    return digest.hexdigest()


def _by_split(entries: list[Entry]) -> list[tuple[str, list[Entry]]]:
    """Group by split; inside one, order by a hash of the key, so that neighbours in a shard are unrelated."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for e in entries:
        groups[e.sample.split].append(e)
    order = {
        k: sorted(g, key=lambda e: hashlib.sha256(e.sample.sample_id.encode()).digest()) for k, g in groups.items()
    }
    return sorted(order.items())


def _write_shard(store: Store, name: str, batch: list[Entry], images: _Images) -> tuple[list[dict[str, Any]], int]:
    rows = []
    offset = 0
    with store.open_output(f"shards/{name}") as out:
        for e in batch:
            key = e.sample.sample_id
            members = [
                *read_members(store.read(e.clip_file)),
                (f"{key}.json", e.sample.model_dump_json(indent=1).encode()),
            ]
            members += [(f"{key}.{suffix}", images.get(sid, track, k, part)) for suffix, sid, track, k, part in e.refs]
            index = write_members(out, members, offset)
            offset += stored_size(len(data) for _, data in members)
            rows.append(manifest_row(e.sample, name, index))
        end_of_archive(out)
    return rows, offset + 1024


class _Images:
    """Portraits by (source, track, grid index); keeps the last sources read."""

    def __init__(self, store: Store, dataset: Dataset) -> None:
        tracklets = dataset.table(t.TRACKLETS).to_pylist()
        self._track = {r["tracklet_id"]: r["track_id"] for r in tracklets}
        self._store, self._dataset = store, dataset
        self._load = functools.lru_cache(maxsize=64)(self._source)

    def _source(self, source_id: str) -> dict[tuple[str, int], bytes]:
        out = {}
        prefix = f"tables/{t.PORTRAITS.name}/bucket={source_id[:2]}"
        for name in self._store.tables(prefix):
            if name.rsplit("/", 1)[-1].startswith(source_id):
                part: pa.Table = self._store.read_table(name, t.PORTRAITS, ["tracklet_id", "k", "image"])
                for r in part.to_pylist():
                    out[self._track.get(r["tracklet_id"], ""), r["k"]] = r["image"]
        return out

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
