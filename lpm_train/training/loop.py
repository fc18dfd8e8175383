"""One loop for every stage: step, log, evaluate, save, stop.

It knows neither flow matching nor distillation. Figures go to `log.jsonl`, a line a step (`loss`, `samples_per_s`,
`step_s`, on CUDA `memory_gb`; given the operations of a step, `tflops`) and a line an evaluation. If the directory
holds checkpoints, the run continues from the last. The best checkpoint is chosen by `run.select`, not by step count.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from lpm_train.batch import Batch, BatchSource
from lpm_train.config import Config, to_json
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import Meta
from lpm_train.training.checkpoint_files import Place
from lpm_train.training.log import Board, Log
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import Criterion, Stage

# Extra figures of a stage at an evaluation, for instance those read from generated pictures.
Measure = Callable[[Any], Mapping[str, float]]


class Watching(Protocol):
    """What shows a run while it trains (`lpm_train.tools.watch`); every rank calls it."""

    def begin(self, step: int) -> None:
        """Take over a run that stands at `step`."""

    def look(self, stage: Any, step: int, ended: bool = False) -> None:
        """Show an evaluation, the last one where the run has `ended`."""


class TrainingError(RuntimeError):
    """A run cannot go on."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    meta: Meta
    criteria: tuple[Criterion, ...]
    stopped: str  # why: "steps", "criteria" or "patience"


def train(
    stage: Stage, config: Config, source: BatchSource[Batch], out: Path, *, heldout: Sequence[Batch] = (),
    measure: Measure | None = None, where: Ranks | None = None, flops_per_step: float = 0.0,
    watch: Watching | None = None, board: Board | None = None, show: Callable[[str], None] = print,
) -> Result:  # fmt: skip
    """Train until the steps are done, all criteria pass, or patience ends.

    Args:
        stage: what is trained.
        config: its settings.
        source: this rank's batches.
        out: directory of log and checkpoints; an earlier run there is continued.
        heldout: this rank's batches for evaluation; empty: none is made.
        measure: extra figures; they may serve as `run.select` and in the stage's criteria.
        where: this rank.
        flops_per_step: model operations of a step over all ranks, for `tflops`.
        watch: shows evaluations.
        board: takes the log's numbers as well.
        show: where lines for people go.

    Raises:
        TrainingError: the loss or an evaluation is not finite, or `run.select` names no figure.
    """
    home = checkpoint.home(out, config.run.checkpoints)
    where = where or Ranks()
    say = show if where.first else (lambda _: None)
    try:
        with closing(checkpoint.Writer(home, config.run.keep, config.run.background)) as writer:
            there = checkpoint.steps(home)
            last = checkpoint.path_of(home, there[-1]) if there else None
            meta = checkpoint.load(last, stage, config) if last else Meta(step=0)
            if last:
                source.restore(meta.loader)
                say(f"continue {out} at step {meta.step}")
                _tell_changes(checkpoint.read_config(last), config, meta.step, say)
            if where.first and not (last and meta.step >= config.run.steps):  # else they train nothing
                _note(out, config)
            begun = _Training(
                stage, config, source, writer, heldout, measure or (lambda _: {}), where, flops_per_step, watch,
                Log(out, meta.step, where.first, board), say, meta,
            )  # fmt: skip
            return begun.to_its_end()
    except KeyboardInterrupt:  # what was being written is written by now
        say(_stopped(out, home))
        raise


@dataclass
class _Training:
    """A run under way: what it works with, and where it stands."""

    stage: Stage
    config: Config
    source: BatchSource[Batch]
    writer: checkpoint.Writer
    heldout: Sequence[Batch]
    measure: Measure
    where: Ranks
    flops_per_step: float
    watch: Watching | None
    log: Log
    say: Callable[[str], None]
    meta: Meta
    criteria: list[Criterion] = field(default_factory=list)
    stopped: str = "steps"

    def to_its_end(self) -> Result:
        """Train from where the run stands."""
        run = self.config.run
        self._begin()
        while self.meta.step < run.steps and self.stopped == "steps":
            self._step()
            better, last = False, self.meta.step == run.steps
            if self.heldout and (last or self.meta.step % run.eval_every == 0):
                better = self._evaluate(last)
            if better or last or self.stopped != "steps" or self.meta.step % run.save_every == 0:
                self._save()
        self.writer.wait()
        if not checkpoint.steps(self.writer.out):  # no step was asked for
            self._save()
        self.say(f"{run.stage} ended after {self.meta.step} steps ({self.stopped}); best at {self.meta.best_step}")
        return Result(self.meta, tuple(self.criteria), self.stopped)

    def _begin(self) -> None:
        """Measure what there is before the first step, or take up what was measured last."""
        if self.watch:
            self.watch.begin(self.meta.step)
        if not self.heldout:
            return
        if self.meta.step:
            self.criteria = self.stage.exit_criteria(self.meta.first, self.meta.now)
            return
        figures = self._figures()
        self.meta = replace(self.meta, first=figures, now=figures)
        if self.watch:
            self.watch.look(self.stage, 0)

    def _step(self) -> None:
        """Train on a batch and log it. Raises TrainingError where a figure is not finite."""
        run, begun = self.config.run, time.perf_counter()
        batch = next(self.source)
        figures = self.stage.step(batch, self.meta.step)
        self.meta = replace(self.meta, step=self.meta.step + 1)
        _must_be_finite(figures, self.meta.step)
        seconds = time.perf_counter() - begun
        speed = {"step_s": seconds, "samples_per_s": len(batch) * self.where.data_size / seconds}
        if self.flops_per_step:
            speed["tflops"] = self.flops_per_step / seconds / 1e12
        if self.where.device.type == "cuda":
            speed["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self.log.write(self.meta.step, figures | speed)
        if self.meta.step % run.log_every == 0:
            told = _line(figures | {"samples/s": speed["samples_per_s"]})
            self.say(f"{run.stage} {self.meta.step}/{run.steps}  {told}")

    def _evaluate(self, last: bool) -> bool:
        """Look at held-out clips, and whether training has ended with that; say whether it is the best so far."""
        run, figures = self.config.run, self._figures()
        self.meta, better = _compared(self.meta, figures, run.select)
        self.criteria = self.stage.exit_criteria(self.meta.first, figures)
        self.say(f"{run.stage} {self.meta.step} evaluation  " + _line(figures))
        for criterion in self.criteria:
            self.say(f"  {criterion}")
        if run.stop_when_passed and self.criteria and all(c.passed for c in self.criteria):
            self.stopped = "criteria"
        elif run.patience and self.meta.stale >= run.patience:
            self.stopped = "patience"
        if self.watch:
            self.watch.look(self.stage, self.meta.step, last or self.stopped != "steps")
        return better

    def _figures(self) -> dict[str, float]:
        figures = self.stage.evaluate(self.heldout) | dict(self.measure(self.stage))
        self.log.write(self.meta.step, figures, evaluation=True)
        # Others may have nothing to be measured on; these two say what the network is worth.
        decisive = ("heldout_loss", self.config.run.select)
        _must_be_finite({n: figures[n] for n in decisive if n in figures}, self.meta.step)
        return figures

    def _save(self) -> None:
        self.meta = replace(self.meta, loader=dict(self.source.state()))
        self.writer.save(self.stage, self.config, self.meta)


def _note(out: Path, config: Config) -> None:
    """Write down what a run now goes by, for its next start and for the stage after it."""
    out.mkdir(parents=True, exist_ok=True)
    new = out / ".config.json.partial"
    new.write_text(to_json(config))
    new.replace(out / "config.json")


def _tell_changes(before: Config, now: Config, step: int, say: Callable[[str], None]) -> None:
    """Name the settings of a run that goes on which are not those of its checkpoint, and whether they count."""
    theirs, ours = (dict(_flat(json.loads(to_json(c)))) for c in (before, now))
    changed = [f"{n} {theirs.get(n)} -> {ours.get(n)}" for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
    if changed:
        unused = "; no step is left to train, so they are not kept" if step >= now.run.steps else ""
        say(f"settings changed since step {step}: {', '.join(changed)}{unused}")


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings as `section.field` and value."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _stopped(out: Path, home: Place) -> str:
    """Say where a run that was interrupted goes on."""
    there = checkpoint.steps(home)
    if not there:
        return f"stopped before the first checkpoint: the same command begins {out} again"
    return f"stopped: the same command goes on with {out} from {checkpoint.path_of(home, there[-1])}"


def _must_be_finite(figures: Mapping[str, float], step: int) -> None:
    """Raise TrainingError where a figure is not finite: the network, or a batch, is broken then."""
    if bad := [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]:
        advice = "lower optim.lr, look at the batch, or continue from an earlier checkpoint"
        raise TrainingError(f"{bad[0]} at step {step}: {advice}")


def _compared(meta: Meta, figures: Mapping[str, float], select: str) -> tuple[Meta, bool]:
    """Take in the figures of an evaluation; say whether it is the best so far."""
    if select not in figures:
        raise TrainingError(f"run.select = {select!r} is not measured; use one of {', '.join(figures)}")
    if meta.best is None or not math.isfinite(meta.best) or figures[select] < meta.best:
        return replace(meta, now=figures, best=figures[select], best_step=meta.step, stale=0), True
    return replace(meta, now=figures, stale=meta.stale + 1), False


def _line(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
