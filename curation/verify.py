"""Check a dataset from the outside: hashes, member offsets, audio and video lengths, conservation, ids that join.

Every check reads what a user would read; none trusts the engine's own bookkeeping twice. Costs one pass over the
tables and, with `media=True`, one decode of every packed sample; only that needs the decoders, which the core of the
distribution does without.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from curation.dataset import Dataset
from curation.decisions.ledger import LedgerError, balances, check, mute, total
from curation.decisions.survey import slices
from curation.engine.register import read_forgotten
from curation.forget.traces import search
from curation.pack.splits import WITHHELD
from curation.storage.commits import read_commit
from schemas import tables as t
from schemas.sample import SAMPLES_PER_FRAME, Sample
from schemas.time import PACKED_AUDIO_HZ


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it must be."""

    check: str
    what: str


def verify(
    dataset: Dataset, *, media: bool = True, shards: bool = True, progress: Callable[[str], None] = lambda _: None
) -> list[Problem]:
    """Return every problem found; an empty list means that the dataset is whole.

    `shards=False` leaves the samples in the shards out, `media=False` only their pictures.
    """
    problems: list[Problem] = []
    checks: dict[str, Callable[[Dataset], Iterator[str]]] = {
        "hashes": _hashes, "conservation": _conservation, "joins": _joins, "forgotten": _forgotten,
    }  # fmt: skip
    if shards:
        checks["shards"] = lambda d: _shards(d, media)
    for name, function in checks.items():
        progress(name)
        problems += [Problem(name, what) for what in function(dataset)]
    return problems


def _hashes(dataset: Dataset) -> Iterator[str]:
    store = dataset.store
    for name in store.names("commits", ".json"):
        commit = read_commit(store, name)
        if commit is None:
            continue
        files = {e["file"]: e["sha256"] for e in commit.tables.values()} | commit.files
        for file, digest in sorted(files.items()):
            try:
                found = store.sha256(file)
            except FileNotFoundError:
                yield f"{file} is gone; run `lpm run` again to make it"
                continue
            if found != digest:
                yield f"{file} changed since stage {commit.stage} wrote it; delete it and run `lpm run` again"


def _conservation(dataset: Dataset) -> Iterator[str]:
    found = []
    without: list[str] = []
    wrong: list[str] = []
    for _, con in slices(dataset):
        found.append(balances(con))
        without += mute(con)
        kept = "SELECT unit_id AS id FROM decisions WHERE unit = 'segments' AND outcome = 'kept'"
        packed = "SELECT sample_id AS id FROM manifest"
        for (i,) in con.execute(f"{kept} EXCEPT {packed} ORDER BY 1").fetchall():
            wrong.append(f"kept segment {i} is in no shard; run `lpm pack`")
        for (i,) in con.execute(f"{packed} EXCEPT {kept} ORDER BY 1").fetchall():
            wrong.append(f"sample {i} is in a shard but not kept; run `lpm pack`")
    sums = total(found)
    if not any(sum(b.counts.values()) for b in sums):
        yield "there are no decisions; run `lpm run` or `lpm decide`"
        return
    try:
        check(sums, without)
    except LedgerError as e:
        yield str(e)
    yield from sorted(wrong, key=lambda said: not said.startswith("kept"))


_JOINS = (
    ("shots", "source_id", "sources", "source_id"),
    ("tracks", "shot_id", "shots", "shot_id"),
    ("tracklets", "track_id", "tracks", "track_id"),
    ("segments", "track_id", "tracks", "track_id"),
    ("segments", "shot_id", "shots", "shot_id"),
    ("segments", "partner_track_id", "tracks", "track_id"),
    ("sessions", "source_id", "inputs", "source_id"),
    ("session_pairs", "segment_id", "segments", "segment_id"),
    ("session_pairs", "session_partner_track_id", "tracks", "track_id"),
    ("timeline", "track_id", "tracks", "track_id"),
    ("labels", "source_id", "inputs", "source_id"),
    ("asd_frames", "track_id", "tracks", "track_id"),
    ("turns", "speaker_id", "speakers", "speaker_id"),
    ("words", "speaker_id", "speakers", "speaker_id"),
    ("voices", "diarized_as", "speakers", "speaker_id"),
    ("voice_turns", "speaker_id", "voices", "speaker_id"),
    ("bindings", "speaker_id", "voices", "speaker_id"),
    ("bindings", "track_id", "tracks", "track_id"),
    ("body_frames", "segment_id", "segments", "segment_id"),
    ("bodies", "segment_id", "segments", "segment_id"),
    ("captions", "segment_id", "segments", "segment_id"),
    ("clips", "segment_id", "segments", "segment_id"),
    ("face_embeddings", "track_id", "tracks", "track_id"),
    ("references", "segment_id", "segments", "segment_id"),
    ("references", "ref_track_id", "tracks", "track_id"),
    ("track_identities", "identity_id", "identities", "identity_id"),
    ("track_identities", "track_id", "tracks", "track_id"),
    ("identity_registry", "source_id", "inputs", "source_id"),
    ("identity_decisions", "source_id", "inputs", "source_id"),
    ("splits", "source_id", "inputs", "source_id"),
    ("manifest", "sample_id", "segments", "segment_id"),
    ("manifest", "source_id", "inputs", "source_id"),
    ("decisions", "source_id", "inputs", "source_id"),
)


_ACROSS = {"partner_track_id", "session_partner_track_id", "ref_track_id"}
"""Columns that may name what is of another source."""


def _joins(dataset: Dataset) -> Iterator[str]:
    orphans: dict[str, list[str]] = {}
    tables = [t.TABLES[name] for name in dict.fromkeys(n for left, _, right, _ in _JOINS for n in (left, right))]
    with contextlib.closing(dataset.connect(tables=[t.TRACKS])) as everywhere:
        for part in dataset.slices():
            with contextlib.closing(dataset.connect(tables=tables, part=part)) as con:
                for left, a, right, b in _JOINS:
                    said = orphans.setdefault(f"{left}.{a} {{}} has no row in {right}", [])
                    ids = f'SELECT DISTINCT "{a}" AS id FROM "{left}" WHERE "{a}" IS NOT NULL AND "{a}" <> \'\''
                    sql = f'SELECT id FROM ({ids}) WHERE id NOT IN (SELECT "{b}" FROM "{right}") ORDER BY 1'
                    lost = [str(i) for (i,) in con.execute(sql).fetchall()]
                    if lost and a in _ACROSS:
                        sql = f'SELECT "{b}" FROM "{right}" WHERE list_contains(?, "{b}")'
                        there = {i for (i,) in everywhere.execute(sql, [lost]).fetchall()}
                        lost = [i for i in lost if i not in there]
                    said += lost[: 3 - len(said)]
    for text, found in orphans.items():
        for i in found:
            yield text.format(i)
    sql = (
        "SELECT i.identity_id FROM manifest m JOIN identities i USING (identity_id) "
        f"WHERE m.split <> '{WITHHELD}' GROUP BY 1 HAVING count(DISTINCT m.split) > 1 ORDER BY 1"
    )
    for (identity,) in dataset.query(sql).fetchall():
        yield f"identity {identity} is in two splits"


def _forgotten(dataset: Dataset) -> Iterator[str]:
    gone = [str(i) for i in read_forgotten(dataset.store)["source_id"].to_pylist()]
    for name in search(dataset.store, gone).traces if gone else ():
        yield f"{name} holds a trace of a forgotten source; run `lpm forget` on it again"


def _shards(dataset: Dataset, media: bool) -> Iterator[str]:
    store = dataset.store
    with contextlib.closing(dataset.connect(tables=[t.MANIFEST])) as con:
        shards = con.execute("SELECT DISTINCT shard FROM manifest ORDER BY 1").fetchall()
        for (shard,) in shards:
            name = f"shards/{shard}"
            if not store.exists(name):
                yield f"{name} is gone; run `lpm pack`"
                continue
            whole = store.size(name)
            sql = "SELECT sample_id, split, members FROM manifest WHERE shard = ? ORDER BY sample_id"
            for row in con.sql(sql, params=[shard]).to_arrow_table().to_pylist():
                yield from _sample(dataset, name, whole, row, media)


def _sample(dataset: Dataset, shard: str, whole: int, row: dict[str, object], media: bool) -> Iterator[str]:
    store, key = dataset.store, str(row["sample_id"])
    members: dict[str, bytes] = {}
    for m in row["members"]:  # type: ignore[attr-defined]
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
    if sample.sample_id != key or sample.split != row["split"]:
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
