"""The local engine: one item after another, in a worker's process, or in this one for debugging."""

from __future__ import annotations

import os
from collections.abc import Callable

from curation.engine.order import SourceWork
from curation.engine.run import Job, RunStoppedError
from curation.engine.step import Stepper, StepResult
from curation.engine.workflow import ResolvedStage
from curation.stage import WorkItem


class LocalEngine:
    """Runs on this machine, one step at a time."""

    name = "local"

    def run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        """Bring every source through the pipeline; models are all loaded before the first item."""
        for resolved in job.pipeline.stages:
            _fits(resolved)
        stepper = job.stepper()
        preflight(stepper, job.pipeline.stages)
        for source in work:
            with stepper.store.recalling():
                _run_source(stepper, source, report)
        stepper.close()


def preflight(stepper: Stepper, stages: tuple[ResolvedStage, ...]) -> None:
    """Load every stage's models, so that what is missing stops the run before its first item."""
    for resolved in stages:
        stepper.ready(resolved)


def _run_source(stepper: Stepper, source: SourceWork, report: Callable[[StepResult], None]) -> None:
    """Bring one source through all source and window stages."""
    pipeline = stepper.pipeline
    for resolved in pipeline.before:
        report(stepper.step(resolved, WorkItem(source.source_id), source.path))
    for item in stepper.window_items(source.source_id):
        for resolved in pipeline.windowed:
            report(stepper.step(resolved, item, source.path))
    stepper.prune_windows(source.source_id)
    for resolved in pipeline.after:
        report(stepper.step(resolved, WorkItem(source.source_id), source.path))


def _fits(resolved: ResolvedStage) -> None:
    need, have = resolved.resources, os.cpu_count() or 1
    if need.cpus > have:
        raise RunStoppedError(
            f"stage {resolved.name!r} asks for {need.cpus:g} CPUs, this machine has {have}; "
            "lower resources.cpus in the workflow, or run on a cluster with --engine ray --address ..."
        )
    if need.gpus > 0:
        gpus = resolved.ask(_gpus)
        if gpus < need.gpus:
            raise RunStoppedError(
                f"stage {resolved.name!r} asks for {need.gpus:g} GPUs, this machine has {gpus}; "
                "choose a CPU workflow, or run on a cluster with --engine ray --address ..."
            )


def _gpus(_: ResolvedStage) -> int:
    """Return how many GPUs a stage's torch can use."""
    import torch

    return torch.cuda.device_count()
