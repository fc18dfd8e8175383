"""Encode once, train many times: latents, audio features and text embeddings in tars beside the shards.

See `lpm_train.data.precomputed` for what is written and how it is read. A shard that is complete is left as it is, so a
stopped run continues. Costs the encoders' time once; memory holds as many samples as there are threads, twice.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from lpm_train.data.clip import read_record
from lpm_train.data.make import Encoders, Parts, window_starts
from lpm_train.data.order import Bucket
from lpm_train.data.precomputed import (
    INDEX,
    difference,
    files_of,
    held_by,
    index_name,
    meta_of,
    read_index,
    read_meta,
    text_member,
    write_sizes,
)
from lpm_train.data.prompts import frame_terms, texts_of
from lpm_train.data.shards import Row, Shards
from lpm_train.data.sizes import Rule, choose_bucket
from lpm_train.data.table.columns import Ints
from lpm_train.encoders.codec import whole_frames
from lpm_train.storage import DataError


def precompute(
    root: str | Path, name: str, encoders: Encoders, buckets: Sequence[Bucket], *, where: str | None = None,
    hop_frames: int | None = None, dtype: str = "float16", workers: int = 2, timed: bool = False,
    rule: Rule | None = None, report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:  # fmt: skip
    """Encode the selected samples of a dataset into `precomputed/NAME/`.

    Args:
        root: the dataset.
        name: of the set; several may lie side by side.
        encoders: codec, audio and text encoders.
        buckets: as the loader will use them.
        where: SQL condition over the manifest's columns.
        hop_frames: a window starts every so many frames; by default windows lie end to end.
        dtype: float16 halves the size; float32 keeps every bit.
        workers: threads.
        timed: whether to encode the texts of timed prompts beside the captions.
        rule: what a size must keep of a clip; clips that fit none are left out. None: all are cut to the nearest.
        report: called with how many of the selected samples are done, and how many there are.

    Returns:
        counts: shards, samples, samples left as they were (kept), samples left_out (too short, or fit no size), bytes.

    Raises:
        DataError: a set of that name was written by other encoders, or a sample cannot be read.
    """
    if dtype not in ("float16", "float32"):
        raise DataError(f"dtype {dtype!r}: use float16 or float32")
    shards = Shards(root)
    wanted = shards if where is None else Shards(root, where)
    hop = whole_frames(encoders.codec, hop_frames or min(b[0] for b in buckets)) or encoders.codec.stride[0]
    made = _Making(
        Parts(shards, encoders), wanted, f"precomputed/{name}", buckets, rule, hop, dtype, timed, workers, report
    )
    made.describe()
    asked_for = wanted.column("shard").counts()
    for shard, places in shards.column("shard").groups():
        if shard in asked_for:
            made.add(shard, places)
    write_sizes(shards.storage, made.folder, buckets)
    return made.counts


@dataclass
class _Making:
    """A set under way: of what it is made, and how far."""

    parts: Parts
    wanted: Shards  # the samples that are asked for
    folder: str
    buckets: Sequence[Bucket]
    rule: Rule | None
    hop: int
    dtype: str
    timed: bool
    workers: int
    report: Callable[[int, int], None]
    done: int = 0  # of the wanted samples
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("shards", "samples", "kept", "left_out", "bytes"), 0)
    )

    def describe(self) -> None:
        """Write down what the set is made of. Raises DataError where one that is there is made of something else."""
        storage, encoders = self.parts.shards.storage, self.parts.encoders
        meta, stored = meta_of(encoders, self.hop, self.dtype, self.timed), read_meta(storage, self.folder)
        if stored is not None and {k: v for k, v in stored.items() if k != "files"} != meta:
            raise DataError(
                f"{self.folder} was written with other settings ({difference(stored, meta)}): use another name, or "
                "delete it"
            )
        storage.write(f"{self.folder}/meta.json", (json.dumps(meta | files_of(encoders), indent=1) + "\n").encode())

    def add(self, shard: str, places: Ints) -> None:
        """Encode what is wanted of a shard, unless all of it is there; samples of another selection stay."""
        shards, counts = self.parts.shards, self.counts
        held = held_by(read_index(shards.storage, self.folder, shard))
        rows = [r for r in map(shards.row, places.tolist()) if r.segment_id in self.wanted or r.segment_id in held]
        cut = [(row, choose_bucket(row.n_frames, row.width, row.height, self.buckets, self.rule)) for row in rows]
        items = [(row, bucket) for row, bucket in cut if bucket is not None]
        counts["left_out"] += len(cut) - len(items)
        if all(held.get(row.segment_id) == (row.digest, bucket) for row, bucket in items):
            counts["kept"] += len(items)
            self._tell(rows)
            return
        self._tell([row for row, bucket in cut if bucket is None])
        counts["bytes"] += self._write(shard, items)
        counts["shards"], counts["samples"] = counts["shards"] + 1, counts["samples"] + len(items)
        if counts["shards"] == 1:
            write_sizes(shards.storage, self.folder, self.buckets)  # an attempt that brought nothing decides no sizes

    def _tell(self, rows: Sequence[Row]) -> None:
        """Report samples that are done, where any of them is wanted."""
        if n := sum(row.segment_id in self.wanted for row in rows):
            self.done += n
            self.report(self.done, len(self.wanted))

    def _write(self, shard: str, items: Sequence[tuple[Row, Bucket]]) -> int:
        """Write the tar of a shard and its index; returns the tar's bytes."""
        storage, rows, dtype = self.parts.shards.storage, [], np.dtype(self.dtype)
        with tempfile.TemporaryFile() as file, ThreadPoolExecutor(max(1, self.workers)) as pool:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                # As many samples ahead as there are threads: memory holds few, and the tar's order is that of the ids.
                for start in range(0, len(items), 2 * self.workers):
                    some = items[start : start + 2 * self.workers]
                    made = pool.map(lambda i: _encode_sample(self.parts, i[0], i[1], self.hop, dtype, self.timed), some)
                    for (row, bucket), members in zip(some, made, strict=True):
                        places = [_add(tar, f"{row.segment_id}.{suffix}", data) for suffix, data in members.items()]
                        rows.append((row.segment_id, row.digest, list(bucket), places))
                    self._tell([row for row, _ in some])
            size, sink = file.tell(), io.BytesIO()
            storage.write(f"{self.folder}/{shard}", file)
        columns = zip(*rows, strict=True)
        pq.write_table(pa.table({n: list(v) for n, v in zip(INDEX.names, columns, strict=True)}, schema=INDEX), sink)
        storage.write(index_name(self.folder, shard), sink)
        return size


def _encode_sample(
    parts: Parts, row: Row, bucket: Bucket, hop: int, dtype: np.dtype[Any], timed: bool
) -> dict[str, bytes]:
    """Encode all windows, pictures, sounds and texts of a sample; .npy bytes by suffix."""
    try:
        record = read_record(parts.shards.read(row, ["json"])["json"], row.segment_id)
        made: dict[str, Tensor] = {}
        made["speak"], made["listen"] = parts.sounds(row)
        texts = [row.caption]
        if timed:
            texts = list(dict.fromkeys(texts + texts_of(row.caption, frame_terms(record, row.n_frames))))
        for text, embedding, mask in zip(texts, *parts.texts(row, texts), strict=True):
            made[text_member(row, text)] = embedding[mask]
        if members := [r.member for r in record.references]:
            made |= dict(zip(members, parts.references(row, bucket, members), strict=True))
        for start in window_starts(row.n_frames, bucket[0], hop):
            made[f"latents_{start}"] = parts.latents(row, bucket, start)
    except DataError as e:
        raise DataError(f"sample {row.segment_id}: {e}") from e
    return {f"{name}.npy": _npy(x, dtype) for name, x in made.items()}


def _npy(x: Tensor, dtype: np.dtype[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, x.numpy().astype(dtype), allow_pickle=False)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> dict[str, Any]:
    info = tarfile.TarInfo(name)
    info.size, at = len(data), tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return {"name": name, "offset": at, "size": len(data)}
