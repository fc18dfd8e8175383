"""Encode once, train many times: latents, audio features and text embeddings in tars beside the shards.

`precomputed/NAME/` holds one tar and one index a shard, and `meta.json` with the fingerprints of the encoders that
wrote it. Loading checks them, and each sample's digest: latents of another codec, or of a clip that was packed again
since, are refused instead of trained on. Windows are encoded one by one from their own first frame, so that a window's
latents are exactly those of the clip cut there, also for codecs that look back in time. A shard that is complete is
left as it is, so a stopped run continues.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lpm_train.clip import read_record
from lpm_train.codec import whole_frames
from lpm_train.make import Encoders, Parts
from lpm_train.order import Bucket
from lpm_train.sampling import choose_bucket, window_starts
from lpm_train.shards import Members, Row, Shards, read_members
from lpm_train.storage import DataError, Storage

_MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))
_INDEX = pa.schema(
    [("sample_id", pa.string()), ("digest", pa.string()), ("bucket", pa.list_(pa.int64())), ("members", _MEMBERS)]
)


def _meta(encoders: Encoders, hop_frames: int, dtype: str) -> dict[str, Any]:
    made: dict[str, Any] = {"codec": encoders.codec, "audio": encoders.audio, "text": encoders.text}
    prints = {k: {"name": e.name, "fingerprint": e.fingerprint} for k, e in made.items()}
    return {"format": 1, **prints, "hop_frames": hop_frames, "dtype": dtype}


def precompute(
    root: str | Path, name: str, encoders: Encoders, buckets: Sequence[Bucket], *, where: str | None = None,
    hop_frames: int | None = None, dtype: str = "float16", workers: int = 2,
    report: Callable[[str, int], None] = lambda shard, n: None,
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
        report: called with each shard's name and its number of samples.

    Returns:
        counts: shards, samples, samples left as they were (kept), samples too short, bytes.

    Raises:
        DataError: a set of that name was written by other encoders, or a sample cannot be read.
    """
    if dtype not in ("float16", "float32"):
        raise DataError(f"dtype {dtype!r}: use float16 or float32")
    shards, wanted, folder = Shards(root), Shards(root, where), f"precomputed/{name}"
    shortest = min(b[0] for b in buckets)
    hop = whole_frames(encoders.codec, hop_frames or shortest) or encoders.codec.stride[0]
    storage, meta = shards.storage, _meta(encoders, hop, dtype)
    stored = _read_meta(storage, folder)
    if stored is not None and stored != meta:
        raise DataError(
            f"{folder} was written with other settings ({_difference(stored, meta)}): use another name, or delete it"
        )
    storage.write(f"{folder}/meta.json", (json.dumps(meta, indent=1) + "\n").encode())
    counts = dict.fromkeys(("shards", "samples", "kept", "too_short", "bytes"), 0)
    ids_of: dict[str, list[str]] = {}
    for sample_id, shard in zip(shards.ids, shards.column("shard"), strict=True):
        ids_of.setdefault(shard, []).append(sample_id)
    for shard in sorted(set(wanted.column("shard"))):
        held = _held(_read_index(storage, folder, shard))  # also of another selection: they stay
        rows = [shards[i] for i in ids_of[shard] if i in wanted or i in held]
        cut = [(row, choose_bucket(row.n_frames, row.width, row.height, buckets)) for row in rows]
        items = [(row, bucket) for row, bucket in cut if bucket is not None]
        counts["too_short"] += len(cut) - len(items)
        if all(held.get(row.sample_id) == (row.digest, bucket) for row, bucket in items):
            counts["kept"] += len(items)
            continue
        counts["bytes"] += _write_shard(Parts(shards, encoders), folder, shard, items, hop, np.dtype(dtype), workers)
        counts["shards"], counts["samples"] = counts["shards"] + 1, counts["samples"] + len(items)
        report(shard, len(items))
    return counts


def _write_shard(
    parts: Parts, folder: str, shard: str, items: Sequence[tuple[Row, Bucket]], hop: int, dtype: np.dtype[Any],
    workers: int,
) -> int:  # fmt: skip
    storage, rows = parts.shards.storage, []
    with tempfile.TemporaryFile() as file, ThreadPoolExecutor(max(1, workers)) as pool:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            # As many samples ahead as there are threads: memory holds few, and the tar's order is that of the ids.
            for start in range(0, len(items), 2 * workers):
                some = items[start : start + 2 * workers]
                made = pool.map(lambda i: encode_sample(parts, i[0], i[1], hop, dtype), some)
                for (row, bucket), members in zip(some, made, strict=True):
                    places = [_add(tar, f"{row.sample_id}.{suffix}", data) for suffix, data in members.items()]
                    rows.append((row.sample_id, row.digest, list(bucket), places))
        size, sink = file.tell(), io.BytesIO()
        storage.write(f"{folder}/{shard}", file)
    columns = zip(*rows, strict=True)
    pq.write_table(pa.table({n: list(v) for n, v in zip(_INDEX.names, columns, strict=True)}, schema=_INDEX), sink)
    storage.write(_index_name(folder, shard), sink)
    return size


def encode_sample(parts: Parts, row: Row, bucket: Bucket, hop: int, dtype: np.dtype[Any]) -> dict[str, bytes]:
    """Encode all windows, pictures, sounds and the caption of a sample; .npy bytes by suffix."""
    try:
        record = read_record(parts.shards.read(row, ["json"])["json"], row.sample_id)
        made: dict[str, Tensor] = {}
        made["speak"], made["listen"] = parts.sounds(row)
        embedding, mask = parts.text(row)
        made["text"] = embedding[mask]
        if members := [r.member for r in record.references]:
            made |= dict(zip(members, parts.references(row, bucket, members), strict=True))
        for start in window_starts(row.n_frames, bucket[0], hop):
            made[f"latents_{start}"] = parts.latents(row, bucket, start)
    except DataError as e:
        raise DataError(f"sample {row.sample_id}: {e}") from e
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


def _index_name(folder: str, shard: str) -> str:
    return f"{folder}/{shard.removesuffix('.tar')}.parquet"


def _read_meta(storage: Storage, folder: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(storage.read(f"{folder}/meta.json")))
    except FileNotFoundError:
        return None


def _difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    return "; ".join(f"{k}: stored {stored.get(k)}, asked for {v}" for k, v in wanted.items() if stored.get(k) != v)


def _read_index(storage: Storage, folder: str, shard: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(storage.read(_index_name(folder, shard))), schema=_INDEX)
    except FileNotFoundError:
        return _INDEX.empty_table()


def _held(index: pa.Table) -> dict[str, tuple[str, Bucket]]:
    """Return (digest, bucket) by sample id, in the index's order."""
    columns = (index[n].to_pylist() for n in ("sample_id", "digest", "bucket"))
    return {sample_id: (digest, (b[0], b[1], b[2])) for sample_id, digest, b in zip(*columns, strict=True)}


class Precomputed(Parts):
    """Parts of samples read from a precomputed set."""

    def __init__(
        self, shards: Shards, name: str, encoders: Encoders, samples: Mapping[str, tuple[Bucket, str]]
    ) -> None:
        """Open a set and check that it is what these encoders would compute for these samples.

        Raises:
            DataError: there is no such set, or encoders, samples or buckets are others.
        """
        storage, self._folder = shards.storage, f"precomputed/{name}"
        meta = _read_meta(storage, self._folder)
        again = f"run `lpm train precompute {storage.uri} --name {name}` with the same codec, encoders, buckets"
        if meta is None:
            raise DataError(f"there is no {self._folder} in this dataset: {again}")
        super().__init__(shards, encoders, int(meta["hop_frames"]))
        wanted = _meta(encoders, self.hop_frames, meta["dtype"])
        if meta != wanted:
            raise DataError(
                f"{self._folder} was computed by other encoders ({_difference(meta, wanted)}): training on it would "
                f"mix two latent spaces. Use the encoders it was made with, or {again} under another name"
            )
        held: dict[str, tuple[str, Bucket]] = {}
        self._at: dict[str, tuple[Members, int]] = {}  # where a sample's members are listed
        for shard in sorted({shards[i].shard for i in samples}):
            index = _read_index(storage, self._folder, shard)
            held |= (here := _held(index))
            if not here:
                continue
            members = Members(index["members"].combine_chunks())
            self._at |= {sample_id: (members, i) for i, sample_id in enumerate(here)}
        bad = [i for i, (bucket, _) in samples.items() if held.get(i) != (shards[i].digest, bucket)]
        if bad:
            example = f"{bad[0]} (cut to {samples[bad[0]][0]}, stored {held.get(bad[0], ('', None))[1]})"
            raise DataError(
                f"{len(bad)} of {len(samples)} samples are not in {self._folder} as they are now, e.g. {example}: "
                f"{again}; it continues where it stopped"
            )

    def _load(self, row: Row, names: Sequence[str]) -> list[Tensor]:
        (members, i), file = self._at[row.sample_id], f"{self._folder}/{row.shard}"
        places = members.of(i, row.sample_id)
        data = read_members(self.shards.storage, file, {n: places[f"{n}.npy"] for n in names})
        return [torch.from_numpy(np.load(io.BytesIO(data[n]), allow_pickle=False).astype(np.float32)) for n in names]

    def latents(self, row: Row, bucket: Bucket, start: int) -> Tensor:
        """Return a window's latents [F, C, H, W]."""
        return self._load(row, [f"latents_{start}"])[0]

    def references(self, row: Row, bucket: Bucket, members: list[str]) -> Tensor:
        """Return pictures as latents [K, C, H, W]."""
        return torch.stack(self._load(row, members))

    def sounds(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return features of both sounds, each [n_frames * q, A]."""
        speak, listen = self._load(row, ["speak", "listen"])
        return speak, listen

    def text(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return the caption's embedding [L, Dt] and mask [L]."""
        (tokens,), encoder = self._load(row, ["text"]), self.encoders.text
        out, mask = torch.zeros(encoder.length, encoder.width), torch.arange(encoder.length) < len(tokens)
        out[: len(tokens)] = tokens
        return out, mask
