"""Latents, audio features and text embeddings that `lpm train precompute` has written beside the shards.

`precomputed/NAME/` holds one tar and one index a shard, `sizes.json` with the sizes that clips were cut to, and
`meta.json` with the provenance of the encoders that wrote it (`lpm_train.parts`). Loading checks that, and each
sample's digest: latents of another codec, or of a clip that was packed again since, are refused instead of trained on.
Of a text encoder that is not in memory a quick hash of its files is checked in place of its weights.
Windows were encoded one by one from their own first frame, so that a window's latents are exactly those of the clip cut
there, also for codecs that look back in time.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lpm_train.data.cut import Cut
from lpm_train.data.make import Encoders, Parts
from lpm_train.data.order import Bucket
from lpm_train.data.shards import Row, Shards, read_members
from lpm_train.data.table.columns import Coded, Ints, narrow
from lpm_train.data.table.members import Members, MembersWriter
from lpm_train.encoders.deferred import Deferred
from lpm_train.storage import DataError, Storage

_MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))
SIZES = "sizes.json"
INDEX = pa.schema(
    [("sample_id", pa.string()), ("digest", pa.string()), ("bucket", pa.list_(pa.int64())), ("members", _MEMBERS)]
)


def meta_of(encoders: Encoders, hop_frames: int, dtype: str, timed: bool = False) -> dict[str, Any]:
    """Describe a set: which encoders make it, of which windows, in what precision, and whether with timed prompts."""
    more = {"prompts": "timed"} if timed else {}
    return {"format": 2, **encoders.provenance, "hop_frames": hop_frames, "dtype": dtype, **more}


def files_of(encoders: Encoders) -> dict[str, Any]:
    """Say of what files the text encoder was read, where that can stand for its weights."""
    found = encoders.text.files() if isinstance(encoders.text, Deferred) else None
    return {"files": {"text": found}} if found else {}


def text_member(row: Row, text: str) -> str:
    """Name the embedding of a text of a sample: the caption's, or another's by its hash."""
    return "text" if text == row.caption else f"text_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


_HEADERS = Lock()
"""NumPy reads a header by Python's own parser, and in two threads at once that may fail where memory is collected in
its midst: "AST constructor recursion depth mismatch" (python/cpython#106905, which Python 3.11.7 still has)."""


def array_of(npy: bytes) -> Tensor:
    """Return a stored array as float32; may be called by several threads.

    Raises:
        ValueError: these are no bytes of a .npy file, or they hold objects.
    """
    with _HEADERS:
        return torch.from_numpy(np.load(io.BytesIO(npy), allow_pickle=False).astype(np.float32))


def index_name(folder: str, shard: str) -> str:
    """Return where the index of a shard's set lies."""
    return f"{folder}/{shard.removesuffix('.tar')}.parquet"


def read_meta(storage: Storage, folder: str) -> dict[str, Any] | None:
    """Read what a set says of itself; None where there is no set."""
    try:
        return dict(json.loads(storage.read(f"{folder}/meta.json")))
    except FileNotFoundError:
        return None


def read_sizes(root: str, name: str) -> tuple[Bucket, ...]:
    """Read the sizes that a set was last written with; none where there is no set."""
    try:
        found = json.loads(Storage(root).read(f"precomputed/{name}/{SIZES}"))
    except FileNotFoundError:
        return ()
    return tuple((int(frames), int(height), int(width)) for frames, height, width in found)


def write_sizes(storage: Storage, folder: str, sizes: Sequence[Bucket]) -> None:
    """Write down which sizes a set was made with."""
    storage.write(f"{folder}/{SIZES}", (json.dumps(list(sizes)) + "\n").encode())


def difference(stored: Mapping[str, Any], wanted: Mapping[str, Any], at: str = "") -> str:
    """Say in what a stored description differs from the wanted one; another format is all that is said of it."""
    said = []
    for key in {"format": 0, **stored, **wanted}:
        have, want = stored.get(key), wanted.get(key)
        if isinstance(have, Mapping) and isinstance(want, Mapping):
            said += [difference(have, want, f"{at}{key}.")] * (have != want)
        elif have != want:
            said.append(f"{at}{key}: stored {have}, asked for {want}")
        if key == "format" and said:
            break
    return "; ".join(said)


def read_index(storage: Storage, folder: str, shard: str) -> pa.Table:
    """Read the index of a shard's set; empty where there is none."""
    try:
        return pq.read_table(pa.BufferReader(storage.read(index_name(folder, shard))), schema=INDEX)
    except FileNotFoundError:
        return INDEX.empty_table()


def held_by(index: pa.Table) -> dict[str, tuple[str, Bucket]]:
    """Return (digest, bucket) by sample id, in the index's order."""
    columns = (index[n].to_pylist() for n in ("sample_id", "digest", "bucket"))
    return {sample_id: (digest, (b[0], b[1], b[2])) for sample_id, digest, b in zip(*columns, strict=True)}


class Precomputed(Parts):
    """Parts of samples read from a precomputed set."""

    def __init__(
        self, shards: Shards, name: str, encoders: Encoders, samples: Cut,
        timed: bool = False,
    ) -> None:  # fmt: skip
        """Open a set and check that it is what these encoders would compute for these samples.

        A set with timed prompts holds the captions as well; `timed` asks for one.

        Raises:
            DataError: there is no such set, or encoders, samples or buckets are others, or it has no timed prompts.
        """
        storage, self._folder = shards.storage, f"precomputed/{name}"
        meta = read_meta(storage, self._folder)
        again = f"run `lpm train precompute {storage.uri} --name {name}` with the same codec, encoders, buckets"
        if meta is None:
            raise DataError(f"there is no {self._folder} in this dataset: {again}")
        super().__init__(shards, encoders, int(meta["hop_frames"]))
        if isinstance(text := meta.get("text"), Mapping):  # older sets say a name
            encoders.vouch(text, meta.pop("files", {}).get("text", ""))
        wanted = meta_of(encoders, self.hop_frames, meta["dtype"], timed or "prompts" in meta)
        if {**meta, "prompts": "timed"} == wanted != meta:
            raise DataError(
                f"{self._folder} holds captions alone, and data.prompts is timed: run `lpm train precompute "
                f"{storage.uri} --name OTHER --set data.prompts=timed` with its other settings"
            )
        if meta != wanted:
            raise DataError(
                f"{self._folder} was computed by other encoders ({difference(meta, wanted)}): training on it would "
                f"mix two latent spaces. Use the encoders it was made with, or {again} under another name"
            )
        self._samples, self._members, self._at = samples, *self._checked(samples, again)

    def _checked(self, samples: Cut, again: str) -> tuple[Members, Ints]:
        """Hold every sample against the set; return where their parts lie, and which of these each sample's are."""
        shards, places = self.shards, MembersWriter()
        at, done, bad, example = np.zeros(len(samples), np.int64), 0, 0, ""
        column = shards.column("shard")
        for shard, mine in Coded(column.names, samples.of_all(column.codes)).groups():
            index = read_index(shards.storage, self._folder, shard)
            held = {i: (n, *found) for n, (i, found) in enumerate(held_by(index).items())}
            taken = []
            for k in mine.tolist():
                row = shards.row(samples.place(k))
                number, digest, bucket = held.get(row.segment_id, (-1, "", None))
                if (digest, bucket) == (row.digest, wanted := samples[row.segment_id][0]):
                    at[k], done = done, done + 1
                    taken.append(number)
                    continue
                bad, example = bad + 1, example or f"{row.segment_id} (cut to {wanted}, stored {bucket})"
            rows = index.take(pa.array(taken, pa.int64())).combine_chunks()
            if taken:
                places.add(rows["sample_id"].chunk(0), rows["members"].chunk(0))
        if bad:
            raise DataError(
                f"{bad} of {len(samples)} samples are not in {self._folder} as they are now, e.g. {example}: "
                f"{again}; it continues where it stopped"
            )
        return places.done(), narrow(at)

    def _load(self, row: Row, names: Sequence[str]) -> list[Tensor]:
        places = self._members.of(int(self._at[self._samples.find(row.segment_id)]))
        file = f"{self._folder}/{row.shard}"
        data = read_members(self.shards.storage, file, {n: places[f"{n}.npy"] for n in names})
        return [array_of(data[n]) for n in names]

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

    def texts(self, row: Row, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the embeddings [n, L, Dt] and masks [n, L] of texts of a sample."""
        encoder = self.encoders.text
        out = torch.zeros(len(texts), encoder.length, encoder.width)
        mask = torch.zeros(out.shape[:2], dtype=torch.bool)
        try:
            found = self._load(row, [text_member(row, text) for text in texts])
        except KeyError as e:
            raise DataError(
                f"{self._folder} lacks a text of this sample: its events are others now; delete the set and precompute"
            ) from e
        for i, tokens in enumerate(found):
            out[i, : len(tokens)], mask[i, : len(tokens)] = tokens, True
        return out, mask
