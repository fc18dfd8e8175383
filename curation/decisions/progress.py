"""How far the sources of a dataset have come, for the ledger: what each stage has measured, and what is in quarantine.

Which stages have measured a unit follows from the commits, and whether a commit is of what is there now from hashes
that no policy changes. So both are kept a bucket at a time, under `progress/`, and found out again only where something
in one of the bucket's directories was written, removed or renamed since, or a commit was edited where it lies: a
million segments are decided, and a million sources found to be finished, without reading their commits, and without
importing a stage as long as no stage can have changed. Where something was, a source that had been measured to its end
is known to be so still while its commits are the same bytes, the files that they name are there and its units the same:
gathering tables, or a neighbour's change, has no stage asked again. `progress/` may be deleted at any time. Stores that
are not local keep none.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, TypedDict

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.decisions.ledger import Work
from curation.engine.program import stamp
from curation.engine.source_state import SourceState
from curation.engine.step import Stepper
from curation.engine.workflow import Pipeline, ResolvedStage
from curation.stage import WorkItem
from curation.storage import digests
from curation.storage.commits import commit_file, fingerprint
from curation.storage.compacted import FOLDER
from curation.storage.store import Store, parquet_bytes
from schemas.tables.output import ErrorRow

_FOLDER_NAME = "progress"
_INDEX = f"{_FOLDER_NAME}/index.json"
_SETTLE_NS = 20_000_000
"""File systems tell times of writing by ticks of a few milliseconds: what is newer may be followed by another."""

_UNITS: list[pa.Field[Any]] = [pa.field("unit_id", pa.string()), pa.field("mask", pa.uint64())]
_SOURCES: list[pa.Field[Any]] = [
    pa.field("source_id", pa.string()), pa.field("done", pa.uint64()), pa.field("settled", pa.bool_()),
]  # fmt: skip
_KEPT = pa.schema([*_UNITS, *_SOURCES, pa.field("content", pa.string())])
"""A row of a source, which has no unit, and after it those of its units, which have no source; see `_content`."""
_EXACT = pa.schema([pa.field("source_id", pa.string()), pa.field("missing", pa.string())])
_PIPELINE = b"pipeline"
"""Metadata of a file: the key of the workflow under which it was found out."""


def _source_work(pipeline: Pipeline) -> list[Work]:
    """Return the stages of sources and windows in order, as the ledger asks about them."""
    out = []
    for bit, s in enumerate((*pipeline.before, *pipeline.windowed, *pipeline.after)):
        covers = s in pipeline.after and s.cls.gate is not None and s.cls.gate_mode != "once"
        out.append(Work(s.name, bit, s.cls.gate, s.cls.gate_mode, covers))
    return out


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of some sources: rows of `cover`, of `state`, and of ERRORS."""

    cover: pa.Table
    state: pa.Table
    exact: pa.Table
    errors: list[ErrorRow]

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the relations that `ledger.judge` takes."""
        con.register("cover", self.cover)
        con.register("state", self.state)
        con.register("exact", self.exact)


def _joined(parts: Sequence[Progress]) -> Progress:
    """Return what is known of the sources of several buckets."""
    return Progress(
        pa.concat_tables([pa.schema(_UNITS).empty_table(), *(p.cover for p in parts)]),
        pa.concat_tables([pa.schema(_SOURCES).empty_table(), *(p.state for p in parts)]),
        pa.concat_tables([_EXACT.empty_table(), *(p.exact for p in parts)]),
        [row for p in parts for row in p.errors],
    )


class ProgressReader:
    """Reads how far sources have come, slice by slice; `close` keeps what was found out."""

    def __init__(self, store: Store, program: str | None, stepper: Callable[[], Stepper]) -> None:
        """Begin. `stepper` is called only where `program` (see `program.stamp`) is not the one that is kept."""
        self._store, self._program, self._make = store, program, stepper
        index = store.read_json(_INDEX) if store.local else None
        if index and program is not None and index.get("program") == program:
            self._key, self.work = index["pipeline"], [Work(**w) for w in index["work"]]
        else:
            self._key, self.work = _pipeline_key(stepper()), _source_work(stepper().pipeline)
        self._index: dict[str, str] = index["buckets"] if index and index["pipeline"] == self._key else {}
        self._root = str(store.local_path("")) if store.local else ""
        self._folders = ["clips", *store.directories("commits"), *store.directories("tables")] if self._root else []
        self._new: dict[str, str] = {}
        self._changed = index is None or index.get("program") != program

    @property
    def known(self) -> bool:
        """Something is kept that was found out under this workflow, with stages and models like these."""
        return bool(self._index)

    @classmethod
    def of(cls, stepper: Stepper) -> ProgressReader:
        """Begin with a stepper that is there."""
        pipeline = stepper.pipeline
        return cls(stepper.store, stamp(pipeline.workflow, pipeline.code), lambda: stepper)

    def read(self, source_ids: Iterable[str]) -> Progress:
        """Return what is known of some sources."""
        buckets = itertools.groupby(sorted(source_ids), lambda i: i[:2])
        return _joined([self._read(bucket, list(ids)) for bucket, ids in buckets])

    def _read(self, bucket: str, ids: list[str]) -> Progress:
        kept = self._bucket(bucket, ids)
        cover = kept.filter(pc.is_valid(kept["unit_id"])).select([f.name for f in _UNITS])
        state = kept.filter(pc.is_valid(kept["source_id"])).select([f.name for f in _SOURCES])
        open_ = sorted(set(ids) - set(_strings(state.filter(state["settled"])["source_id"])))
        errors: list[ErrorRow] = []
        stages: list[str | None] = []
        if open_:
            with self._make().store.recalling(listing=True):
                errors = [row for s in open_ for row in _errors(self._make(), s)]
                stages = [stage for _, stage in next_stages(self._make(), open_)]
        return Progress(cover, state, pa.table([pa.array(open_), pa.array(stages)], schema=_EXACT), errors)

    def _bucket(self, bucket: str, ids: list[str]) -> pa.Table:
        name = f"{_FOLDER_NAME}/bucket={bucket}.parquet"
        stamp = _stamp(self._root, self._folders, bucket) if self._root else ""
        former = self._former(name) if stamp and bucket in self._index else None
        if former is not None and self._index[bucket] == stamp:
            return former
        with self._make().store.recalling(listing=True):
            table = _examined(self._make(), ids, former)
        if stamp:
            self._store.write(name, parquet_bytes(table.replace_schema_metadata({_PIPELINE: self._key})))
            self._new[bucket] = stamp
        return table

    def _former(self, name: str) -> pa.Table | None:
        """Return what was kept of a bucket under this workflow."""
        try:
            with self._store.filesystem().open_input_file(self._store.path(name)) as f:
                rows = pq.ParquetFile(f).read()
        except FileNotFoundError:
            return None
        mine = (rows.schema.metadata or {}).get(_PIPELINE) == self._key.encode()
        return rows.replace_schema_metadata(None) if mine else None

    def close(self) -> None:
        """Write down which buckets are known."""
        if self._root and (self._new or self._changed):
            buckets = {**self._index, **self._new}
            work = [asdict(w) for w in self.work]
            facts = {"pipeline": self._key, "program": self._program, "work": work, "buckets": buckets}
            self._store.write_json(_INDEX, facts)


def forget(store: Store) -> None:
    """Delete all that is kept."""
    for name in list(store.names(_FOLDER_NAME)):
        store.delete_file(name)


def _strings(column: Any) -> Iterator[str]:
    for chunk in column.chunks:
        yield from chunk.to_numpy(zero_copy_only=False)


def run_key(stepper: Stepper, inputs: pa.Table, *, packs: bool) -> str:
    """Return what changes whenever a run over registered inputs might come to something else."""
    pipeline = stepper.pipeline
    return fingerprint(
        pipeline=_pipeline_key(stepper), dataset=[_of(stepper, s) for s in pipeline.dataset],
        pack=pipeline.workflow.pack if packs else None, policy=stepper.policy.policy_id,
        inputs=fingerprint(rows=inputs.to_pydict()),
        openlpm=metadata.version("openlpm"),
    )  # fmt: skip


def _pipeline_key(stepper: Stepper) -> str:
    stages = [_of(stepper, s) for s in stepper.pipeline.stages if s.cls.grain != "dataset"]
    return fingerprint(stages=stages, window_s=stepper.pipeline.workflow.window_s)


def _of(stepper: Stepper, s: ResolvedStage) -> tuple[Any, ...]:
    """Return all that determines what a stage makes of what it reads."""
    return (
        s.name, s.cls.version, s.cls.grain, s.cls.gate, s.cls.gate_mode, s.settings.model_dump(mode="json"),
        stepper.provenance(s), [x.name for x in s.cls.reads], [x.name for x in s.cls.writes],
    )  # fmt: skip


def _stamp(root: str, folders: list[str], bucket: str) -> str:
    """Return what changes when a file in a bucket's directories is written, removed or renamed, or a commit edited."""
    digest = hashlib.sha256()
    newest = 0
    for folder in folders:
        inside = ("", f"/{FOLDER}") if folder.startswith("tables/") else ("",)
        for path in (f"{folder}/bucket={bucket}{below}" for below in inside):
            try:
                at = os.stat(f"{root}/{path}").st_mtime_ns  # noqa: PTH116 - tens of thousands of them
                if folder.startswith("commits/"):
                    with os.scandir(f"{root}/{path}") as files:
                        at = max(at, max((f.stat().st_mtime_ns for f in files), default=0))
            except FileNotFoundError:
                continue
            newest = max(newest, at)
            digest.update(f"{path} {at}\n".encode())
    young = _SETTLE_NS - (time.time_ns() - newest)
    if young > 0:
        time.sleep(min(young, _SETTLE_NS) / 1e9)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------ one source


_TOGETHER = 64
"""Sources that are decided at once: the query then takes less than the rest, and memory that of some thousand units."""


def next_stages(stepper: Stepper, source_ids: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield sources with what `next_stage` says of each, while nothing is written."""
    for start in range(0, len(source_ids), _TOGETHER):
        mine = source_ids[start : start + _TOGETHER]
        with stepper.together(mine):
            for source_id in mine:
                yield source_id, next_stage(stepper, source_id)


def next_stage(stepper: Stepper, source_id: str) -> str | None:
    """Return the first stage that has something to do for a source, or None; loads no model, touches no media."""
    pipeline = stepper.pipeline
    with stepper.remembering():
        for resolved in (*pipeline.before, *pipeline.windowed, *pipeline.after):
            items = [WorkItem(source_id)] if resolved.cls.grain == "source" else stepper.window_items(source_id)
            if any(stepper.has_work(resolved, item) for item in items):
                return resolved.name
        return None


def _errors(stepper: SourceState, source_id: str) -> list[ErrorRow]:
    """Return the rows of ERRORS of a source, from its commits."""
    rows: dict[tuple[str, str], ErrorRow] = {}
    for commit in stepper.source_commits(source_id):
        for e in commit.errors:
            row = ErrorRow(
                source_id=source_id, stage=commit.stage, unit_id=e.unit_id, error=e.error, message=e.message,
                traceback=e.traceback,
            )  # fmt: skip
            rows.setdefault((commit.stage, e.unit_id), row)
    return list(rows.values())


class _Kept(TypedDict, total=False):
    """A row of what is kept: of a source, or of a unit."""

    unit_id: str
    mask: int
    source_id: str
    done: int
    settled: bool
    content: str


def _examined(stepper: Stepper, source_ids: Iterable[str], former: pa.Table | None) -> pa.Table:
    """Return what is kept of some sources; where nothing of one has changed, the rows that were kept of it before."""
    former = _KEPT.empty_table() if former is None else former
    starts = np.flatnonzero(former["source_id"].is_valid().to_numpy())
    ends = [*starts.tolist(), former.num_rows][1:]
    before = {
        row["source_id"]: (row["content"], start, end)
        for row, start, end in zip(former.take(starts).to_pylist(), starts.tolist(), ends, strict=True)
        if row["settled"]
    }
    same = np.zeros(former.num_rows, bool)
    rows: list[_Kept] = []
    for source_id in source_ids:
        content, start, end = before.get(source_id, ("", 0, 0))
        if content and _unchanged(stepper, source_id, content):
            same[start:end] = True
        else:
            rows += _examine(stepper, source_id)
    return pa.concat_tables([former.filter(pa.array(same)), pa.Table.from_pylist(rows, schema=_KEPT)])


def _unchanged(stepper: Stepper, source_id: str, content: str) -> bool:
    with stepper.remembering():
        if _content(stepper, source_id) != content:
            return False
        commits = list(stepper.source_commits(source_id))
        rows = {s.cls.gate for s in stepper.pipeline.stages if s.cls.gate_mode == "each"}  # of these, rows count
        wrote = [entry for c in commits for name, entry in c.tables.items() if name in rows]
        return all(map(stepper.intact, commits)) and all(
            digests.recorded(stepper.store, e["file"]) == e["sha256"] for e in wrote
        )


def _content(stepper: Stepper, source_id: str) -> str:
    """Return what changes with the bytes of a source's commits, which name what stages wrote, and what people said."""
    digest = hashlib.sha256()
    for s in stepper.pipeline.stages:
        if s.cls.grain == "dataset":
            continue
        windowed = s.cls.grain == "window"
        for item in stepper.window_items(source_id) if windowed else [WorkItem(source_id)]:
            name = commit_file(s.name, item, windowed)
            with contextlib.suppress(FileNotFoundError):
                digest.update(f"{name}\n".encode() + stepper.store.read(name))
    digest.update(fingerprint(said=stepper.all_said(source_id)).encode())
    return digest.hexdigest()


def _examine(stepper: Stepper, source_id: str) -> Iterator[_Kept]:
    """Yield what is kept of a source: a row for itself and one for every unit that a stage has measured."""
    masks: dict[str, int] = {}
    done, settled = 0, True
    with stepper.remembering():
        content = _content(stepper, source_id)
        n_windows = stepper.source_windows(source_id)
        pipeline = stepper.pipeline
        for bit, s in enumerate((*pipeline.before, *pipeline.windowed, *pipeline.after)):
            windowed = s.cls.grain == "window"
            items = stepper.window_items(source_id) if windowed else [WorkItem(source_id, n_windows=max(n_windows, 1))]
            commits = [stepper.commit(commit_file(s.name, item, windowed)) for item in items]
            found = [c for c in commits if c is not None]
            if not found:
                settled = settled and s.cls.gate is not None and n_windows > 0
                continue
            settled = (
                settled
                and len(found) == len(commits)
                and all(
                    c.status == "ok" and not c.errors and stepper.intact(c) and stepper.fresh(s, item, c)
                    for item, c in zip(items, found, strict=True)
                )
            )
            done |= 1 << bit
            for commit in found:
                for unit in commit.units:
                    masks[unit] = masks.get(unit, 0) | 1 << bit
    yield {"source_id": source_id, "done": done, "settled": settled, "content": content}
    for unit, mask in masks.items():
        yield {"unit_id": unit, "mask": mask}
