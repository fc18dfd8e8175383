"""One step: one stage on one item, with gating, skipping, quarantine and an atomic commit.

This is the only place where results become official; both engines call it. A worker holds one `Stepper`, which keeps
its stages' models warm.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions.decide import alive
from curation.engine.attempts import AttemptLog, given_up, verdict
from curation.engine.fingerprints import Fingerprints
from curation.engine.stage_call import Answer, Call, Stages, StageSetupError
from curation.engine.workflow import Pipeline, ResolvedStage
from curation.pythons.limits import Limits
from curation.runs.cost import Cost, Watch
from curation.runs.heap import release
from curation.runs.steps import Status, StepLog, StepResult
from curation.stage import Outputs, UnitError, WorkItem
from curation.storage.commits import (
    Commit,
    commit_file,
    commit_hash,
    fingerprint,
    official,
    unit_fingerprint,
    write_commit,
)
from curation.storage.store import Store, table_file
from schemas.settings.policy import Policy
from schemas.units import UNITS

__all__ = ["StageSetupError", "StepResult", "Stepper", "after"]

_LEAST_S, _FETCH_S, _PER_MEDIA_S, _PER_SOURCE_S = 600.0, 3600.0, 120.0, 10.0
"""Seconds that an attempt may take: at least; at least where a file has to come first, or all sources are read; for a
second of media; and for a source of the whole dataset."""


End = tuple[Status, str]


@dataclass(frozen=True, slots=True)
class Made:
    """A commit whose tables are written: the step is logged, and then it is made official."""

    name: str
    commit: Commit
    end: End


Step = Generator[Call | Made, Answer | None, End]
Attempt = Generator[Call, Answer, Answer]


def result(
    resolved: ResolvedStage,
    source_id: str,
    window: int | None,
    end: End,
    cost: Cost,
    media_s: float,
    answer: Answer | None,
    units: int = 0,
    commit: Commit | None = None,
) -> StepResult:
    """Return what a step came to, with what the call of its stage told."""
    a, (status, message) = answer or Answer(Outputs()), end
    return StepResult(
        resolved.name, source_id, window, status, cost.wall_s, cost.cpu_s + a.cpu_s, media_s, message, a.said,
        a.printed, units, a.memory_mb, "" if commit is None else commit_hash(commit),
    )  # fmt: skip


def after(before: Answer | None, answer: Answer) -> Answer:
    """Return an answer with what attempts before it told and used."""
    if before is None:
        return answer
    said = (*before.said, f"went on after: {before.lost}", *answer.said)
    memory_mb = max(before.memory_mb, answer.memory_mb)
    return replace(answer, said=said, cpu_s=before.cpu_s + answer.cpu_s, memory_mb=memory_mb)


def _advance(step: Step, answer: Answer | None = None) -> Call | Made | End:
    """Return the call or commit at which a step waits, or how it ended."""
    try:
        return next(step) if answer is None else step.send(answer)
    except StopIteration as e:
        end: End = e.value
        return end


class Stepper(Fingerprints):
    """Runs steps against one store; models are loaded at most once."""

    def __init__(
        self, store: Store, pipeline: Pipeline, policy: Policy, retry: bool = False, *, run_id: str = "",
        apart: bool = True,
    ) -> None:  # fmt: skip
        """Begin. `apart`: stages run in a worker's process."""
        super().__init__(store, pipeline, policy)
        self.retry = retry
        self._dry = False
        self._stages = Stages(store, apart=apart)
        self._attempts = AttemptLog(store, run_id, retry)
        self.log = StepLog(store, run_id)

    # ------------------------------------------------------------------ models

    def ready(self, resolved: ResolvedStage) -> None:
        """Load a stage's models. Raises StageSetupError when that fails."""
        self._stages.ready(resolved)

    def close(self) -> None:
        """Release the models of stages that know how to."""
        self._stages.close()

    # ------------------------------------------------------------------ the step

    def step(self, resolved: ResolvedStage, item: WorkItem, path: str) -> StepResult:
        """Run one source- or window-stage on one item unless its commit says that nothing changed."""
        return self.steps(resolved, [(item, path)])[0]

    def steps(self, resolved: ResolvedStage, work: Sequence[tuple[WorkItem, str]]) -> list[StepResult]:
        """Run one stage on several items and paths, as `step` would; together where the stage can.

        Each is told an equal share of the time, but for what an item takes alone. A step is logged before its commit
        is written, which alone is not in its time.
        """
        watch = Watch()
        running = [self._step(resolved, item, path) for item, path in work]
        at = [_advance(step) for step in running]
        each = resolved.cls.gate_mode == "each"
        units = [len(step.item.units) if each and isinstance(step, Call) else 0 for step in at]
        costs = [watch.lap(len(work))] * len(work)
        answers: dict[int, Answer] = {}
        out: dict[int, StepResult] = {}

        def settle(over: Sequence[int]) -> None:
            for n in over:
                step, item = at[n], work[n][0]
                assert not isinstance(step, Call)
                end, commit = (step.end, step.commit) if isinstance(step, Made) else (step, None)
                window = item.window_index if resolved.cls.grain == "window" else None
                media_s = self.media_s(item) if end[0] == "ran" else 0.0
                out[n] = result(
                    resolved, item.source_id, window, end, costs[n], media_s, answers.get(n), units[n], commit
                )  # fmt: skip
            self.log.put([out[n] for n in over])
            for n in over:
                if isinstance(at[n], Made):
                    _advance(running[n])  # the commit is written

        settle([n for n, step in enumerate(at) if not isinstance(step, Call)])
        while due := {n: step for n, step in enumerate(at) if isinstance(step, Call)}:
            group = [n for n, call in due.items() if not call.alone] or [next(iter(due))]
            watch.lap()
            for n, answer in zip(group, self._stages.run([due[n] for n in group]), strict=True):
                answers[n] = after(answers.get(n), answer)
                at[n] = _advance(running[n], answer)
            release()
            share = watch.lap(len(group))
            for n in group:
                costs[n] += share
            settle([n for n in group if not isinstance(at[n], Call)])
        return [out[n] for n in range(len(work))]

    def call(self, call: Call) -> Answer:
        """Run a stage once, outside of `step`."""
        return self._stages.run([call])[0]

    def has_work(self, resolved: ResolvedStage, item: WorkItem) -> bool:
        """Say whether `step` would run the stage, without loading a model or touching media."""
        self._dry = True
        try:
            end = _advance(self._step(resolved, item, ""))
            return isinstance(end, tuple) and end[0] == "ran"
        finally:
            self._dry = False

    def cut_short(self, resolved: ResolvedStage, source_id: str) -> int:
        """Return how many attempts at a stage on a source, or at most on one of its windows, ended with their run."""
        windowed = resolved.cls.grain == "window"
        items = self.window_items(source_id) if windowed else [WorkItem(source_id)]
        records = (self.record(commit_file(resolved.name, item, windowed)) for item in items)
        return max(map(self._attempts.cut_short, records), default=0)

    def _step(self, resolved: ResolvedStage, item: WorkItem, path: str) -> Step:
        """Decide what there is to do, yield the call of the stage where there is one, and commit its answer."""
        cls = resolved.cls
        windowed = cls.grain == "window"
        if self.blocked(resolved, item.source_id):
            return "blocked", ""
        item = replace(item, n_windows=max(item.n_windows, self.source_windows(item.source_id), 1))
        keep: dict[str, frozenset[str]] = {}
        name = commit_file(resolved.name, item, windowed)
        record = self.record(name)
        if cls.gate is not None:
            units = alive(self.decisions(item.source_id, cls.gate), cls.gate)
            if cls.gate_mode == "each" and (before := official(record)) is not None:
                units = tuple(sorted({*units, *self.stopped_by_old(resolved, item, before, units)}))
            if not units:
                return (yield from self._gated(resolved, item, path))
            if cls.gate_mode != "once":
                item = replace(item, units=units)
                keep[UNITS[cls.gate].id] = frozenset(units)
        if record is not None and self.retry and record.errors:
            record = None
        commit = official(record)
        if cls.gate_mode == "each":
            return (yield from self._each(resolved, item, path, name, record, keep))
        key = self.fingerprint_of(resolved, item)
        if commit is not None and commit.fingerprint == key and self.intact(commit):
            return "skipped", ""
        if self._dry:
            return "ran", ""
        return (yield from self._run_whole(resolved, item, path, name, key, keep, record))

    def _gated(self, resolved: ResolvedStage, item: WorkItem, path: str) -> Step:
        """Leave a stage out whose units the policy all stops; what it wrote of units that are no more goes."""
        cls = resolved.cls
        name = commit_file(resolved.name, item, cls.grain == "window")
        commit = self.commit(name)
        if cls.gate is None or commit is None or not commit.units:
            return "gated", ""
        if commit.units.keys() <= self.decisions(item.source_id, cls.gate)[cls.gate].keys():
            return "gated", ""
        if cls.gate_mode == "each":
            return (yield from self._each(resolved, item, path, name, commit, {}))
        if not self._dry:
            empty = Commit(resolved.name, item.source_id, self.fingerprint_of(resolved, item))
            self._write(resolved, item, Outputs(), empty)
            return (yield from self._commit(name, empty, ("ran", "")))
        return "ran", ""

    def _run_whole(
        self,
        resolved: ResolvedStage,
        item: WorkItem,
        path: str,
        name: str,
        key: str,
        keep: Mapping[str, frozenset[str]],
        record: Commit | None,
    ) -> Step:
        commit = Commit(resolved.name, item.source_id, key)
        windowed = resolved.cls.grain == "window"
        if windowed:
            commit.window = item.window_index
        commit.units = dict.fromkeys(item.units, "")
        answer = yield from self._attempt(Call(resolved, item, path, keep), name, record, key)
        if answer.failed is not None:  # the quarantine: recorded, reported, and its neighbours go on
            commit.status, commit.errors = "error", [self._logged(name, answer.failed, answer)]
            for table in resolved.cls.writes:
                self.store.delete(table_file(table, item.source_id, item.window_index if windowed else None))
            return (yield from self._commit(name, commit, ("error", _told(commit.errors[0]))))
        commit.errors, commit.files = answer.outputs.errors, answer.saved
        self._write(resolved, item, answer.outputs, commit)
        return (yield from self._commit(name, commit, ("ran", "")))

    def _commit(self, name: str, commit: Commit, end: End) -> Step:
        """Have a step logged, and then make it official."""
        yield Made(name, commit, end)
        write_commit(self.store, name, commit)
        return end

    def _each(
        self,
        resolved: ResolvedStage,
        item: WorkItem,
        path: str,
        name: str,
        record: Commit | None,
        keep: dict[str, frozenset[str]],
    ) -> Step:
        cls, commit = resolved.cls, official(record)
        assert cls.gate is not None
        base = self.fingerprint_of(resolved, item, exclude=cls.gate)
        digests = self.unit_digests(resolved, item.source_id)
        keys = {u: unit_fingerprint(base, digests[u]) for u in digests}
        standing = commit is not None and self.intact(commit)
        before = commit or Commit(resolved.name, item.source_id, "")
        old = {u: k for u, k in before.units.items() if keys.get(u) == k} if standing else {}
        todo = tuple(u for u in item.units if u not in old)
        if not todo and commit is not None and commit.units == old:
            return "skipped", ""
        if self._dry:
            return "ran", ""
        keep[UNITS[cls.gate].id] = frozenset(todo)
        answer = Answer(Outputs())
        if todo:
            call = Call(resolved, replace(item, units=todo), path, keep)
            attempted = fingerprint(base=base, units={u: keys[u] for u in todo})
            answer = yield from self._attempt(call, name, record, attempted)
        outputs = answer.outputs
        if answer.failed is not None:  # a failure outside any single unit puts all that were due into quarantine
            failed = self._logged(name, answer.failed, answer)
            outputs = Outputs(errors=[replace(failed, unit_id=u) for u in todo])
        new = Commit(resolved.name, item.source_id, base)
        new.units = {**old, **{u: keys[u] for u in todo}}
        new.errors = sorted([e for e in before.errors if e.unit_id in old] + outputs.errors, key=lambda e: e.unit_id)
        new.files = {f: h for f, h in before.files.items() if _owner(f) in old} | answer.saved
        if old:
            self._add_rows(resolved, item.source_id, old, outputs)
        self._write(resolved, item, outputs, new)
        wrong = [e for e in outputs.errors if e.unit_id in todo]
        end: End = ("error", f"{len(wrong)} of {len(todo)} units: {_told(wrong[0])}") if wrong else ("ran", "")
        yield from self._commit(name, new, end)
        for stale in sorted(before.files.keys() - new.files.keys()):
            self.store.delete(stale)
        return end

    def _add_rows(self, resolved: ResolvedStage, source_id: str, units: Iterable[str], outputs: Outputs) -> None:
        """Put the rows that are there of some units before a stage's new ones."""
        assert resolved.cls.gate is not None
        column, wanted = UNITS[resolved.cls.gate].id, pa.array(sorted(units), pa.string())
        for table in resolved.cls.writes:
            rows = self.store.read_table(table_file(table, source_id), table)
            rows = rows.filter(pc.is_in(rows[column], wanted))
            outputs.tables[table] = table.validated(pa.concat_tables([rows, outputs.tables.get(table, table.empty())]))

    def _attempt(self, call: Call, name: str, record: Commit | None, key: str) -> Attempt:
        """Yield a call until it is answered, or has ended without an answer as often as its stage lets it."""
        resolved, source_id = call.resolved, call.item.source_id
        attempts, answer = self._attempts.before(record, key), None
        kept = record or Commit(resolved.name, source_id, "", status="begun")
        while (why := verdict(attempts, resolved.resources)) is None:
            self._attempts.begin(name, kept, attempts)
            answer = yield replace(call, limits=self.limits(call), alone=bool(attempts["ended"]))
            if not answer.lost:
                return answer
            self._attempts.ended(attempts, answer.lost)
        return given_up(source_id, attempts, why, answer)

    def limits(self, call: Call) -> Limits:
        """Return what an attempt at a call may use."""
        need, whole = call.resolved.resources, call.resolved.cls.grain == "dataset"
        least = _FETCH_S if whole or "://" in call.path else _LEAST_S
        most = _PER_SOURCE_S * len(call.sources) if whole else _PER_MEDIA_S * self.media_s(call.item)
        return Limits(need.max_s or least + most, int(need.max_memory_gb * 2**30), need.max_cpu_s)

    def _logged(self, name: str, error: UnitError, answer: Answer) -> UnitError:
        """Keep the whole traceback of what is no fault of the item's bytes beside the dataset, and name its file."""
        if error.error != "bug" and not answer.lost:
            return error
        file = name.replace("commits/", "faults/", 1).removesuffix(".json") + ".txt"
        self.store.write(file, (answer.log or error.traceback or error.message).encode(errors="replace"))
        return replace(error, message=f"{error.message} (see {file})")

    def _write(self, resolved: ResolvedStage, item: WorkItem, outputs: Outputs, commit: Commit) -> None:
        window = item.window_index if resolved.cls.grain == "window" else None
        for table in resolved.cls.writes:
            rows = outputs.tables.get(table, table.empty())
            file = table_file(table, item.source_id, window)
            digest = self.store.write_table(file, table, rows)
            commit.tables[table.name] = {"file": file, "sha256": digest, "rows": rows.num_rows}


def _told(error: UnitError) -> str:
    return f"{error.error}: {error.message}"


def _owner(file: str) -> str:
    """Return the unit a binary file belongs to: files are named after their unit."""
    return Path(file).name.split(".")[0]
