"""A long source over several workers, and which source comes first, on Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import ROOT, SUPPORT
from engine_case import GOOD, policy
from meeting import begun
from toy import WORKFLOW, write_sources

from curation.cluster.engine_ray import RayEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from schemas.settings.workflow import StageSpec


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_windows_of_a_long_source_are_worked_on_by_two_workers_and_it_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{ROOT}")
    monkeypatch.setenv("OPENLPM_TOY_MEETING", str(meeting))
    large = {f"large{n}": {**GOOD, "duration_s": 3.0, "pad": "x" * 9999, "n": n} for n in range(2)}
    folder = write_sources(tmp_path / "in", **large, long={**GOOD, "duration_s": 24.0})
    stages = {**WORKFLOW.stages, "toy_scan": StageSpec(use="meeting:Meeting")}
    job = Job(str(tmp_path / "out"), resolve(WORKFLOW.model_copy(update={"stages": stages})), policy())
    outcome = run(job, RayEngine(cpus=4), expand([str(folder)]))
    assert not outcome.quarantined and not outcome.pending
    assert len(begun(meeting / "long")) > 1, "workers"
    first = {name: min(begun(meeting / name).values()) for name in ("long", *large)}
    assert min(first, key=lambda name: first[name]) == "long", "most bytes are not most seconds"
