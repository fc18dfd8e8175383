"""The one place where a stage is run on an item: in a process of its own, of this Python or another, or in this one.

A step decides whether to run, and commits; what is between is here. What a stage warns of on the way, what its process
prints, how it ended and whose fault that was, all come back as data. Both engines run stages through here.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curation.engine.fetch import MediaCache
from curation.engine.inputs import StoreInputs
from curation.engine.workflow import ResolvedStage
from curation.extras import absence
from curation.faults import Fault, fault_of
from curation.pythons.limits import NO_LIMITS, Limits
from curation.pythons.worker import Worker, WorkerDiedError, worker
from curation.runs.heap import forget_peak, peak_mb, release
from curation.stage import Outputs, Stage, UnitError, WorkItem, error_of, strip_directory
from curation.storage.store import Store
from schemas.settings.use import OURS

_FRAMES = 4
_SENT = tuple(f"crashed (signal {int(n)})" for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
"""Ends that whoever ends the whole run may have sent, to this process as well but a moment later."""
_GRACE_S = 1.0
"""What such an end waits before it counts against its item: a process that is killed meanwhile puts nothing down."""
TRIES = 5
"""How often a call is made that fails for a reason which may pass."""
PAUSE_S, MOST_S = 1.0, 20.0
"""Between the first two of them, and at most; each pause is up to twice the one before."""


class StageSetupError(RuntimeError):
    """A stage cannot work, now or on this machine: ends the run, not the item."""

    fault = "machine"


class MachineError(StageSetupError):
    """A stage cannot work for want of something on one machine: others may do without that one.

    Attributes:
        why: the stage, the machine and the error, without what to do.
        node: the machine's name in a cluster, "" = there is none.
    """

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why, advice)
        self.why, self.node = why, ""
        self._advice = advice

    def __str__(self) -> str:
        return f"{self.why}{self._advice}"


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
    limits: Limits = NO_LIMITS
    alone: bool = False
    """it has cost a process before, so it is not to be run beside others"""


@dataclass
class Answer:
    """What came of a call."""

    outputs: Outputs
    saved: dict[str, str] = field(default_factory=dict)
    """files that the stage wrote itself -> SHA-256"""
    failed: UnitError | None = None
    """what the stage raised; it then has no outputs"""
    fault: Fault | None = None
    """whose fault that was"""
    lost: str = ""
    """how its process ended, or what it lacked: it may be called again"""
    log: str = ""
    """the whole traceback, or the end of what its process printed, where it failed"""
    said: tuple[str, ...] = ()
    """what our packages warned of"""
    printed: str = ""
    """the end of what its own process printed"""
    cpu_s: float = 0.0
    """that its own process used, and what it started, such as ffmpeg"""
    memory_mb: float = 0.0
    """that its own process held at most (MiB), with what ran beside it in one call; 0 = not known"""


class Stages:
    """Stages of one store with their models, each loaded once, in a worker's process or (not `apart`) in this one."""

    def __init__(self, store: Store, *, apart: bool = True) -> None:
        self._store, self._apart = store, apart
        self._uri = store.root if store.local else store.uri  # a worker may have been started in another directory
        self._media = MediaCache(store)
        self._built: dict[str, Stage] = {}
        self._elsewhere: dict[str, Worker] = {}

    def _worker(self, resolved: ResolvedStage) -> Worker | None:
        """Return the worker that runs a stage, None = this process."""
        if not self._apart and not resolved.python:
            return None
        python = resolved.python or sys.executable
        return self._elsewhere.setdefault(python, worker(python))

    def ready(self, resolved: ResolvedStage) -> None:
        """Load a stage's models. Raises StageSetupError where that fails."""
        at = self._worker(resolved)
        if at is not None:
            try:
                at.ask(_ready, resolved.at_home(), self._uri)
            except WorkerDiedError as e:
                raise MachineError(f"stage {resolved.name!r} cannot start: {e}: {_last(e.printed)}") from e
        elif resolved.name not in self._built:
            try:
                self._built[resolved.name] = resolved.build()
            except Exception as e:  # whatever stops a model from loading stops the run, with its own words
                raise MachineError(f"stage {resolved.name!r} cannot start: {type(e).__name__}: {e}") from e

    def run(self, calls: Sequence[Call]) -> list[Answer]:
        """Run one stage on items, together where it can; what it raises is in the answers.

        What may pass is tried again for a while. Raises StageSetupError for what concerns the whole stage, the machine
        or the network.
        """
        return [self._settled(call, answer) for call, answer in zip(calls, self.once(calls), strict=True)]

    def _settled(self, call: Call, answer: Answer) -> Answer:
        """Try again what may pass, and raise what is no item's fault."""
        if answer.fault == "transient":
            answer = self._patiently(call, answer)
        if answer.failed is None or answer.lost or answer.fault in ("item", "bug"):
            return answer
        what = f"stage {call.resolved.name!r} on {platform.node()}: {answer.failed.error}: {answer.failed.message}"
        if answer.fault == "machine":
            raise MachineError(
                what,
                ". That is for want of something on that machine, so the run stopped and nothing was quarantined for "
                "it; mend it and run the same command again",
            )
        if answer.fault == "transient":
            raise StageSetupError(
                f"{what}, {TRIES} times. What it reads or writes cannot be reached, so the run stopped and nothing was "
                "quarantined for it; run the same command again when it can"
            )
        at = self._worker(call.resolved)
        if at is not None:
            at.close(at_once=True)  # the next attempt has a process that nothing is left in
        return replace(answer, lost="out of memory" if answer.fault == "memory" else "crashed (device)")

    def _patiently(self, call: Call, answer: Answer) -> Answer:
        from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

        again = Retrying(
            stop=stop_after_attempt(TRIES - 1), wait=wait_random_exponential(PAUSE_S, MOST_S), sleep=_sleep,
            retry=retry_if_result(lambda a: a.fault == "transient"), retry_error_callback=_last_of,
        )  # fmt: skip
        _sleep(PAUSE_S)
        found: Answer = again(lambda: self.once([call])[0])
        return found

    def once(self, calls: Sequence[Call]) -> list[Answer]:
        """Run one stage on items, and say in the answers what it raises, whosever fault that is."""
        if not calls:
            return []
        resolved = calls[0].resolved
        at = self._worker(resolved)
        if at is not None:
            return self._there(at, calls)
        self.ready(resolved)
        before_s = _children_s()
        answers = self._here(calls)
        answers[0].cpu_s = _children_s() - before_s
        return answers

    def _here(self, calls: Sequence[Call]) -> list[Answer]:
        """Run calls in this process."""
        resolved = calls[0].resolved
        if len(calls) == 1 or not hasattr(resolved.cls, "run_many"):
            return [self._alone(call) for call in calls]
        together: Any = self._built[resolved.name]
        inputs = [self._inputs(call) for call in calls]
        with _listening() as said:
            try:
                outputs = together.run_many([(c.item, i) for c, i in zip(calls, inputs, strict=True)])
                for call, i in zip(calls, inputs, strict=True):
                    self._confirm(call, i)
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

    def _confirm(self, call: Call, inputs: StoreInputs) -> None:
        """Make sure that what a stage read of its source was the source. Raises SourceChangedError."""
        if inputs.opened:
            self._media.confirm(call.path, call.item.source_id)

    def _alone(self, call: Call) -> Answer:
        inputs = self._inputs(call)
        with _listening() as said:
            try:
                outputs = self._built[call.resolved.name].run(call.item, inputs)
                self._confirm(call, inputs)
            except Exception as e:  # recorded with stage, class and message: the quarantine is the handler
                why, log = error_of(call.item.source_id, e), "".join(traceback.format_exception(e))
                if (missing := absence(e)) is not None:
                    why = replace(why, message=missing)
                return Answer(Outputs(), failed=why, fault=fault_of(e), log=log, said=tuple(said))
        return Answer(_declared(call.resolved, outputs), inputs.saved, said=tuple(said))

    def close(self) -> None:
        """Release the models of stages that know how to, and all that are in other processes."""
        for stage in self._built.values():
            close = getattr(stage, "close", None)
            if close is not None:
                close()
        self._built.clear()
        for at in self._elsewhere.values():
            with contextlib.suppress(WorkerDiedError):
                at.ask(_close)
        self._elsewhere.clear()

    def _there(self, at: Worker, calls: Sequence[Call]) -> list[Answer]:
        resolved, limits = calls[0].resolved, calls[0].limits
        seconds, cpu_s = (sum(getattr(c.limits, limit) for c in calls) for limit in ("seconds", "cpu_s"))
        limits = replace(limits, seconds=seconds, cpu_s=cpu_s)
        try:
            answers = at.ask_within(limits, _run, resolved.at_home(), self._uri, calls)
        except WorkerDiedError as e:
            if len(calls) > 1:
                return [answer for call in calls for answer in self._there(at, [call])]
            if e.how in _SENT:
                _sleep(_GRACE_S)
            died = UnitError(calls[0].item.source_id, e.how, str(e), _where(e.printed))
            return [Answer(Outputs(), failed=died, lost=e.how, log=e.printed, printed=e.printed)]
        for tables, answer in answers:
            answer.outputs.tables = {table: tables[table.name] for table in resolved.cls.writes if table.name in tables}
        answers[0][1].printed = at.printed()
        return [answer for _, answer in answers]


def _last_of(tries: Any) -> Answer:
    found: Answer = tries.outcome.result()
    return found


_sleep = time.sleep


def _declared(resolved: ResolvedStage, outputs: Outputs) -> Outputs:
    strangers = [table.name for table in outputs.tables if table not in resolved.cls.writes]
    if strangers:
        raise StageSetupError(f"stage {resolved.name!r} returned tables it does not declare: {strangers}")
    return outputs


# ---------------------------------------------------------------------------------- in the process of a worker

_STAGES: dict[str, Stages] = {}
"""Of the store that the run is about."""


def _stages(uri: str) -> Stages:
    if uri not in _STAGES:
        _close()
        _STAGES[uri] = Stages(Store(uri), apart=False)
    return _STAGES[uri]


def _ready(resolved: ResolvedStage, uri: str) -> None:
    _stages(uri).ready(resolved)


def _run(resolved: ResolvedStage, uri: str, calls: Sequence[Call]) -> list[tuple[dict[str, pa.Table], Answer]]:
    """Run calls as the driver would; tables go by their names, since a table is not plain data."""
    cpu = time.process_time()
    forget_peak()
    answers = _stages(uri).once([replace(call, resolved=resolved) for call in calls])
    memory_mb = peak_mb()
    release()
    cpu_s = time.process_time() - cpu + sum(answer.cpu_s for answer in answers)
    sent = []
    for answer in answers:
        answer.cpu_s, answer.memory_mb = cpu_s / len(answers), memory_mb
        sent.append(({table.name: rows for table, rows in answer.outputs.tables.items()}, answer))
        answer.outputs.tables = {}
    return sent


def _children_s() -> float:
    """Return the CPU seconds of the processes that this one started and saw end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _close() -> None:
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
