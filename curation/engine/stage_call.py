"""The one place where a stage is run on an item: in this process, or in that of the Python that it names.

A step decides whether to run, and commits; what is between is here. What a stage warns of on the way, what its own
process prints, and how it ended, all come back as data.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curation.engine.fetch import MediaCache
from curation.engine.heap import release
from curation.engine.inputs import StoreInputs
from curation.engine.workflow import ResolvedStage
from curation.pythons.worker import WorkerDiedError, worker
from curation.stage import Outputs, Stage, UnitError, WorkItem, error_of, strip_directory
from curation.storage.store import Store, StoreError
from schemas.use import OURS

_FRAMES = 4
DEATHS = 3
"""How often in a row a stage's own process may die and is started again."""


class StageSetupError(RuntimeError):
    """A stage cannot work at all on this machine (missing weight or dependency): ends the run, not the item."""


_FATAL = (StoreError, StageSetupError, ImportError, MemoryError)


@dataclass(frozen=True)
class Call:
    """A stage and what it is to be run on; plain data."""

    resolved: ResolvedStage
    item: WorkItem
    path: str
    keep: Mapping[str, frozenset[str]]
    sources: tuple[tuple[str, int], ...] = ()
    whole: frozenset[str] = frozenset()
    """names of the tables that are not narrowed to what is alive"""


@dataclass
class Answer:
    """What came of a call."""

    outputs: Outputs
    saved: dict[str, str] = field(default_factory=dict)
    """files that the stage wrote itself -> SHA-256"""
    failed: UnitError | None = None
    """what the stage raised; it then has no outputs"""
    said: tuple[str, ...] = ()
    """what our packages warned of"""
    printed: str = ""
    """the end of what its own process printed"""
    cpu_s: float = 0.0
    """that its own process used"""


class Stages:
    """Stages of one store with their models, each loaded once, here or in the process of its own Python."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._media = MediaCache()
        self._built: dict[str, Stage] = {}
        self._elsewhere: dict[str, ResolvedStage] = {}
        self._deaths: Counter[str] = Counter()

    def ready(self, resolved: ResolvedStage) -> None:
        """Load a stage's models. Raises StageSetupError where that fails."""
        if resolved.python:
            self._elsewhere[resolved.python] = resolved
            try:
                resolved.ask(_ready, self._store.uri)
            except WorkerDiedError as e:
                raise StageSetupError(f"stage {resolved.name!r} cannot start: {e}: {_last(e.printed)}") from e
        elif resolved.name not in self._built:
            try:
                self._built[resolved.name] = resolved.build()
            except Exception as e:  # whatever stops a model from loading stops the run, with its own words
                raise StageSetupError(f"stage {resolved.name!r} cannot start: {type(e).__name__}: {e}") from e

    def run(self, calls: Sequence[Call]) -> list[Answer]:
        """Run one stage on items, together where it can; what it raises is in the answers.

        What concerns the whole stage or the machine is raised: StageSetupError, StoreError, ImportError, MemoryError.
        """
        if not calls:
            return []
        resolved = calls[0].resolved
        if resolved.python:
            return self._there(resolved, calls)
        self.ready(resolved)
        if len(calls) == 1 or not hasattr(resolved.cls, "run_many"):
            return [self._alone(call) for call in calls]
        together: Any = self._built[resolved.name]
        inputs = [self._inputs(call) for call in calls]
        with _listening() as said:
            try:
                outputs = together.run_many([(c.item, i) for c, i in zip(calls, inputs, strict=True)])
            except _FATAL:
                raise
            except Exception:  # whose fault it is, they tell one by one
                return [self._alone(call) for call in calls]
        answers = [Answer(_declared(resolved, o), i.saved) for o, i in zip(outputs, inputs, strict=True)]
        answers[0].said = tuple(said)
        return answers

    def _inputs(self, call: Call) -> StoreInputs:
        whole = [table for table in call.resolved.cls.reads if table.name in call.whole]
        return StoreInputs(
            self._store, call.item, lambda: self._media.local(call.path, call.item.source_id),
            keep=call.keep, sources=call.sources, whole=whole,
        )  # fmt: skip

    def _alone(self, call: Call) -> Answer:
        inputs = self._inputs(call)
        with _listening() as said:
            try:
                outputs = self._built[call.resolved.name].run(call.item, inputs)
            except _FATAL:
                raise
            except Exception as e:  # recorded with stage, class and message: the quarantine is the handler
                return Answer(Outputs(), failed=error_of(call.item.source_id, e), said=tuple(said))
        return Answer(_declared(call.resolved, outputs), inputs.saved, said=tuple(said))

    def close(self) -> None:
        """Release the models of stages that know how to, and all that are in other processes."""
        for stage in self._built.values():
            close = getattr(stage, "close", None)
            if close is not None:
                close()
        self._built.clear()
        for resolved in self._elsewhere.values():
            with contextlib.suppress(WorkerDiedError):
                resolved.ask(_close)
        self._elsewhere.clear()

    def _there(self, resolved: ResolvedStage, calls: Sequence[Call]) -> list[Answer]:
        self._elsewhere[resolved.python] = resolved
        try:
            answers = resolved.ask(_run, self._store.uri, calls)
        except WorkerDiedError as e:
            if len(calls) > 1:
                return [answer for call in calls for answer in self._there(resolved, [call])]
            self._deaths[resolved.name] += 1
            if (deaths := self._deaths[resolved.name]) > DEATHS:
                raise StageSetupError(
                    f"stage {resolved.name!r}: {e}, {deaths} times in a row, and was not started again: "
                    f"{_last(e.printed)}"
                ) from e
            died = UnitError(calls[0].item.source_id, type(e).__name__, str(e), _where(e.printed))
            return [Answer(Outputs(), failed=died, printed=e.printed)]
        del self._deaths[resolved.name]
        for tables, answer in answers:
            answer.outputs.tables = {table: tables[table.name] for table in resolved.cls.writes if table.name in tables}
        answers[0][1].printed = worker(resolved.python).printed()
        return [answer for _, answer in answers]


def _declared(resolved: ResolvedStage, outputs: Outputs) -> Outputs:
    strangers = [table.name for table in outputs.tables if table not in resolved.cls.writes]
    if strangers:
        raise StageSetupError(f"stage {resolved.name!r} returned tables it does not declare: {strangers}")
    return outputs


# ---------------------------------------------------------------------------------- in the process of another Python

_STAGES: dict[str, Stages] = {}
"""Of the store that the run is about."""


def _stages(uri: str) -> Stages:
    if uri not in _STAGES:
        _close()
        _STAGES[uri] = Stages(Store(uri))
    return _STAGES[uri]


def _ready(resolved: ResolvedStage, uri: str) -> None:
    _stages(uri).ready(resolved)


def _run(resolved: ResolvedStage, uri: str, calls: Sequence[Call]) -> list[tuple[dict[str, pa.Table], Answer]]:
    """Run calls as the driver would; tables go by their names, since a table is not plain data."""
    cpu = time.process_time()
    answers = _stages(uri).run([replace(call, resolved=resolved) for call in calls])
    release()
    sent = []
    for answer in answers:
        answer.cpu_s = (time.process_time() - cpu) / len(answers)
        sent.append(({table.name: rows for table, rows in answer.outputs.tables.items()}, answer))
        answer.outputs.tables = {}
    return sent


def _close(_: ResolvedStage | None = None) -> None:
    for stages in _STAGES.values():
        stages.close()
    _STAGES.clear()


# ---------------------------------------------------------------------------------- what is said on the way


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what our packages warn of."""
    ear = _Ear()
    loggers = [logging.getLogger(name) for name in sorted(OURS)]
    for logger in loggers:
        logger.addHandler(ear)
    try:
        yield ear.said
    finally:
        for logger in loggers:
            logger.removeHandler(ear)


def _where(printed: str) -> str:
    """Return the innermost frames of a process that died, as far as Python could tell them, else what it said last."""
    lines = printed.splitlines()
    frames = [strip_directory(line) for line in lines if line.startswith('  File "')][:_FRAMES]
    return "\n".join(frames or lines[-_FRAMES:])


def _last(printed: str) -> str:
    return (printed.strip().splitlines() or ["it said nothing"])[-1]
