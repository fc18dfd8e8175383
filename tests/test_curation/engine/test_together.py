"""Stages that measure items of several sources at once: the same tables, and one that fails harms no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_case import GOOD, by_name, go, snapshot
from toy import CALLS, WORKFLOW, write_sources

from curation.engine.order import SourceWork
from curation.engine.run import Job
from curation.engine.step import StepResult
from curation.engine.workflow import WorkflowError, resolve
from curation.stage import WorkItem
from schemas.settings.workflow import Resources


class BreadthFirst:
    """Runs each stage on all that is there before the next one."""

    name = "breadth first"

    def run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        stepper = job.stepper()
        whole = [(WorkItem(w.source_id), w.path) for w in work]
        for resolved in job.pipeline.before:
            self._all(report, stepper.steps(resolved, whole))
        windows = [(item, w.path) for w in work for item in stepper.window_items(w.source_id)]
        for resolved in job.pipeline.windowed:
            self._all(report, stepper.steps(resolved, windows))
        for resolved in job.pipeline.after:
            self._all(report, stepper.steps(resolved, whole))

    def _all(self, report: Callable[[StepResult], None], results: list[StepResult]) -> None:
        for result in results:
            report(result)


@pytest.mark.parametrize("broken", [{}, {"fail": "toy_active"}])
def test_together_gives_what_one_by_one_gives(tmp_path: Path, broken: dict[str, str]) -> None:
    specs = {f"s{i}": {**GOOD, "duration_s": 9.0 + i} for i in range(4)}
    specs["s1"] |= broken  # in the middle of a batch: then all are measured one by one
    specs["s2"]["fail_track"], specs["s3"]["faces"] = 0, [40]
    folder = write_sources(tmp_path / "in", **specs)
    go(folder, tmp_path / "alone")
    go(folder, tmp_path / "together", engine=BreadthFirst())
    assert CALLS["toy_active: 3 together"] == 1, "nothing is asked of a source without a live track"
    assert (CALLS["toy_active"] > 3) == bool(broken)
    assert snapshot(tmp_path / "together", "tables", "commits", "clips") == snapshot(
        tmp_path / "alone", "tables", "commits", "clips"
    )
    assert by_name(tmp_path / "together") == by_name(tmp_path / "alone")
    again = go(folder, tmp_path / "together", engine=BreadthFirst())
    assert not any(status == "ran" for (_, status), n in again.steps.items() if n)


def test_a_stage_that_cannot_is_refused() -> None:
    stages = dict(WORKFLOW.stages)
    stages["toy_tracks"] = stages["toy_tracks"].model_copy(update={"resources": Resources(batch=2)})
    with pytest.raises(WorkflowError, match=r"'toy_tracks' measures one item at a time .*leave out resources.batch"):
        resolve(WORKFLOW.model_copy(update={"stages": stages}))
