"""Show a run's progress: a live bar on a terminal, plain lines elsewhere (logs, pipes, CI)."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from curation.engine.run import SourceWork
from curation.engine.step import StepResult
from curation.engine.workflow import Pipeline
from workflows import catalog
from workflows.remaining import Remaining

_PLAIN_EVERY_S = 5.0


class RunProgress:
    """Receives the engine's events. Use as a context manager."""

    def __init__(self, console: Console, pipeline: Pipeline) -> None:
        self._console = console
        self._last = [r.name for r in pipeline.after][-1:]
        shipped = catalog.rates(pipeline.workflow)
        known = {r.stage: r.cpu_s for r in shipped.stages} if shipped is not None else {}
        stages = [r.name for r in (*pipeline.before, *pipeline.windowed, *pipeline.after)]
        self._remaining = Remaining(stages, known)
        self._sources = 0
        self._done = 0
        self._media_s: dict[str, float] = {}
        self._started = time.monotonic()
        self._spoke = 0.0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("sources"), TimeElapsedColumn(), TextColumn("{task.fields[rate]}"), console=console,
            )  # fmt: skip
            self._task = self._bar.add_task("starting", total=None, rate="")

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def event(self, kind: str, value: Any) -> None:
        """Take one event of `curation.engine.run.run`."""
        if kind == "work":
            work: list[SourceWork] = value
            self._sources = len(work)
            self._remaining.begin(len(work))
            self._say(f"{len(work)} sources have work to do" if work else "nothing to do for any source")
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
        elif kind == "step":
            self._step(value)

    def _step(self, result: StepResult) -> None:
        self._remaining.add(result)
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
            self._say(f"{self._done}/{self._sources} sources done, now {where}, {self._rate()}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate())

    def _rate(self) -> str:
        seconds = max(self._media_s.values(), default=0.0)
        elapsed = time.monotonic() - self._started
        rate = f"{seconds / elapsed:.2f} video-s/s" if seconds else ""
        left_s = self._remaining.left_s(elapsed)
        return rate if left_s is None else f"{rate}, about {_time(left_s)} left"

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=text)

    def _say(self, text: str) -> None:
        if self._bar is None:
            self._spoke = time.monotonic()
            self._console.print(f"[{time.monotonic() - self._started:7.1f} s] {text}", markup=False, highlight=False)


def _time(seconds: float) -> str:
    """Return a time in the largest unit of which there are two or more."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
