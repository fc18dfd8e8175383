"""What ends, fills or holds a process costs its item, not the run: on both engines, and across runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deadly
import pytest
from command_line import ROOT, SUPPORT
from engine_case import GOOD, by_name, go, policy, snapshot
from toy import CALLS, write_sources

from curation import Dataset
from curation.engine.attempts import AttemptLog
from curation.engine.breaker import LOST
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Engine, Job, Outcome, SourceWork, run
from curation.engine.step import StageSetupError, StepResult
from curation.engine.workflow import resolve
from curation.pythons.worker import close_all
from curation.report.explain import as_text, explain
from curation.storage.commits import Attempts, Commit
from curation.storage.store import Store

FIRST = {**GOOD, "long": "x" * 99}
"""Worked on before the others, as it is longer."""


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    close_all()


def go_deadly(folder: Path, out: Path, engine: Engine | None = None, *, retry: bool = False, **need: Any) -> Outcome:
    job = Job(str(out), resolve(deadly.workflow(**need)), policy(), retry)
    return run(job, engine or LocalEngine(), expand([str(folder)], str(out)))


def found(out: Path) -> dict[str, tuple[str, str | None]]:
    return {n.removesuffix(".mp4"): (o, r) for n, (o, r, _) in by_name(out).items()}


def lawful(outcome: Outcome) -> bool:
    return all(b.total == sum(b.counts.values()) for b in outcome.balances)


def crash(how: str) -> tuple[str, str]:
    return "quarantined", how


def test_a_stage_that_dies_is_tried_again_and_then_quarantined(tmp_path: Path) -> None:
    bad, once = {**GOOD, "die": "segfault"}, {**GOOD, "die": "SIGKILL", "times": 1}
    folder, out = write_sources(tmp_path / "in", a=FIRST, b=bad, c=once), tmp_path / "out"
    outcome = go_deadly(folder, out)
    assert found(out) == {"a": ("kept", None), "b": crash("crashed (signal 11)"), "c": ("kept", None)}
    assert (deadly.tries(folder, "b"), deadly.tries(folder, "c")) == (3, 2) and lawful(outcome)
    assert not CALLS["deadly"], "stages run in another process"
    dataset = Dataset(str(out))
    ((unit, message),) = dataset.query("SELECT source_id, message FROM errors").fetchall()
    three = ", ".join(["crashed (signal 11)"] * 3)
    assert message.startswith(f"3 attempts ended without a result: {three}; the process of the stage ended by signal")
    assert f"error in deadly: crashed (signal 11): {message}" in as_text(explain(dataset, unit, policy()))
    assert "deadly.py" in next((out / "faults").rglob("*.txt")).read_text(), "where it died"
    again = go_deadly(folder, out)
    assert deadly.tries(folder, "b") == 3 and lawful(again), "it is left alone from then on"


@pytest.mark.slow
def test_what_passes_its_limits_is_quarantined_as_such(tmp_path: Path) -> None:
    specs = {"b": {**GOOD, "die": "hang"}, "c": {**GOOD, "die": "eat"}}
    folder, out = write_sources(tmp_path / "in", a=FIRST, **specs), tmp_path / "out"
    outcome = go_deadly(folder, out, attempts=1, max_s=20.0, max_memory_gb=0.8)
    assert found(out) == {"a": ("kept", None), "b": crash("timed out"), "c": crash("out of memory")}
    assert lawful(outcome)


def test_cpu_time_has_a_limit_of_its_own_and_counts_what_a_stage_starts(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a=FIRST, b={**GOOD, "die": "spin"}), tmp_path / "out"
    outcome = go_deadly(folder, out, attempts=1, max_s=120.0, max_cpu_s=1.0)
    assert found(out) == {"a": ("kept", None), "b": crash("timed out (CPU)")}
    assert lawful(outcome)


@pytest.mark.parametrize("in_process", [True, False])
def test_what_a_stage_starts_is_counted_with_it(tmp_path: Path, in_process: bool) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "die": "burn"})
    steps: list[StepResult] = []
    job = Job(str(tmp_path / "out"), resolve(deadly.workflow()), policy(), in_process=in_process)
    run(
        job,
        LocalEngine(),
        expand([str(folder)]),
        event=lambda kind, what: steps.append(what) if kind == "step" else None,
    )
    (burnt,) = (s.cpu_s for s in steps if s.stage == "deadly")
    assert burnt >= deadly.BURNT_S > sum(s.cpu_s for s in steps if s.stage == "toy_tracks")


@pytest.mark.slow
def test_tables_are_those_of_a_run_in_one_process(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "fail": "toy_tracks"}, c={**GOOD, "fail_track": 0})
    go(folder, tmp_path / "here")
    go(folder, tmp_path / "apart", in_process=False)
    assert not CALLS
    whole = ("tables", "commits", "clips")
    assert snapshot(tmp_path / "apart", *whole) == snapshot(tmp_path / "here", *whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_whose_every_item_kills_its_worker_ends_and_the_next_goes_on(tmp_path: Path) -> None:
    specs = {f"b{n}": {**GOOD, "n": n, "die": "SIGABRT", "long": "x" * 9} for n in range(LOST)}
    folder, out = write_sources(tmp_path / "in", **specs, a=GOOD), tmp_path / "out"
    with pytest.raises(StageSetupError, match=rf"'deadly' ended its process on each of the first {LOST} sources"):
        go_deadly(folder, out, attempts=1)
    outcome = go_deadly(folder, out, attempts=1)
    assert found(out)["a"] == ("kept", None) and lawful(outcome)
    assert set(found(out).values()) == {("kept", None), crash("crashed (signal 6)")}


SCRIPT = """
import os, sys
from pathlib import Path
os.environ["OPENLPM_TOY_RUN"] = str(os.getpid())
from test_crashes import go_deadly
go_deadly(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_kills_the_whole_run_each_time_is_quarantined(tmp_path: Path) -> None:
    folder, out = (
        write_sources(tmp_path / "in", a=FIRST, b={**GOOD, "die": "run"}, c={**GOOD, "c": 1}),
        tmp_path / "out",
    )
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{Path(__file__).parent}:{ROOT}"}
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", SCRIPT, folder, out], env=env, check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    outcome = go_deadly(folder, out)
    killed = crash("crashed (its run or worker was killed)")
    assert found(out) == {"a": ("kept", None), "b": killed, "c": ("kept", None)} and lawful(outcome)
    assert deadly.tries(folder, "b") == 3
    go_deadly(folder, out, retry=False)
    assert deadly.tries(folder, "b") == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_ray_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.cluster.engine_ray import RayEngine

    bad, once = {**GOOD, "die": "segfault"}, {**GOOD, "die": "SIGKILL", "times": 1}
    folder, out = write_sources(tmp_path / "in", a=FIRST, b=bad, c=once), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{ROOT}")
    outcome = go_deadly(folder, out, RayEngine())
    assert found(out) == {"a": ("kept", None), "b": crash("crashed (signal 11)"), "c": ("kept", None)}
    assert (deadly.tries(folder, "b"), deadly.tries(folder, "c")) == (3, 2) and lawful(outcome)


class Loses:
    """An engine that loses the last source of its first `times` rounds."""

    name = "loses"

    def __init__(self, times: int) -> None:
        self.times, self.rounds = times, 0

    def run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        self.rounds += 1
        LocalEngine().run(job, work[: -1 if self.rounds <= self.times else None], report)


def test_what_an_engine_leaves_behind_is_planned_again(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=FIRST, b=GOOD)
    engine = Loses(1)
    assert go(folder, tmp_path / "out", engine=engine).pending == 0 and engine.rounds == 2
    engine = Loses(1000)
    outcome = go(folder, tmp_path / "pending", engine=engine)
    assert outcome.pending and lawful(outcome) and engine.rounds == 2, "it ends when nothing moves"
    assert {n: o for n, (o, _) in found(tmp_path / "pending").items()} == {"a": "kept", "b": "pending"}


def test_which_attempts_count(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_json("runs/stopped/outcome.json", {"outcome": "KeyboardInterrupt"})
    runs = ["stopped", "killed", "crashed", "now"]
    ended = ["", "", "crashed (signal 11)", ""]
    record = Commit("deadly", "0" * 16, "", status="begun", attempts=Attempts(key="k", runs=runs, ended=ended))
    killed = "crashed (its run or worker was killed)"
    assert AttemptLog(store, "now", False).before(record, "k")["ended"] == [killed, "crashed (signal 11)", killed]
    assert AttemptLog(store, "now", True).before(record, "k")["ended"] == [killed], "--retry forgets those of old runs"
    assert AttemptLog(store, "now", False).before(record, "other")["ended"] == []
    AttemptLog(store, "now", False).begin("commits/a.json", record, Attempts(key="k", runs=[], ended=[]))
    assert json.loads((tmp_path / "commits" / "a.json").read_text())["attempts"]["runs"] == ["now"]
