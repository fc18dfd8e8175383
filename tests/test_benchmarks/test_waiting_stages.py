"""What waits in place of the real stages is to be to the engine what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine_case import outcomes
from waiting_stages import STAGES, workflow, write_sources

from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from workflows import catalog


def declared(cls: Any) -> tuple[Any, ...]:
    return cls.grain, {x.name for x in cls.reads}, {x.name for x in cls.writes}, cls.gate, cls.gate_mode


def test_they_read_write_and_are_gated_as_those_of_conversation() -> None:
    real = {s.name: s.cls for s in resolve(catalog.workflow("conversation")).stages if s.cls.grain != "dataset"}
    assert {s.name: declared(s) for s in STAGES} == {name: declared(cls) for name, cls in real.items()}


def test_they_bring_a_source_to_clips(tmp_path: Path) -> None:
    write_sources(tmp_path / "in", [20])
    job = Job(str(tmp_path / "out"), resolve(workflow()), catalog.policy("default"), in_process=True)
    run(job, LocalEngine(), expand([str(tmp_path / "in")]))
    found = {outcome for outcome, _ in outcomes(tmp_path / "out", "segments").values()}
    assert {"kept", "filtered"} == found
