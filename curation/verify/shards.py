"""Do the shards hold the samples that the manifest lists, whole? Each is read once and, with media, decoded."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator

from curation.dataset import Dataset
from schemas import tables as t
from schemas.sample import SAMPLES_PER_FRAME, Sample
from schemas.tables.output import ManifestRow as M
from schemas.time import PACKED_AUDIO_HZ


def broken(dataset: Dataset, media: bool) -> Iterator[str]:
    """Say what of the shards is not as the manifest and the samples' own JSON have it; one shard's rows at a time."""
    store = dataset.store
    with contextlib.closing(dataset.connect(tables=[t.MANIFEST])) as con:
        shards = con.execute(f"SELECT DISTINCT {M.shard.name} FROM {t.MANIFEST.name} ORDER BY 1").fetchall()
        columns = ", ".join(c.name for c in (M.sample_id, M.split, M.members))
        sql = f"SELECT {columns} FROM {t.MANIFEST.name} WHERE {M.shard.name} = ? ORDER BY {M.sample_id.name}"
        for (shard,) in shards:
            name = f"shards/{shard}"
            if not store.exists(name):
                yield f"{name} is gone; run `lpm pack`"
                continue
            whole = store.size(name)
            for row in t.MANIFEST.rows(con.sql(sql, params=[shard]).to_arrow_table()):
                yield from _sample(dataset, name, whole, row, media)


def _sample(dataset: Dataset, shard: str, whole: int, row: M, media: bool) -> Iterator[str]:
    store, key = dataset.store, row.sample_id
    members: dict[str, bytes] = {}
    for m in row.members:
        name, offset, size = m["name"], m["offset"], m["size"]
        if offset + size > whole:
            yield f"{name} lies beyond the end of {shard}"
            return
        header = tarfile.TarInfo.frombuf(store.read(shard, offset - 512, 512), "utf-8", "strict")
        if (header.name, header.size) != (name, size):
            yield f"{shard} holds {header.name} ({header.size} bytes) where the manifest says {name} ({size} bytes)"
            return
        members[name.split(".", 1)[1]] = store.read(shard, offset, size)
    missing = {"mp4", "speak.flac", "listen.flac", "json"} - members.keys()
    if missing:
        yield f"sample {key} lacks {sorted(missing)}"
        return
    sample = Sample.model_validate_json(members["json"])
    if sample.sample_id != key or sample.split != row.split:
        yield f"sample {key}: its json names {sample.sample_id}, split {sample.split}"
    for ref in sample.references:
        if ref.member not in members:
            yield f"sample {key} lists {ref.member} but does not carry it"
    if media:
        yield from _sounds(key, sample, members)
        yield from _picture(key, sample, members["mp4"])


def _sounds(key: str, sample: Sample, members: dict[str, bytes]) -> Iterator[str]:
    import soundfile

    for track in ("speak.flac", "listen.flac"):
        info = soundfile.info(io.BytesIO(members[track]))
        expected = sample.video.n_frames * SAMPLES_PER_FRAME
        if (info.frames, info.samplerate, info.channels) != (expected, PACKED_AUDIO_HZ, 1):
            yield f"sample {key}: {track} has {info.frames} samples at {info.samplerate} Hz, video needs {expected}"


def _picture(key: str, sample: Sample, data: bytes) -> Iterator[str]:
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            n, first = 0, None
            for frame in container.decode(stream):
                first = frame.pts if first is None else first
                n += 1
            size = (stream.width, stream.height)
            sound = len(container.streams.audio)
    except (av.FFmpegError, IndexError) as e:
        yield f"sample {key}: its video does not decode: {e}"
        return
    if n != sample.video.n_frames or size != (sample.video.width, sample.video.height) or first != 0 or sound:
        yield f"sample {key}: video has {n} frames of {size} from pts {first}, its json says {sample.video.n_frames}"
