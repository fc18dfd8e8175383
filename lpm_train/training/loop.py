"""One loop for every stage: step, log, evaluate, save, stop.

It knows neither flow matching nor distillation. Figures go to `log.jsonl`, a line a step (`loss`, `samples_per_s`,
`step_s`, on CUDA `memory_gb`; given the operations of a step, `tflops`) and a line an evaluation. If the directory
holds checkpoints, the run continues from the last. The best checkpoint is chosen by `run.select`, not by step count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from lpm_train.batch import Batch, BatchSource
from lpm_train.config import Config, to_json
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import Meta
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
        TrainingError: the loss is not finite, or `run.select` names no figure.
    """
    home = checkpoint.home(out, config.run.checkpoints)
    with closing(checkpoint.Writer(home, config.run.keep, config.run.background)) as writer:
        return _train(
            stage, config, source, out, writer, heldout, measure, where or Ranks(), flops_per_step, watch, board, show
        )


def _train(
    stage: Stage, config: Config, source: BatchSource[Batch], out: Path, writer: checkpoint.Writer,
    heldout: Sequence[Batch], measure: Measure | None, where: Ranks, flops_per_step: float, watch: Watching | None,
    board: Board | None, show: Callable[[str], None],
) -> Result:  # fmt: skip
    run, home = config.run, writer.out
    say = show if where.first else (lambda _: None)
    meta, criteria, stopped = Meta(step=0), list[Criterion](), "steps"
    if there := checkpoint.steps(home):
        meta = checkpoint.load(checkpoint.path_of(home, there[-1]), stage, config)
        source.restore(meta.loader)
        say(f"continue {out} at step {meta.step}")
    if where.first:
        _note(out, config)
    log = Log(out, meta.step, where.first, board)
    if watch:
        watch.begin(meta.step)

    def figures_now() -> dict[str, float]:
        figures = stage.evaluate(heldout) | dict(measure(stage) if measure else {})
        log.write(meta.step, figures, evaluation=True)
        return figures

    if meta.step == 0 and heldout:
        figures = figures_now()
        meta = replace(meta, first=figures, now=figures)
        if watch:
            watch.look(stage, 0)
    elif heldout:
        criteria = stage.exit_criteria(meta.first, meta.now)
    while meta.step < run.steps and stopped == "steps":
        begun = time.perf_counter()
        batch = next(source)
        figures = stage.step(batch, meta.step)
        meta = replace(meta, step=meta.step + 1)
        if bad := [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]:
            advice = "lower optim.lr, look at the batch, or continue from an earlier checkpoint"
            raise TrainingError(f"{bad[0]} at step {meta.step}: {advice}")
        seconds = time.perf_counter() - begun
        speed = {"step_s": seconds, "samples_per_s": len(batch) * where.data_size / seconds}
        if flops_per_step:
            speed["tflops"] = flops_per_step / seconds / 1e12
        if where.device.type == "cuda":
            speed["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        log.write(meta.step, figures | speed)
        if meta.step % run.log_every == 0:
            say(f"{run.stage} {meta.step}/{run.steps}  " + _line(figures | {"samples/s": speed["samples_per_s"]}))
        better, last = False, meta.step == run.steps
        if heldout and (last or meta.step % run.eval_every == 0):
            figures = figures_now()
            meta, better = _compared(meta, figures, run.select)
            criteria = stage.exit_criteria(meta.first, figures)
            say(f"{run.stage} {meta.step} evaluation  " + _line(figures))
            for criterion in criteria:
                say(f"  {criterion}")
            if run.stop_when_passed and criteria and all(c.passed for c in criteria):
                stopped = "criteria"
            elif run.patience and meta.stale >= run.patience:
                stopped = "patience"
            if watch:
                watch.look(stage, meta.step, last or stopped != "steps")
        if better or last or stopped != "steps" or meta.step % run.save_every == 0:
            meta = replace(meta, loader=dict(source.state()))
            writer.save(stage, config, meta)
    writer.wait()
    if not checkpoint.steps(home):  # no step was asked for
        writer.save(stage, config, replace(meta, loader=dict(source.state())))
    say(f"{run.stage} ended after {meta.step} steps ({stopped}); best at {meta.best_step}")
    return Result(meta, tuple(criteria), stopped)


def _note(out: Path, config: Config) -> None:
    """Write down what a run now goes by, for its next start and for the stage after it."""
    out.mkdir(parents=True, exist_ok=True)
    new = out / ".config.json.partial"
    new.write_text(to_json(config))
    new.replace(out / "config.json")


def _compared(meta: Meta, figures: Mapping[str, float], select: str) -> tuple[Meta, bool]:
    """Take in the figures of an evaluation; say whether it is the best so far."""
    if select not in figures:
        raise TrainingError(f"run.select = {select!r} is not measured; use one of {', '.join(figures)}")
    if meta.best is None or figures[select] < meta.best:
        return replace(meta, now=figures, best=figures[select], best_step=meta.step, stale=0), True
    return replace(meta, now=figures, stale=meta.stale + 1), False


def _line(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
