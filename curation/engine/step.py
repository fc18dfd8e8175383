"""One step: one stage on one item, with gating, skipping, quarantine and an atomic commit.

This is the only place where stages run and results become official; both engines call it. A worker holds one
`Stepper`, which keeps its stages' models warm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions.decide import alive
from curation.engine.fetch import MediaCache
from curation.engine.heap import release
from curation.engine.inputs import UNIT_IDS, StoreInputs
from curation.engine.source_state import SourceState
from curation.engine.workflow import Pipeline, ResolvedStage
from curation.stage import Outputs, Stage, WorkItem, error_of
from curation.storage.commits import Commit, commit_file, fingerprint, write_commit
from curation.storage.store import Store, StoreError, table_file
from schemas import tables as t
from schemas.policy import Policy

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


class Stepper(SourceState):
    """Runs steps against one store; models are loaded at most once."""

    def __init__(self, store: Store, pipeline: Pipeline, policy: Policy, retry: bool = False) -> None:
        super().__init__(store, pipeline, policy)
        self.retry = retry
        self.media = MediaCache()
        self._dry = False
        self._built: dict[str, Stage] = {}
        self._identities: dict[str, dict[str, str]] = {}

    # ------------------------------------------------------------------ models

    def stage(self, resolved: ResolvedStage) -> Stage:
        """Return the stage with its models loaded. Raises StageSetupError when that fails."""
        if resolved.name not in self._built:
            try:
                self._built[resolved.name] = resolved.build()
            except Exception as e:  # whatever stops a model from loading stops the run, with its own words
                raise StageSetupError(f"stage {resolved.name!r} cannot start: {type(e).__name__}: {e}") from e
        return self._built[resolved.name]

    def provenance(self, resolved: ResolvedStage) -> dict[str, str]:
        """Return the stage's back-ends and weights' hashes."""
        if resolved.name not in self._identities:
            try:
                self._identities[resolved.name] = resolved.provenance()
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

    # ------------------------------------------------------------------ the step

    def step(self, resolved: ResolvedStage, item: WorkItem, path: str) -> StepResult:
        """Run one source- or window-stage on one item unless its commit says that nothing changed."""
        wall, cpu = time.perf_counter(), time.process_time()
        status, message = self._step(resolved, item, path)
        if status in ("ran", "error"):
            release()
        window = item.window_index if resolved.cls.grain == "window" else None
        media_s = self.media_s(item) if status == "ran" else 0.0
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

    def _step(self, resolved: ResolvedStage, item: WorkItem, path: str) -> tuple[Status, str]:
        cls = resolved.cls
        windowed = cls.grain == "window"
        if self.blocked(resolved, item.source_id):
            return "blocked", ""
        item = replace(item, n_windows=max(item.n_windows, self.source_windows(item.source_id), 1))
        keep: dict[str, frozenset[str]] = {}
        if cls.gate is not None:
            units = alive(self.decisions(item.source_id, cls.gate), cls.gate)
            if not units:
                return self._gated(resolved, item, path)
            if cls.gate_mode != "once":
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

    def _gated(self, resolved: ResolvedStage, item: WorkItem, path: str) -> tuple[Status, str]:
        """Leave a stage out whose units the policy all stops; what it wrote of units that are no more goes."""
        cls = resolved.cls
        name = commit_file(resolved.name, item, cls.grain == "window")
        commit = self.commit(name)
        if cls.gate is None or commit is None or not commit.units:
            return "gated", ""
        if commit.units.keys() <= self.decisions(item.source_id, cls.gate)[cls.gate].keys():
            return "gated", ""
        if cls.gate_mode == "each":
            return self._each(resolved, item, path, name, commit, {})
        if not self._dry:
            empty = Commit(resolved.name, item.source_id, self._fingerprint(resolved, item, {}))
            self._write(resolved, item, Outputs(), empty)
            write_commit(self.store, name, empty)
        return "ran", ""

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
        windowed = resolved.cls.grain == "window"
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
        window = item.window_index if resolved.cls.grain == "window" else None
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
            settings=resolved.settings.measured(),
            identity=self.provenance(resolved),
            window=window if cls.grain == "window" else None,
            units=item.units if cls.gate_mode == "together" else None,
            upstream=upstream,
            **extra,
        )

    def fresh(self, resolved: ResolvedStage, item: WorkItem, commit: Commit) -> bool:
        """Say whether all that a commit holds was made from what is there now; the policy has no part in it."""
        cls = resolved.cls
        if cls.gate is None or cls.gate_mode == "once":
            return commit.fingerprint == self._fingerprint(resolved, item, {})
        try:
            digests = self._unit_digests(cls.gate, item.source_id)
        except FileNotFoundError:
            return False
        if cls.gate_mode == "together":
            item = replace(item, units=tuple(sorted(commit.units)))
            same = commit.fingerprint == self._fingerprint(resolved, item, {})
            return same and commit.units.keys() <= digests.keys()
        base = self._fingerprint(resolved, item, {}, exclude=cls.gate)
        return all(u in digests and k == fingerprint(base=base, unit=digests[u]) for u, k in commit.units.items())

    def _unit_digests(self, gate: str, source_id: str) -> dict[str, str]:
        """Hash every row of a table of units, by id; once while `remembering`."""
        memo = {} if self._memo is None else self._memo
        key = ("digests", gate, source_id)
        if key not in memo:
            table = t.TABLES[gate]
            rows = self.store.read_table(table_file(table, source_id), table).to_pylist()
            memo[key] = {str(r[UNIT_IDS[gate]]): fingerprint(row=r) for r in rows}
        found: dict[str, str] = memo[key]
        return found


_FATAL = (StoreError, StageSetupError, ImportError, MemoryError, KeyboardInterrupt)


def _owner(file: str) -> str:
    """Return the unit a binary file belongs to: files are named after their unit."""
    return Path(file).name.split(".")[0]
