"""Show a run's progress: a live bar on a terminal, plain lines elsewhere (logs, pipes, CI)."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from curation.cluster.workers import Workers
from curation.engine.order import SourceWork
from curation.engine.register import Named
from curation.engine.step import StepResult
from curation.engine.workflow import Pipeline
from curation.plan.estimate import stage_rates
from schemas.printable import printable
from schemas.time import spoken
from workflows import catalog
from workflows.remaining import Remaining

if TYPE_CHECKING:
    from curation.plan.survey import Survey

_PLAIN_EVERY_S = 5.0


class RunProgress:
    """Receives the engine's events. Use as a context manager."""

    def __init__(self, console: Console, pipeline: Pipeline, cores: float | None = 1.0) -> None:
        """Begin. `cores`: that will work at once; None = a cluster tells it later."""
        self._console = console
        self._last = [r.name for r in pipeline.after][-1:]
        self._rates = catalog.rates(pipeline.workflow)
        known = {r.stage: r.cpu_s for r in self._rates.stages} if self._rates is not None else {}
        stages = [r.name for r in (*pipeline.before, *pipeline.windowed, *pipeline.after)]
        self._remaining = Remaining(stages, known)
        self._remaining.cores = cores
        self._ended = Counter[str]()
        self._workers, self._killed = "", 0
        self._sources = 0
        self._done = 0
        self._media_s: dict[str, float] = {}
        self._started = self._at_work = time.monotonic()
        self._spoke = 0.0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("sources"), TimeElapsedColumn(), TextColumn("{task.fields[rate]}"),
                console=console,
            )  # fmt: skip
            self._task = self._bar.add_task("starting", total=None, rate="")

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _expect(self, work: list[SourceWork]) -> None:
        found = _surveyed(work) if work and self._rates is not None else None
        if found is None or self._rates is None:
            self._remaining.begin(len(work))
            return
        self._remaining.begin(len(work), found.video_s, stage_rates(found, self._rates))
        for path, how in found.ended:
            self._console.print(f"{printable(path)}: a reader of its header {how}", markup=False, highlight=False)

    def event(self, kind: str, value: Any) -> None:
        """Take one event of `curation.engine.run.run`."""
        if kind == "work":
            work: list[SourceWork] = value
            self._sources = len(work)
            self._expect(work)
            self._at_work = time.monotonic()
            self._say(f"{len(work)} sources have work to do{self._left()}" if work else "nothing to do for any source")
            if self._bar is not None:
                self._bar.update(self._task, total=len(work))
        elif kind == "forgotten":
            paths: list[str] = value
            self._console.print(
                f"left out, as they were forgotten: {', '.join(paths[:5])}{' ...' if len(paths) > 5 else ''}",
                markup=False, highlight=False,
            )  # fmt: skip
        elif kind == "machine":
            self._console.print(f"the run {value}", markup=False, style="yellow", highlight=False)
        elif kind == "phase":
            self._describe(str(value))
            self._say(f"phase: {value}")
        elif kind == "workers":
            self._watch(value)
        elif kind == "step":
            self._step(value)

    def _watch(self, workers: Workers) -> None:
        """Show how a cluster's workers are, and each that was ended for want of memory."""
        self._remaining.cores = max(1.0, workers.cpus)
        for killed in workers.memory_kills[self._killed :]:
            self._console.print(
                f"Ray ended a worker for want of memory: {killed}; its work is done again. If that goes on, give the "
                "stage more in its resources (memory_gb)", markup=False, style="yellow", highlight=False,
            )  # fmt: skip
        self._killed = len(workers.memory_kills)
        self._workers = str(workers)
        if self._bar is not None:
            self._bar.update(self._task, rate=self._rate())
        elif time.monotonic() - self._spoke > _PLAIN_EVERY_S:
            self._say(f"{self._done}/{self._sources} sources done{self._stages_done()}, {self._rate()}")

    def _step(self, result: StepResult) -> None:
        self._remaining.add(result)
        self._ended[result.stage] += 1
        if result.status == "ran":
            self._media_s[result.stage] = self._media_s.get(result.stage, 0.0) + result.media_s
        if result.status == "error":
            self._console.print(f"[red]quarantined[/red] {result.source_id} in {result.stage}: ", end="")
            self._console.print(result.message, markup=False, highlight=False)
        for said in result.said:
            self._console.print(f"{result.stage} {result.source_id[:8]}: {said}", markup=False, style="yellow")
        if result.stage in self._last:
            self._done += 1
        where = f"{result.stage} {result.source_id[:8]}"
        self._describe(where)
        if self._bar is None and time.monotonic() - self._spoke > _PLAIN_EVERY_S:
            self._say(f"{self._done}/{self._sources} sources done, now {where}{self._stages_done()}, {self._rate()}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate())

    def _rate(self) -> str:
        seconds = max(self._media_s.values(), default=0.0)
        elapsed = time.monotonic() - self._started
        rate = f"{seconds / elapsed:.2f} video-s/s" if seconds else ""
        return ", ".join(s for s in (rate, self._left().removeprefix(", "), self._workers) if s)

    def _left(self) -> str:
        left_s = self._remaining.left_s(time.monotonic() - self._at_work)
        return "" if left_s is None else f", about {spoken(left_s)} left"

    def _stages_done(self) -> str:
        """Return how many steps of each stage have ended, in a run of several workers."""
        if not self._workers:
            return ""
        return " (" + ", ".join(f"{stage} {n}" for stage, n in self._ended.items()) + ")" if self._ended else ""

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=text)

    def _say(self, text: str) -> None:
        if self._bar is None:
            self._spoke = time.monotonic()
            self._console.print(f"[{time.monotonic() - self._started:7.1f} s] {text}", markup=False, highlight=False)


_HEADERS = 16
"""Files whose headers are opened for a first estimate."""


def _surveyed(work: list[SourceWork]) -> Survey | None:
    """Return what the headers of a few say of all that there is to work on; None where they cannot be read."""
    from curation.plan.survey import survey  # the decoders take a moment to import

    with contextlib.suppress(OSError, ValueError):
        return survey([Named(w.path, listed=(w.bytes, 0)) for w in work], _HEADERS)
    return None
