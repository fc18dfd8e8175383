"""Do the shards hold the samples that the manifest lists, whole? Each is read once, front to back, and with media
decoded; in memory is one sample."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curation.dataset import Dataset
from curation.pack.shards import ShardIndex
from curation.storage.digests import file_digest
from curation.storage.store import StoreError
from curation.verify.finding import Finding, Mend
from curation.verify.part import Part, drawn
from curation.verify.root import Root
from curation.verify.samples import differences, present
from schemas import tables as t
from schemas.samples.manifest import manifest_row
from schemas.samples.members import MEMBERS, pictures
from schemas.samples.sample import SAMPLES_PER_FRAME, Sample
from schemas.tables.output import ManifestRow as M
from schemas.time import PACKED_AUDIO_HZ

_BLOCK = 1 << 22
_NOT_IN_JSON = {M.vector.name, M.vector_model.name, M.reference_vectors.name, M.shard_sha256.name}


def broken(dataset: Dataset, media: bool, root: Root, part: Part | None = None) -> Iterator[Finding]:
    """Say what of the shards is not as index, manifest and the samples' own JSON have it.

    Of a part, of its shards, each with its sidecar.
    """
    store = dataset.store
    index = _index(dataset)
    asked = set(drawn(part, "shards", sorted({_tar_of(name) for name in index.sha256})))
    there = {n.removeprefix("shards/") for n in store.sizes("shards")} - {"index.json"}
    digests: dict[str, str] = {}
    try:
        yield from _listed(dataset, index, media, digests, None if part is None else asked)
    except Exception as e:  # what the index says holds without the manifest
        why = str(e).partition("\n")[0]
        said = f"manifest.parquet cannot be read ({why}), so no sample was held against it; run `lpm pack`"
        yield Finding(said, (Mend("pack", "manifest.parquet"),))
    for name in (n for n in sorted(index.sha256) if _tar_of(n) in asked):
        digest = index.sha256[name]
        mend = (Mend("pack", f"shards/{name}"),)
        if name not in there:
            if name not in digests:
                yield Finding(f"shards/{name} is gone; run `lpm pack`", mend)
            continue
        found = digests.get(name) or file_digest(store, f"shards/{name}")
        digests[name] = found
        if found != digest:
            yield Finding(f"shards/{name} changed since it was packed; run `lpm verify --repair`", mend)
    if index.sha256:
        for name in sorted(there - index.sha256.keys()):
            said = f"shards/{name} is no shard of this dataset; delete it"
            yield Finding(said, (Mend("delete", f"shards/{name}"),))
    root.add("shards", {f"shards/{n}": d for n, d in digests.items() if n in there})


def _listed(
    dataset: Dataset, index: ShardIndex, media: bool, digests: dict[str, str], asked: set[str] | None
) -> Iterator[Finding]:
    """Hold every sample that the manifest lists against it, or those of some shards; put down the shards' hashes."""
    if not dataset.files(t.MANIFEST):
        return
    with contextlib.closing(dataset.connect(tables=[t.MANIFEST])) as con:
        sql = f"SELECT DISTINCT {M.shard.name} FROM {t.MANIFEST.name} ORDER BY 1"
        for shard in [str(s) for (s,) in con.execute(sql).fetchall() if asked is None or s in asked]:
            yield from _shard(dataset, con, shard, index.sha256.get(shard), media, digests)


def older(dataset: Dataset) -> bool:
    """Say whether samples were packed before hashes were kept."""
    index = _index(dataset)
    return bool(index.shards) and not index.sha256


def _index(dataset: Dataset) -> ShardIndex:
    try:
        return ShardIndex.read(dataset.store) or ShardIndex("")
    except (StoreError, TypeError):  # the seal says so
        return ShardIndex("")


def _tar_of(name: str) -> str:
    """Return the shard that a sidecar goes with; a shard goes with itself."""
    return f"{name.rpartition('.')[0]}.tar"


def _inside(shard: str) -> bool:
    return "/" not in shard and shard not in ("", "..")


class _Tar:
    """A shard that is read front to back, and hashed on the way."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self.size, self._at, self._digest = file, size, 0, hashlib.sha256()

    def take(self, offset: int, size: int) -> bytes:
        """Return bytes; what lies before them is hashed, what was passed already is read once more."""
        if offset < self._at:
            self._file.seek(offset)
            data = bytes(self._file.read(size))
            self._file.seek(self._at)
            return data
        while self._at < offset:
            self._next(min(_BLOCK, offset - self._at))
        return self._next(size)

    def hexdigest(self) -> str:
        """Read on to the end, and return the hash of all."""
        while self._at < self.size:
            self._next(min(_BLOCK, self.size - self._at))
        return self._digest.hexdigest()

    def _next(self, size: int) -> bytes:
        data = bytes(self._file.read(size))
        if len(data) != size:
            raise OSError("the file ended early")
        self._digest.update(data)
        self._at += size
        return data


def _shard(
    dataset: Dataset, con: Any, shard: str, digest: str | None, media: bool, digests: dict[str, str]
) -> Iterator[Finding]:
    store, name = dataset.store, f"shards/{shard}"
    manifest, tar_file = (Mend("pack", "manifest.parquet"),), (Mend("pack", name),)
    if not _inside(shard):
        yield Finding(f"manifest.parquet names a shard {shard!r}, which is not under shards/; run `lpm pack`", manifest)
        return
    if not store.exists(name):
        digests[shard] = ""
        yield Finding(f"{name} is gone; run `lpm pack`", tar_file)
        return
    columns = present(dataset) - _NOT_IN_JSON
    sql = f"SELECT * FROM {t.MANIFEST.name} WHERE {M.shard.name} = ? ORDER BY members[1].offset, segment_id"
    reader = con.sql(sql, params=[shard]).to_arrow_reader(256)
    with store.filesystem().open_input_file(store.path(name)) as f:
        tar = _Tar(f, store.size(name))
        for batch in reader:
            for row in t.MANIFEST.rows(pa.Table.from_batches([batch])):
                if digest is not None and row.shard_sha256 != digest:
                    said = f"manifest.parquet: shard_sha256 of sample {row.segment_id} is not that of {name}"
                    yield Finding(said, manifest)
                try:
                    for what in _sample(tar, name, row, columns, media):
                        yield Finding(what, manifest if what.startswith("manifest.parquet") else tar_file)
                except Exception as e:
                    said = f"sample {row.segment_id} in {name} cannot be read: {str(e).partition(chr(10))[0]}"
                    yield Finding(said, tar_file)
        digests[shard] = tar.hexdigest()


def _sample(tar: _Tar, shard: str, row: M, columns: set[str], media: bool) -> Iterator[str]:
    key = row.segment_id
    members: dict[str, bytes] = {}
    digests = row.member_sha256
    if digests is not None and len(digests) != len(row.members):
        yield f"manifest.parquet: member_sha256 of sample {key} is not one hash a member"
        digests = None
    for i, m in enumerate(row.members):
        name, offset, size = m["name"], m["offset"], m["size"]
        if offset < 512 or size < 0 or offset + size > tar.size:
            yield f"manifest.parquet: {name} lies beyond the end of {shard}"
            return
        try:
            header = tarfile.TarInfo.frombuf(tar.take(offset - 512, 512), "utf-8", "strict")
        except tarfile.HeaderError:
            yield f"manifest.parquet: {shard} holds no member where it says {name}; run `lpm pack`"
            return
        if (header.name, header.size) != (name, size):
            held = f"{header.name} ({header.size} bytes)"
            yield f"manifest.parquet: {shard} holds {held} where it says {name} ({size} bytes); run `lpm pack`"
            return
        data = tar.take(offset, size)
        if digests is not None and hashlib.sha256(data).hexdigest() != digests[i]:
            yield f"{name} in {shard} changed since it was packed; run `lpm verify --repair`"
        members[name.split(".", 1)[1]] = data
    sample = Sample.model_validate_json(members["json"]) if "json" in members else None
    missing = set(MEMBERS if sample is None or sample.format > 1 else MEMBERS[:4]) - members.keys()
    if sample is None or missing:
        yield f"sample {key} lacks {sorted(missing)}"
        return
    if sample.sample_id != key or sample.split != row.split:
        yield f"sample {key}: its json names {sample.sample_id}, split {sample.split}"
    for ref in sample.references:
        try:
            pictures(members, [ref.member])
        except (KeyError, tarfile.TarError):
            yield f"sample {key} lists {ref.member} but does not carry it"
    places = [(m["name"], m["offset"], m["size"]) for m in row.members]
    made = t.MANIFEST.from_rows([manifest_row(sample, row.uri, row.shard, places, row.member_sha256)])
    for column, _ in differences(t.MANIFEST.from_rows([row]), made, columns):
        yield f"manifest.parquet: {column} of sample {key} is not what its json says; run `lpm pack`"
    if media:
        yield from _media(key, sample, members)


def _media(key: str, sample: Sample, members: dict[str, bytes]) -> Iterator[str]:
    from curation.media.apart import media_apart  # PyAV, which the core alone does not have
    from curation.media.errors import MediaError
    from curation.media.packed import played

    video = sample.video
    try:
        found = media_apart(played, members["mp4"], {track: members[track] for track in ("speak.flac", "listen.flac")})
    except MediaError as e:
        yield f"sample {key}: its media do not decode: {e.args[0]}"
        return
    needed = video.n_frames * SAMPLES_PER_FRAME
    for track, sound in found.sounds.items():
        if sound != (needed, PACKED_AUDIO_HZ, 1):
            yield f"sample {key}: {track} has {sound[0]} samples at {sound[1]} Hz, video needs {needed}"
    if (found.frames, found.width, found.height, found.first_pts, found.sound_tracks) != (
        video.n_frames, video.width, video.height, 0, 0,
    ):  # fmt: skip
        yield (
            f"sample {key}: video has {found.frames} frames of {found.width}x{found.height} from pts "
            f"{found.first_pts}, its json says {video.n_frames}"
        )
