"""Write the conversations of a dataset as a packed dataset of its own: shards without pictures, and their manifest.

A shard holds the recordings of about two hours; each is written by itself, and its rows beside it last of all, so that
an export that was interrupted goes on where it stopped, and several processes share the work. Equal datasets and
settings give equal bytes. Costs decoding the sound and encoding it twice a person; memory is that of a piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context

import duckdb

from curation.dataset import Dataset
from curation.engine.fetch import MediaCache, SourceChangedError
from curation.export.samples import ExportError, selected
from curation.media.audio import AudioReader
from curation.media.errors import MediaError
from curation.pack.shards import ShardIndex, end_of_archive, stored_size, write_members
from curation.storage.batches import batches
from curation.storage.store import Store, parquet_bytes, table_file
from curation.storage.table_writer import writing
from schemas import tables as t
from schemas.samples import sample as s
from schemas.samples.manifest import manifest_row
from schemas.tables.output import ManifestRow
from schemas.time import PACKED_AUDIO_HZ
from workflows.conversations.samples import Recording, Rules, samples

ABOUT = "conversations.json"
"""What the export was made of, and what was left out."""

FORMAT = 1
SHARD_S = 7200.0
"""Seconds of recordings in a shard."""


@dataclass
class Written:
    """What a shard, or all of them, hold, and the recordings that were left out: why, by the source's id."""

    samples: int = 0
    seconds: float = 0.0
    bytes: int = 0
    left: dict[str, str] = field(default_factory=dict)

    def add(self, other: Written) -> None:
        """Take another one in."""
        self.samples, self.seconds = self.samples + other.samples, self.seconds + other.seconds
        self.bytes += other.bytes
        self.left |= other.left


@dataclass(frozen=True)
class Made:
    """What an export was made of: equal ones may go on with each other's work."""

    packing: str
    """hash of what was packed"""
    where: str | None
    rules: Rules
    format: int = FORMAT


@dataclass(frozen=True)
class _Task:
    dataset: str
    out: str
    where: str | None
    rules: Rules
    name: str
    sources: tuple[str, ...]


def export(
    dataset: Dataset, out: str, where: str | None, rules: Rules, workers: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Written:  # fmt: skip
    """Write all conversations in which somebody's clip is kept.

    Args:
        dataset: where the clips were packed; its sources must still lie where they were registered.
        out: an empty folder or s3:// prefix, or one that an equal export began.
        where: SQL condition over the manifest's columns; only people with such clips are written.
        rules: how recordings are cut.
        workers: processes.
        report: is told of shards done, and of all.

    Raises:
        ExportError: there are no such clips, or `out` holds something else.
    """
    index = ShardIndex.read(dataset.store)
    about = Made(index.plan if index else "", where, rules)
    store, tasks = Store(out), []
    for number, group in enumerate(batches(_sources(dataset, where), SHARD_S)):
        tasks.append(_Task(dataset.store.uri, out, where, rules, f"conversations-{number:06d}", tuple(group)))
    _claim(store, about)
    store.remove_temporaries()  # of an export that was killed
    total = Written()
    for done, one in enumerate(_all(tasks, workers), start=1):
        total.add(one)
        report(done, len(tasks))
    with writing(store, table_file(t.MANIFEST), t.MANIFEST) as append:
        for task in tasks:
            append(store.read_table(_rows(task.name), t.MANIFEST))
    store.write_json(ABOUT, asdict(about) | {"left_out": total.left})
    return total


def _sources(dataset: Dataset, where: str | None) -> list[tuple[str, float]]:
    """Return the sources of the clips that are asked for, in order, and how long they are at least."""
    sql = f"SELECT source_id, max(end_s) FROM manifest WHERE ({where or 'true'}) GROUP BY 1 ORDER BY 1"
    try:
        found = dataset.connect(tables=[t.MANIFEST], shut=True).execute(sql).fetchall()
    except (duckdb.Error, AttributeError) as e:
        raise ExportError(f"--where {where!r} is not a condition over the manifest's columns: {e}") from e
    if not found:
        raise ExportError("there is no such packed sample; `lpm pack` packs what is kept")
    return [(str(source), float(end_s)) for source, end_s in found]


def _claim(store: Store, about: Made) -> None:
    """See that a folder is empty, or of an equal export."""
    there = store.read_json(ABOUT)
    if there is None:
        if store.top():
            raise ExportError(f"{store.uri} is not an empty folder; name another")
        store.write_json(ABOUT, asdict(about))
    elif {k: v for k, v in there.items() if k != "left_out"} != asdict(about):
        raise ExportError(
            f"{store.uri} holds conversations of another packing or with other settings; name another folder"
        )


def _all(tasks: Sequence[_Task], workers: int) -> Iterable[Written]:
    if workers == 1 or len(tasks) < 2:
        yield from map(_shard, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn")) as pool:
        begun: list[Future[Written]] = [pool.submit(_shard, task) for task in tasks]
        try:
            for one in as_completed(begun):
                yield one.result()
        except BrokenProcessPool as e:
            raise ExportError(
                "a process that wrote conversations died (its memory, or a decoder that crashed); run the command "
                "again, which goes on from there, with --workers 1 to see which recording it is"
            ) from e
        finally:
            pool.shutdown(cancel_futures=True)


def _rows(name: str) -> str:
    return f"shards/{name}.parquet"


def _shard(task: _Task) -> Written:
    """Write a shard, unless it is there whole."""
    store, done = Store(task.out), f"shards/{task.name}.json"
    there = store.read_json(done)
    if there is not None and not there["left"]:
        return Written(**there)
    dataset, rows, result = Dataset(task.dataset), list[ManifestRow](), Written()
    media, offset = MediaCache(dataset.store), 0
    with store.open_output(f"shards/{task.name}.tar") as out:
        for source_id in task.sources:
            clips = selected(dataset, f"({task.where or 'true'}) AND source_id = '{source_id}'")
            before = result.samples
            try:
                with AudioReader(media.local(clips[0].uri, source_id), PACKED_AUDIO_HZ) as audio:
                    if not audio.has_audio:
                        raise MediaError("no_audio_stream", "it has no sound")
                    recording = Recording.of(dataset, source_id, clips)
                    for record, uri, members in samples(dataset, recording, audio, task.rules):
                        index = write_members(out, members, offset)
                        offset += stored_size(len(data) for _, data in members)
                        digests = [hashlib.sha256(data).hexdigest() for _, data in members]
                        rows.append(manifest_row(record, uri, f"{task.name}.tar", index, digests))
                        result.samples += 1
                        result.seconds += record.video.n_frames / s.FPS
            except (MediaError, FileNotFoundError, SourceChangedError) as e:
                n = result.samples - before
                result.left[source_id] = f"{e}; {n} samples of it were written before" if n else str(e)
        end_of_archive(out)
    result.bytes = offset + 1024
    table = t.MANIFEST.from_rows(row.but(shard_sha256=out.hexdigest()) for row in rows)
    store.write(_rows(task.name), parquet_bytes(table.cast(t.MANIFEST.described)))
    store.write_json(done, asdict(result))
    return result
