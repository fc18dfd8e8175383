"""A small packed dataset whose samples have no, one and several references, for the readers of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation.dataset import Dataset
from curation.pack.shards import end_of_archive, stored_size, write_members
from curation.storage.store import Store, parquet_bytes, table_file
from lpm_train.data.shards import Shards
from lpm_train.proof.synthetic_shards import write_dataset
from schemas import tables as t
from schemas.samples.manifest import manifest_row
from schemas.samples.members import pictures, reference_members
from schemas.samples.sample import Sample


def packed(folder: Path, **dataset: Any) -> Dataset:
    """Write a dataset of eight clips of four people in shards of two, as packing lays it out."""
    made = folder.with_name(folder.name + "-made")
    write_dataset(made, identities=4, held_out=0, clips=2, n_frames=8)
    shards, store = Shards(made), Store(str(folder))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm", **dataset})
    rows, ids = [], list(shards.ids)
    for number in range(0, len(ids), 2):
        name, offset = f"train-{number // 2:06d}.tar", 0
        with store.open_output(f"shards/{name}") as out:
            for i in range(number, number + 2):
                row = shards[ids[i]]
                data = shards.read(row, row.members)
                sample = Sample.model_validate_json(data["json"])
                kept = sample.references[: i % 4]
                held = pictures(data, [r.member for r in kept])
                # Null in some, a number in others: what a reader that infers types stumbles over.
                text = None if i % 2 else "hello"
                sample = sample.model_copy(update={"references": kept, "text": text})
                members = [(f"{ids[i]}.{s}", data[s]) for s in ("mp4", "speak.flac", "listen.flac")]
                members.append((f"{ids[i]}.json", sample.model_dump_json().encode()))
                members += [
                    (f"{ids[i]}.{s}", b) for s, b in reference_members([(r.member, held[r.member]) for r in kept])
                ]
                rows.append(manifest_row(sample, "/footage/puppet.mp4", name, write_members(out, members, offset)))
                offset += stored_size(len(b) for _, b in members)
            end_of_archive(out)
    manifest = t.MANIFEST.from_rows(rows)
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, manifest)
    for name in sorted({r.shard for r in rows}):
        mine = t.MANIFEST.from_rows(r for r in rows if r.shard == name)
        store.write(f"shards/{name[:-4]}.parquet", parquet_bytes(mine))
    return Dataset(store.uri)
