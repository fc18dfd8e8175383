"""What the join of windows holds is in the commits: where it is lost in the middle, the run goes on as planned."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from command_line import ROOT, SUPPORT
from engine_case import GOOD, by_name, go, policy, snapshot
from toy import WORKFLOW, write_sources

from curation.cluster.engine_ray import RayEngine
from curation.cluster.lane_worker import passed
from curation.cluster.workers import END_FOR_MEMORY, Begun, Workers, counted
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, Outcome, SourceWork, run
from curation.engine.step import StepResult
from curation.engine.workflow import Pipeline, resolve
from schemas.settings.workflow import StageSpec


class Counted(RayEngine):
    """Counts how often it is given work."""

    rounds = 0

    def run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        self.rounds += 1
        super().run(job, work, report)


@pytest.fixture(autouse=True)
def worker_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{ROOT}")


def slow_scans() -> Pipeline:
    stages = {**WORKFLOW.stages, "toy_scan": StageSpec(use="slow_scan:SlowScan")}
    return resolve(WORKFLOW.model_copy(update={"stages": stages}))


def kill_join() -> int:
    """Kill the process of the join; return how many there were."""
    found = [p for p in psutil.Process().children(recursive=True) if "MapBatches(Join)" in " ".join(p.cmdline())]
    for process in found:
        process.send_signal(signal.SIGKILL)
    return len(found)


def go_slow(folder: Path, out: Path, engine: RayEngine, step: Callable[[StepResult], None]) -> Outcome:
    job = Job(str(out), slow_scans(), policy())
    return run(
        job, engine, expand([str(folder)]), event=lambda kind, value: step(value) if kind == "step" else None
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_join_that_is_lost_in_the_middle_asks_the_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "duration_s": 80.0}, b={**GOOD, "fail": "toy_scan"})
    monkeypatch.setenv("OPENLPM_TOY_SLOW", "0.5")
    scanned: list[str] = []
    killed: list[int] = []

    def step(result: StepResult) -> None:
        scanned.append(result.stage)
        if scanned.count("toy_scan") >= 5 and not killed:
            killed.append(kill_join())

    engine, workers = Counted(), list[Workers]()
    engine._event = lambda kind, value: workers.append(value) if kind == "workers" else None
    outcome = go_slow(folder, tmp_path / "out", engine, step)
    assert killed == [1] and scanned.count("toy_scan") >= 20
    assert engine.rounds == 1, "nothing is planned again"
    assert outcome.pending == 0
    assert {n: o for n, (o, _, _) in by_name(tmp_path / "out").items()} == {"a.mp4": "kept", "b.mp4": "quarantined"}
    monkeypatch.delenv("OPENLPM_TOY_SLOW")
    run(Job(str(tmp_path / "local"), slow_scans(), policy()), LocalEngine(), expand([str(folder)]))
    whole = ("tables", "commits", "clips")
    assert snapshot(tmp_path / "out", *whole) == snapshot(tmp_path / "local", *whole)
    assert any(w.at_work.get("toy_scan") for w in workers) and workers[0].cpus > 0


def test_windows_that_have_passed_are_told_by_the_commits(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "fail": "toy_scan"})
    go(folder, tmp_path / "out")
    job = Job(str(tmp_path / "out"), resolve(WORKFLOW), policy())
    stepper = job.stepper()
    a, b = sorted((tmp_path / "out").glob("commits/toy_tracks/*/*.json"))[0].stem, ""
    assert passed(stepper, a) == {0, 1, 2}
    for source in (p.stem for p in (tmp_path / "out").glob("commits/toy_probe/*/*.json")):
        b = b if source == a else source
    assert passed(stepper, b) == {0, 1, 2}, "what is in quarantine has nothing to wait for"
    next((tmp_path / "out").glob(f"commits/toy_scan/*/{a}.w0001.json")).unlink()
    assert passed(job.stepper(), a) == {0, 2}
    assert passed(job.stepper(), "f" * 16) == set()


def test_workers_are_counted_by_what_became_of_them() -> None:
    begun = [
        Begun("1", "scan", "here", False), Begun("2", "scan", "there", False), Begun("3", "scan", "there", True),
        Begun("4", "speech", "there", False),
    ]  # fmt: skip
    told = counted(begun, {"2": END_FOR_MEMORY, "4": "SYSTEM_ERROR", "9": END_FOR_MEMORY}, 8.0)
    assert told == Workers({"scan": 2, "speech": 0}, 1, ["scan on there"], 8.0)
    assert str(told) == "2 workers (2 scan) on 8 CPUs, 1 started again, 1 ended for want of memory (scan on there)"
    assert str(counted([], {}, 2.0)) == "0 workers on 2 CPUs"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ, reason="asks for the memory that tests beside it take; run it alone"
)
def test_a_worker_that_ray_ends_for_want_of_memory_is_named_and_its_work_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deadly

    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "die": "eat", "times": 1})
    now = psutil.virtual_memory()
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(now.total - now.available + 2.5 * 2**30) / now.total:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    workers: list[Workers] = []
    engine = RayEngine(event=lambda kind, value: workers.append(value) if kind == "workers" else None)
    outcome = run(Job(str(tmp_path / "out"), resolve(deadly.workflow()), policy()), engine, expand([str(folder)]))
    assert workers[-1].memory_kills and workers[-1].restarts, workers[-1]
    assert "for want of memory" in str(workers[-1])
    assert outcome.pending == 0 and outcome.quarantined == 0
