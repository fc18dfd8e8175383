"""Measure some files by the workflow `check`, for commands that then ask the tables."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from curation.dataset import Dataset
from curation.engine.register import Named
from curation.engine.run import Job
from curation.engine.run import run as run_job
from curation.engine.workflow import resolve
from schemas.settings.workflow import Workflow
from workflows import catalog
from workflows.commands import jobs
from workflows.progress import RunProgress

WORKFLOW = "check"


def measured(
    err: Console, named: list[Named], target: str, *, engine: str = "local", address: str | None = None,
    overrides: list[str] | None = None, up_to: str | None = None,
) -> Dataset:  # fmt: skip
    """Run the workflow over files, up to one of its stages, and return the dataset.

    Raises what a run raises.
    """
    from workflows.stand_ins import sentence, stand_ins  # its models' runtimes take a second to import

    spec = catalog.workflow(WORKFLOW)
    if up_to is not None:
        names = list(spec.stages)
        kept = {name: spec.stages[name] for name in names[: names.index(up_to) + 1]}
        spec = Workflow.model_validate({**spec.model_dump(), "stages": kept})
    pipeline = resolve(spec, overrides or [], folder=catalog.folder(WORKFLOW))
    warnings = tuple(sentence(weight, weaker) for weight, weaker in stand_ins(pipeline).items())
    for said in warnings:
        err.print(f"warning: {said}", markup=False, highlight=False, style="yellow")
    job = replace(Job(target, pipeline, catalog.policy(spec.policy)), warnings=warnings)
    with RunProgress(err, pipeline) as progress:
        run_job(job, jobs.engine_named(engine, address), named, event=progress.event)
    return Dataset(target)
