"""What ends, fills or holds a process costs its item, not the run: on both engines, and across runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deadly
import pytest
from command_line import ROOT, SUPPORT
from engine_case import GOOD, by_name, go, policy, snapshot
from toy import CALLS, write_sources

from curation import Dataset
from curation.engine.attempts import CUT_SHORT, AttemptLog, verdict
from curation.engine.breaker import LOST
from curation.engine.engine_local import LocalEngine
from curation.engine.order import DOUBTED, SourceWork
from curation.engine.register import expand
from curation.engine.run import Engine, Job, Outcome, RunStoppedError, run
from curation.engine.step import StageSetupError, StepResult
from curation.engine.workflow import resolve
from curation.pythons.worker import close_all
from curation.report.explain import as_text, explain
from curation.storage.commits import Attempts, Commit
from curation.storage.store import Store
from schemas.settings.workflow import Resources

FIRST = {**GOOD, "long": "x" * 99}
"""Worked on before the others, as it is longer."""


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    close_all()


def go_deadly(folder: Path, out: Path, engine: Engine | None = None, *, retry: bool = False, **need: Any) -> Outcome:
    job = Job(str(out), resolve(deadly.workflow(**need)), policy(), retry)
    return run(job, engine or LocalEngine(), expand([str(folder)], str(out)))


ENGINES = ["local", "ray"]


def made(engine: str) -> Engine:
    if engine == "local":
        return LocalEngine()
    from curation.cluster.engine_ray import RayEngine

    return RayEngine()


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
    assert message.startswith(
        "3 attempts ended without a result: 3 x crashed (signal 11); the process of the stage ended by signal"
    )
    assert f"error in deadly: crashed (signal 11): {message}" in as_text(explain(dataset, unit, policy()))
    assert "deadly.py" in next((out / "faults").rglob("*.txt")).read_text(), "where it died"
    again = go_deadly(folder, out)
    assert deadly.tries(folder, "b") == 3 and lawful(again), "it is left alone from then on"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_passes_its_limits_is_quarantined_as_such(tmp_path: Path) -> None:
    """A hang, memory of the stage's own, and memory of what it starts."""
    specs = {name: {**GOOD, "die": how} for name, how in {"b": "hang", "c": "eat", "d": "let eat"}.items()}
    folder, out = write_sources(tmp_path / "in", a=FIRST, **specs), tmp_path / "out"
    outcome = go_deadly(folder, out, attempts=1, max_s=20.0, max_memory_gb=0.9 * deadly.EATEN_GB)
    assert found(out) == {
        "a": ("kept", None), "b": crash("timed out"), "c": crash("out of memory"), "d": crash("out of memory"),
    }  # fmt: skip
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


def go_people(tmp_path: Path, die: str, times: int, **need: Any) -> tuple[Outcome | str, int]:
    """Run with a stage over the whole dataset that ends; return what came of it, and the attempts at it."""
    folder = write_sources(tmp_path / "in", a=GOOD)
    workflow = deadly.with_people({"tries": str(tmp_path / "tries"), "die": die, "times": times}, **need)
    came: Outcome | str
    try:
        came = run(Job(str(tmp_path / "out"), resolve(workflow), policy()), LocalEngine(), expand([str(folder)]))
    except StageSetupError as e:
        came = str(e)
    return came, (tmp_path / "tries").stat().st_size


def test_a_stage_over_the_whole_dataset_is_tried_again_as_others_are(tmp_path: Path) -> None:
    outcome, attempts = go_people(tmp_path / "once", "segfault", 1)
    assert isinstance(outcome, Outcome) and outcome.steps["toy_identity", "ran"] == 1 and attempts == 2
    said, attempts = go_people(tmp_path / "always", "segfault", 1000, attempts=2)
    assert attempts == 2 and "2 attempts ended without a result: 2 x crashed (signal 11)" in str(said)
    assert "run the same command again" in str(said)


@pytest.mark.slow
def test_a_stage_over_the_whole_dataset_has_limits_as_others_have(tmp_path: Path) -> None:
    said, _ = go_people(tmp_path / "slow", "spin", 1000, attempts=1, max_s=120.0, max_cpu_s=0.5)
    assert "1 attempt ended without a result: timed out (CPU)" in str(said)
    said, _ = go_people(
        tmp_path / "large", "let eat", 1000, attempts=1, max_s=120.0, max_memory_gb=0.9 * deadly.EATEN_GB
    )
    assert "1 attempt ended without a result: out of memory" in str(said)


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
import json, os, sys
from pathlib import Path
os.environ["OPENLPM_TOY_RUN"] = str(os.getpid())
from test_crashes import go_deadly, made
go_deadly(Path(sys.argv[1]), Path(sys.argv[2]), made(sys.argv[3]), **json.loads(sys.argv[4]))
"""


@contextlib.contextmanager
def other_process(folder: Path, out: Path, engine: str = "local", **need: Any) -> Iterator[subprocess.Popen[str]]:
    """Run `go_deadly` in a process of its own; nothing of it is left on leaving."""
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{Path(__file__).parent}:{ROOT}"}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out), engine, json.dumps(need)]
    log = out.parent / "log"
    with log.open("w") as said, subprocess.Popen(command, env=env, stdout=said, stderr=said, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_is_killed_from_outside_costs_no_good_file_an_attempt(tmp_path: Path, engine: str) -> None:
    """As often as a file may end its process, while one is under way that works when it is left to."""
    kills = 2 if engine == "local" else 1
    slow, bad = {**FIRST, "die": "hang", "times": kills}, {**GOOD, "die": "segfault"}
    folder, out = write_sources(tmp_path / "in", a=slow, b=bad), tmp_path / "out"
    for n in range(kills):
        with other_process(folder, out, engine, attempts=kills) as process:
            while deadly.tries(folder, "a") == n:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
    with other_process(folder, out, engine, attempts=kills) as process:
        assert process.wait() == 0, (tmp_path / "log").read_text()
    assert found(out) == {"a": ("kept", None), "b": crash("crashed (signal 11)")}
    assert deadly.tries(folder, "a") == kills + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_kills_the_whole_run_each_time_is_left_for_last_and_then_quarantined(tmp_path: Path) -> None:
    specs = {"a": {**FIRST, "die": "run"}, "b": GOOD, "c": {**GOOD, "c": 1}}
    folder, out = write_sources(tmp_path / "in", **specs), tmp_path / "out"
    for n in range(3):
        with other_process(folder, out, interruptions=3) as process:
            assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
        done = len(list((out / "commits" / "toy_packing").rglob("*.json")))
        assert done == (2 if n >= DOUBTED else 0)
    outcome = go_deadly(folder, out, interruptions=3)
    killed = crash("crashed (its run or worker was killed)")
    assert found(out) == {"a": killed, "b": ("kept", None), "c": ("kept", None)} and lawful(outcome)
    assert deadly.tries(folder, "a") == 3
    go_deadly(folder, out, interruptions=3)
    assert deadly.tries(folder, "a") == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_ray_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, once = {**GOOD, "die": "segfault"}, {**GOOD, "die": "SIGKILL", "times": 1}
    others = {name: {**GOOD, "die": how} for name, how in {"d": "supervisor", "e": "let eat", "f": "hang"}.items()}
    folder, out = write_sources(tmp_path / "in", a=FIRST, b=bad, c=once, **others), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{ROOT}")
    limits = {"attempts": 2, "interruptions": 3, "max_s": 20.0, "max_memory_gb": 0.9 * deadly.EATEN_GB}
    outcome = go_deadly(folder, out, made("ray"), **limits)
    assert found(out) == {
        "a": ("kept", None), "b": crash("crashed (signal 11)"), "c": ("kept", None),
        "d": crash("crashed (its run or worker was killed)"), "e": crash("out of memory"), "f": crash("timed out"),
    }  # fmt: skip
    assert [deadly.tries(folder, name) for name in "bcdef"] == [2, 2, 3, 2, 2] and lawful(outcome)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_ray_a_worker_is_started_again_so_often_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.cluster import engine_ray

    folder, out = write_sources(tmp_path / "in", a={**GOOD, "die": "supervisor"}), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{ROOT}")
    monkeypatch.setattr(engine_ray, "RESTARTS", 2)
    with pytest.raises(RunStoppedError, match=r"a worker was lost 3 times.*run the same command again"):
        go_deadly(folder, out, made("ray"), interruptions=1000)
    assert deadly.tries(folder, "a") == 3


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
    assert AttemptLog(store, "now", False).cut_short(record) == 2
    AttemptLog(store, "now", False).begin("commits/a.json", record, Attempts(key="k", runs=[], ended=[]))
    assert json.loads((tmp_path / "commits" / "a.json").read_text())["attempts"]["runs"] == ["now"]


def test_ends_of_a_process_and_of_its_run_are_counted_apart() -> None:
    need, died = Resources(attempts=2, interruptions=4), "crashed (signal 11)"

    def of(*ended: str) -> str | None:
        return verdict(Attempts(key="k", runs=[""] * len(ended), ended=list(ended)), need)

    assert of() is of(died) is of(*[CUT_SHORT] * 3) is of(CUT_SHORT, died, CUT_SHORT) is None
    assert of(died, CUT_SHORT, died, CUT_SHORT) == died
    assert of(*[CUT_SHORT] * 4) == CUT_SHORT
    assert Resources().interruptions > 2 * Resources().attempts
