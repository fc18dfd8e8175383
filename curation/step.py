"""One step: one stage on one item, with gating, skipping, quarantine and an atomic commit.

This is the only place where stages run and results become official; both engines call it. A worker holds one
`Stepper`, which keeps its stages' models warm.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.commits import Commit, commit_file, fingerprint, read_commit, write_commit
from curation.decide import Verdicts, alive, evaluate, unit_tables
from curation.fetch import MediaCache
from curation.inputs import UNIT_IDS, StoreInputs
from curation.stage import Outputs, Stage, WorkItem, error_of
from curation.store import Store, StoreError, table_file
from curation.workflow import Pipeline, ResolvedStage
from schemas import tables as t
from schemas.policy import Policy, UnitKind
from schemas.table import Table
from schemas.time import windows

Status = Literal["ran", "skipped", "gated", "blocked", "error"]


class StageSetupError(RuntimeError):
    """A stage cannot work at all on this machine (missing weight or dependency): ends the run, not the item."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What happened in one step: status, cost in seconds, and how many seconds of media it was about."""

    stage: str
    source_id: str
    window: int | None
    status: Status
    wall_s: float
    cpu_s: float
    media_s: float
    message: str = ""


class Stepper:
    """Runs steps against one store; models are loaded at most once."""

    def __init__(self, store: Store, pipeline: Pipeline, policy: Policy, retry: bool = False) -> None:
        self.store, self.pipeline, self.policy, self.retry = store, pipeline, policy, retry
        self.media = MediaCache()
        self._dry = False
        self._memo: dict[Any, Any] | None = None
        self._built: dict[str, Stage] = {}
        self._identities: dict[str, dict[str, str]] = {}

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Read each commit and decide each source once inside the block: for questions, not while work is done."""
        self._memo = {}
        try:
            yield
        finally:
            self._memo = None

    def commit(self, name: str) -> Commit | None:
        """Read a commit by its file name."""
        if self._memo is None:
            return read_commit(self.store, name)
        if name not in self._memo:
            self._memo[name] = read_commit(self.store, name)
        found: Commit | None = self._memo[name]
        return found

    # ------------------------------------------------------------------ models

    def stage(self, resolved: ResolvedStage) -> Stage:
        """Return the stage with its models loaded. Raises StageSetupError when that fails."""
        if resolved.name not in self._built:
            try:
                self._built[resolved.name] = resolved.build()
            except Exception as e:  # whatever stops a model from loading stops the run, with its own words
                raise StageSetupError(f"stage {resolved.name!r} cannot start: {type(e).__name__}: {e}") from e
        return self._built[resolved.name]

    def identity(self, resolved: ResolvedStage) -> dict[str, str]:
        """Return the stage's back-ends and weights' hashes."""
        if resolved.name not in self._identities:
            try:
                self._identities[resolved.name] = resolved.identity()
            except Exception as e:
                raise StageSetupError(f"stage {resolved.name!r} cannot start: {type(e).__name__}: {e}") from e
        return self._identities[resolved.name]

    def close(self) -> None:
        """Release the models of stages that know how to."""
        for stage in self._built.values():
            close = getattr(stage, "close", None)
            if close is not None:
                close()
        self._built.clear()

    # ------------------------------------------------------------------ windows and gates

    def source_windows(self, source_id: str) -> int:
        """Return how many scan windows a probed source has; 0 when it is not probed."""
        return len(self.window_items(source_id))

    def window_items(self, source_id: str) -> list[WorkItem]:
        """Return the window items of a probed source; none when it is not probed."""
        if self._memo is not None:
            key = ("windows", source_id)
            if key not in self._memo:
                self._memo[key] = self._windows(source_id)
            found: list[WorkItem] = self._memo[key]
            return found
        return self._windows(source_id)

    def _windows(self, source_id: str) -> list[WorkItem]:
        try:
            rows = self.store.read_table(table_file(t.SOURCES, source_id), t.SOURCES, ["duration_s"]).to_pylist()
        except FileNotFoundError:
            return []
        spans = windows(rows[0]["duration_s"], self.pipeline.workflow.window_s)
        return [WorkItem(source_id, w, i, len(spans)) for i, w in enumerate(spans)]

    def verdicts(self, source_id: str, down_to: UnitKind = "segments") -> Verdicts:
        """Decide one source from what is measured of it so far."""
        if self._memo is not None:
            key = ("verdicts", source_id)
            if key not in self._memo:
                self._memo[key] = self._verdicts(source_id, "segments")
            found: Verdicts = self._memo[key]
            return found
        return self._verdicts(source_id, down_to)

    def _verdicts(self, source_id: str, down_to: UnitKind) -> Verdicts:
        tables: dict[str, pa.Table] = {}
        for table in unit_tables():
            if table is t.SESSION_PAIRS:
                continue  # found across sources, after all stages of each: it decides in the ledger, never on the way
            name = table_file(t.INPUTS) if table.name == "rights" else table_file(table, source_id)
            try:
                if table.name == "rights":
                    rows = self.store.read_table(name, t.INPUTS).filter(pc.field("source_id") == source_id)
                    tables["rights"] = rows.select(list(table.column_names)).slice(0, 1)
                else:
                    rows = self.store.read_table(name, table)
                    if set(table.column_names) <= set(rows.column_names):
                        tables[table.name] = rows  # else an older version's table: its stage is going to run again
            except FileNotFoundError:
                continue
        return evaluate(self.policy, tables, down_to)

    def source_commits(self, source_id: str, before: str | None = None) -> Iterator[Commit]:
        """Yield a source's commits in the order of stages, up to the stage named `before`."""
        n_windows = self.source_windows(source_id)
        for s in self.pipeline.stages:
            if s.name == before or s.cls.unit == "dataset":
                return
            windowed = s.cls.unit == "window"
            for w in range(n_windows) if windowed else [0]:
                item = WorkItem(source_id, window_index=w)
                commit = self.commit(commit_file(s.name, item, windowed))
                if commit is not None:
                    yield commit

    def blocked(self, resolved: ResolvedStage, source_id: str) -> bool:
        """Say whether an earlier stage put this source into quarantine."""
        return any(c.status == "error" for c in self.source_commits(source_id, before=resolved.name))

    # ------------------------------------------------------------------ the step

    def step(self, resolved: ResolvedStage, item: WorkItem, path: str) -> StepResult:
        """Run one source- or window-stage on one item unless its commit says that nothing changed."""
        wall, cpu = time.perf_counter(), time.process_time()
        status, message = self._step(resolved, item, path)
        window = item.window_index if resolved.cls.unit == "window" else None
        media_s = self._media_s(item) if status == "ran" else 0.0
        return StepResult(
            resolved.name,
            item.source_id,
            window,
            status,
            time.perf_counter() - wall,
            time.process_time() - cpu,
            media_s,
            message,
        )

    def has_work(self, resolved: ResolvedStage, item: WorkItem) -> bool:
        """Say whether `step` would run the stage, without loading a model or touching media."""
        self._dry = True
        try:
            return self._step(resolved, item, "")[0] == "ran"
        finally:
            self._dry = False

    def _media_s(self, item: WorkItem) -> float:
        try:
            rows = self.store.read_table(table_file(t.SOURCES, item.source_id), t.SOURCES, ["duration_s"]).to_pylist()
        except FileNotFoundError:
            return 0.0
        whole = float(rows[0]["duration_s"])
        return whole if item.window is None else min(whole, item.window.end_s) - item.window.start_s

    def _step(self, resolved: ResolvedStage, item: WorkItem, path: str) -> tuple[Status, str]:
        cls = resolved.cls
        windowed = cls.unit == "window"
        if self.blocked(resolved, item.source_id):
            return "blocked", ""
        item = replace(item, n_windows=max(item.n_windows, self.source_windows(item.source_id), 1))
        keep: dict[str, frozenset[str]] = {}
        if cls.gate is not None:
            units = alive(self.verdicts(item.source_id, cls.gate), cls.gate)
            if not units:
                return "gated", ""
            if cls.gate_mode != "any":
                item = replace(item, units=units)
                keep[UNIT_IDS[cls.gate]] = frozenset(units)
        name = commit_file(resolved.name, item, windowed)
        commit = self.commit(name)
        if commit is not None and self.retry and commit.errors:
            commit = None
        if cls.gate_mode == "each":
            return self._each(resolved, item, path, name, commit, keep)
        key = self._fingerprint(resolved, item, {})
        if commit is not None and commit.fingerprint == key and self.intact(commit):
            return "skipped", ""
        if self._dry:
            return "ran", ""
        return self._run_whole(resolved, item, path, name, key, keep)

    def intact(self, commit: Commit) -> bool:
        """Say whether every file of a commit is still there."""
        names = [*(entry["file"] for entry in commit.tables.values()), *commit.files]
        return all(self.store.exists(name) for name in names)

    def _run_whole(
        self,
        resolved: ResolvedStage,
        item: WorkItem,
        path: str,
        name: str,
        key: str,
        keep: Mapping[str, frozenset[str]],
    ) -> tuple[Status, str]:
        commit = Commit(resolved.name, item.source_id, key)
        windowed = resolved.cls.unit == "window"
        if windowed:
            commit.window = item.window_index
        commit.units = dict.fromkeys(item.units, "")
        try:
            outputs = self._call(resolved, item, path, keep, commit.files)
        except _FATAL:
            raise
        except Exception as e:  # the quarantine: recorded, reported, and its neighbours go on
            commit.status, commit.errors = "error", [error_of(item.source_id, e)]
            for table in resolved.cls.writes:
                self.store.delete(table_file(table, item.source_id, item.window_index if windowed else None))
            write_commit(self.store, name, commit)
            return "error", f"{commit.errors[0].error}: {commit.errors[0].message}"
        commit.errors = outputs.errors
        self._write(resolved, item, outputs, commit)
        write_commit(self.store, name, commit)
        return "ran", ""

    def _each(
        self,
        resolved: ResolvedStage,
        item: WorkItem,
        path: str,
        name: str,
        commit: Commit | None,
        keep: dict[str, frozenset[str]],
    ) -> tuple[Status, str]:
        cls = resolved.cls
        assert cls.gate is not None
        column = UNIT_IDS[cls.gate]
        base = self._fingerprint(resolved, item, {}, exclude=cls.gate)
        digests = self._unit_digests(cls.gate, item.source_id)
        keys = {u: fingerprint(base=base, unit=digests[u]) for u in digests}
        old = {} if commit is None else {u: k for u, k in commit.units.items() if keys.get(u) == k}
        if commit is not None and not self.intact(commit):
            old = {}
        todo = tuple(u for u in item.units if u not in old)
        if not todo and commit is not None and commit.units == old:
            return "skipped", ""
        if self._dry:
            return "ran", ""
        keep[column] = frozenset(todo)
        saved: dict[str, str] = {}
        try:
            outputs = self._call(resolved, replace(item, units=todo), path, keep, saved) if todo else Outputs()
        except _FATAL:
            raise
        except Exception as e:  # a failure outside any single unit puts all that were due into quarantine
            outputs = Outputs(errors=[replace(error_of(u, e)) for u in todo])
        new = Commit(resolved.name, item.source_id, base)
        new.units = {**old, **{u: keys[u] for u in todo}}
        before = [] if commit is None else commit.errors
        new.errors = sorted([e for e in before if e.unit_id in old] + outputs.errors, key=lambda e: e.unit_id)
        new.files = {} if commit is None else {f: h for f, h in commit.files.items() if _owner(f) in old}
        new.files |= saved
        for table in cls.writes:
            merged = outputs.tables.get(table, table.empty())
            if old:
                rows = self.store.read_table(table_file(table, item.source_id), table)
                rows = rows.filter(pc.is_in(rows[column], pa.array(sorted(old), pa.string())))
                merged = table.validated(pa.concat_tables([rows, merged]))
            outputs.tables[table] = merged
        self._write(resolved, item, outputs, new)
        write_commit(self.store, name, new)
        for stale in sorted(set() if commit is None else commit.files.keys() - new.files.keys()):
            self.store.delete(stale)
        failed = [e for e in outputs.errors if e.unit_id in todo]
        if failed:
            return "error", f"{len(failed)} of {len(todo)} units: {failed[0].error}: {failed[0].message}"
        return "ran", ""

    def _call(
        self,
        resolved: ResolvedStage,
        item: WorkItem,
        path: str,
        keep: Mapping[str, frozenset[str]],
        saved: dict[str, str],
    ) -> Outputs:
        stage = self.stage(resolved)
        inputs = StoreInputs(self.store, item, lambda: self.media.local(path, item.source_id), keep=keep)
        outputs = stage.run(item, inputs)
        saved |= inputs.saved
        strangers = [table.name for table in outputs.tables if table not in resolved.cls.writes]
        if strangers:
            raise StageSetupError(f"stage {resolved.name!r} returned tables it does not declare: {strangers}")
        return outputs

    def _write(self, resolved: ResolvedStage, item: WorkItem, outputs: Outputs, commit: Commit) -> None:
        window = item.window_index if resolved.cls.unit == "window" else None
        for table in resolved.cls.writes:
            rows = outputs.tables.get(table, table.empty())
            file = table_file(table, item.source_id, window)
            digest = self.store.write_table(file, table, rows)
            commit.tables[table.name] = {"file": file, "sha256": digest, "rows": rows.num_rows}

    # ------------------------------------------------------------------ fingerprints

    def _fingerprint(
        self, resolved: ResolvedStage, item: WorkItem, extra: Mapping[str, str], exclude: str | None = None
    ) -> str:
        cls = resolved.cls
        upstream = {
            table.name: self.content(table, item)
            for table in cls.reads
            if table.name != exclude and table is not t.INPUTS
        }
        window = None if item.window is None else (item.window.start_s, item.window.end_s, item.n_windows)
        return fingerprint(
            source=item.source_id,
            stage=cls.name,
            version=cls.version,
            settings=resolved.settings.model_dump(mode="json"),
            identity=self.identity(resolved),
            window=window if cls.unit == "window" else None,
            units=item.units if cls.gate_mode == "set" else None,
            upstream=upstream,
            **extra,
        )

    def content(self, table: Table, item: WorkItem) -> list[str]:
        """Return the content hashes of a table's committed files for one source, in order of windows."""
        writer = self.pipeline.writer(table)
        if writer is None:
            if table not in t.GIVEN:
                return []
            try:  # people write it: its own bytes are its identity
                return [self.store.sha256(table_file(table, item.source_id))]
            except FileNotFoundError:
                return []
        windowed = writer.cls.unit == "window"
        out = []
        for w in range(item.n_windows) if windowed else [0]:
            name = commit_file(writer.name, WorkItem(item.source_id, window_index=w), windowed)
            commit = self.commit(name)
            out.append("" if commit is None else commit.tables.get(table.name, {}).get("sha256", commit.status))
        return out

    def _unit_digests(self, gate: str, source_id: str) -> dict[str, str]:
        table = t.TABLES[gate]
        rows = self.store.read_table(table_file(table, source_id), table).to_pylist()
        return {str(r[UNIT_IDS[gate]]): fingerprint(row=r) for r in rows}

    # ------------------------------------------------------------------ housekeeping

    def prune_windows(self, source_id: str) -> None:
        """Delete window files beyond the source's present windows (the window length was changed)."""
        n = self.source_windows(source_id)
        for s in self.pipeline.windowed:
            prefix = f"commits/{s.name}/bucket={source_id[:2]}"
            for name in list(self.store.names(prefix)):
                base = Path(name).name
                if base.startswith(f"{source_id}.w") and int(base.split(".w")[1].split(".")[0]) >= n:
                    window = int(base.split(".w")[1].split(".")[0])
                    self.store.delete(name)
                    for table in s.cls.writes:
                        self.store.delete(table_file(table, source_id, window))


_FATAL = (StoreError, StageSetupError, ImportError, MemoryError, KeyboardInterrupt)


def _owner(file: str) -> str:
    """Return the unit a binary file belongs to: files are named after their unit."""
    return Path(file).name.split(".")[0]
