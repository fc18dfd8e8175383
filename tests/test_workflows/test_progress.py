"""What a run shows while it works: stages, an estimate, how workers are."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hostile import make_plain
from rich.console import Console
from toy import WORKFLOW

from curation.cluster.workers import Workers
from curation.engine.run import SourceWork
from curation.engine.workflow import resolve
from curation.plan.rates import Rates, StageRate
from curation.runs.steps import StepResult
from workflows import catalog, progress
from workflows.progress import RunProgress

STAGES = ("toy_probe", "toy_scan", "toy_tracks", "toy_active", "toy_pairing", "toy_packing")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", -1.0)
    return io.StringIO()


def shown(said: io.StringIO) -> RunProgress:
    return RunProgress(Console(file=said, width=300), resolve(WORKFLOW))


def test_an_estimate_is_there_before_the_first_step(
    tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = Rates(
        workflow="toy", policy="toy", video_s=1.0, sources=1, measured_on="here", bytes_out=1.0,
        stages=[StageRate(stage=s, grain="source", cpu_s=11.0) for s in STAGES],
    )  # fmt: skip
    monkeypatch.setattr(catalog, "rates", lambda workflow: rates)
    file = make_plain(tmp_path / "a.mp4")
    with shown(said) as shows:
        shows.event("work", [SourceWork("0" * 16, str(file), file.stat().st_size)])
        assert "1 sources have work to do, about 2 min left" in said.getvalue()
        shows.event("workers", Workers({"toy_scan": 2}, 0, (), 4.0))
    told = re.search(r"0/1 sources done, about (\d+) s left, 2 workers \(2 toy_scan\) on 4 CPUs", said.getvalue())
    assert told is not None and 0 < int(told[1]) <= 33, "a quarter of it, without what has passed"


def test_workers_restarts_and_ends_for_want_of_memory_are_shown(said: io.StringIO) -> None:
    with shown(said) as shows:
        shows.event("work", [SourceWork("0" * 16, "a.mp4", 1), SourceWork("1" * 16, "b.mp4", 1)])
        shows.event("workers", Workers({"toy_scan": 2}, 0, (), 2.0))
        shows.event("step", StepResult("toy_scan", "0" * 16, 0, "ran", 1.0, 1.0, 1.0))
        shows.event("workers", Workers({"toy_scan": 1}, 1, ("toy_scan on m1",), 2.0))
        shows.event("workers", Workers({"toy_scan": 1}, 1, ("toy_scan on m1",), 2.0))
    text = said.getvalue()
    assert text.count("Ray ended a worker for want of memory: toy_scan on m1; its work is done again") == 1
    assert "0/2 sources done (toy_scan 1)" in text
    assert "1 workers (1 toy_scan) on 2 CPUs, 1 started again, 1 ended for want of memory (toy_scan on m1)" in text
