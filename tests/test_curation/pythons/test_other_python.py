"""A stage may name its own Python: it runs there on both engines, and nothing else changes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command_line import ROOT, SUPPORT, lpm
from engine_case import GOOD, go, policy, snapshot
from other_python import other_python, pretend
from speech_media import need
from toy import CALLS, WORKFLOW, write_sources
from where_case import BESIDE, WHERE

from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT
from annotators.speech.voices import CAMPPLUS_WEIGHT
from curation import Dataset
from curation.cluster.engine_ray import RayEngine
from curation.cluster.lanes import pipeline_lanes
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Engine, Job, Outcome, run
from curation.engine.workflow import Pipeline, resolve
from curation.pythons import launch
from curation.pythons.find import OtherPythonError, check, located
from curation.pythons.worker import Worker, WorkerDiedError, close_all
from curation.runs.steps import log_files, logged
from curation.storage.store import Store
from schemas.settings.use import OURS
from schemas.settings.workflow import StageSpec

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return other_python(tmp_path_factory.mktemp("other") / "env")


@pytest.fixture(autouse=True)
def worker_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))  # the toy stages; our own packages are found without it
    yield
    close_all()


def named(folder: Path, python: str) -> Pipeline:
    """A workflow with a stage of a user's own, which names its Python relative to the workflow's folder."""
    folder.mkdir(exist_ok=True)
    (folder / "where.py").write_text(WHERE)
    (folder / "beside.py").write_text(BESIDE)
    there = os.path.relpath(Path(python).parents[1], folder)
    stages = {
        "toy_probe": StageSpec(use="toy:ToyProbe", python=there),
        "where": StageSpec(use="where:Where", python=there),
    }
    return resolve(WORKFLOW.model_copy(update={"stages": stages}), folder=folder)


def go_named(pipeline: Pipeline, folder: Path, out: Path, engine: Engine | None = None) -> Outcome:
    CALLS.clear()
    job = Job(str(out), pipeline, policy())
    return run(job, engine or LocalEngine(), expand([str(folder)], str(out)))


def quarantined(out: Path) -> list[tuple[str, str, str, str]]:
    sql = "SELECT name, error, message, traceback FROM errors JOIN inputs USING (source_id) ORDER BY name"
    return Dataset(str(out)).query(sql).fetchall()


def seen(out: Path) -> list[tuple[str, str, int]]:
    sql = "SELECT name, python, pid FROM where_it_ran JOIN inputs USING (source_id) ORDER BY name"
    return Dataset(str(out)).query(sql).fetchall()


def steps(out: Path, stage: str) -> list[dict[str, object]]:
    store = Store(str(out))
    (run,) = sorted(store.directories("runs"))[-1:]
    return [dict(step) for step in logged(store, log_files(store, run.rpartition("/")[2])) if step["stage"] == stage]


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_stage_runs_in_the_python_it_names(tmp_path: Path, python: str, engine: str) -> None:
    before = set(psutil.Process().children(recursive=True))
    made: Engine = LocalEngine() if engine == "local" else RayEngine()
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "fail": "where"}, c=GOOD)
    pipeline = named(tmp_path / "mine", python)
    result = go_named(pipeline, folder, tmp_path / "out", made)
    assert [(n, e) for n, e, _, _ in quarantined(tmp_path / "out")] == [("b.mp4", "ValueError")]
    found = seen(tmp_path / "out")
    assert [(n, p) for n, p, _ in found] == [("a.mp4", python), ("c.mp4", python)]
    if engine == "local":  # on Ray each worker has a process of its own, and which of them work is not said
        assert len({pid for _, _, pid in found}) == 1, "its process stays warm"
    recorded = json.loads((tmp_path / "out" / "workflow.json").read_text())["pipeline"]["stages"]["where"]
    assert recorded["provenance"]["prefix"] == str(Path(python).parents[1]) and recorded["python"] == python
    (first, *_) = [s for s in steps(tmp_path / "out", "where") if s["status"] == "ran"]
    assert first["said"] == ["out of memory with 2 at once; going on with 1"]
    assert engine == "ray" or ("printed of" in str(first["printed"]) and first["cpu_s"])
    assert not any(status == "skipped" for _, status in result.steps)
    if engine == "local":
        again = go_named(pipeline, folder, tmp_path / "out", made)
        assert not any(status == "ran" for (_, status), n in again.steps.items() if n)
    close_all()
    assert not set(psutil.Process().children(recursive=True)) - before


def test_its_tables_are_those_of_the_same_stage_at_home(tmp_path: Path, python: str) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "fail": "toy_tracks"}, c={**GOOD, "fail_track": 0})
    go(folder, tmp_path / "here")
    stages = ("toy_tracks", "toy_active", "toy_packing", "toy_identity")
    there = tuple(f"{stage}.python={Path(python).parents[1]}" for stage in stages)
    go(folder, tmp_path / "there", sets=there)
    assert not {"toy_tracks", "toy_active", "toy_packing", "toy_identity"} & CALLS.keys()
    assert snapshot(tmp_path / "there", "tables", "commits", "clips") == snapshot(
        tmp_path / "here", "tables", "commits", "clips"
    )
    moved = go(None, tmp_path / "there", sets=())  # the same work, now all at home
    assert not any(status == "ran" for (_, status), n in moved.steps.items() if n)


def test_a_stage_of_another_python_has_a_lane_of_its_own(python: str) -> None:
    _, _, after = pipeline_lanes(resolve(WORKFLOW, [f"toy_active.python={python}"]))
    assert [(lane.name, lane.python) for lane in after] == [
        ("toy_tracks", ""), ("toy_active", python), ("toy_pairing+toy_packing", ""),
    ]  # fmt: skip
    assert after[1].at_home().python == ""


def test_a_process_that_dies_costs_its_item_and_is_started_again(tmp_path: Path, python: str) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "signal": "SIGSEGV"}, c={**GOOD, "x": 1})
    go_named(named(tmp_path / "mine", python), folder, tmp_path / "out")
    ((name, error, message, where),) = quarantined(tmp_path / "out")
    assert (name, error) == ("b.mp4", "crashed (signal 11)") and "ended by signal SIGSEGV" in message
    assert where.startswith('  File "code/where.py", line')
    assert [n for n, _, _ in seen(tmp_path / "out")] == ["a.mp4", "c.mp4"]


def test_networks_run_on_one_thread_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for said, expected in (None, "1"), ("3", "3"):
        if said is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", said)
        worker = Worker(sys.executable)
        try:
            assert worker.ask(os.getenv, "OMP_NUM_THREADS") == expected
        finally:
            worker.close()


def test_a_python_that_does_not_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    other = other_python(tmp_path / "env")
    check(other, ray=True)
    with pytest.raises(OtherPythonError, match=r"no Python at .*none.*make setup-full"):
        check(located("none", tmp_path))
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\necho \'{"python": "3.9"}\'\n')
    old.chmod(0o755)
    with pytest.raises(OtherPythonError, match=rf"old is Python 3.9 and this is Python 3.{sys.version_info[1]}; make"):
        check(str(old))
    old.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(OtherPythonError, match="cannot be used"):
        check(str(old))
    pretend(tmp_path / "env", "ray", "1.0")
    check(other)
    with pytest.raises(OtherPythonError, match=r"has Ray 1.0 and this Python has Ray .*pip install ray=="):
        check(other, ray=True)
    pretend(tmp_path / "env", "pyarrow", "1.0")
    write_sources(tmp_path / "in", a=GOOD)
    (tmp_path / "toys.yaml").write_text(YAML)
    there = ("--workflow", str(tmp_path / "toys.yaml"), "--out", str(tmp_path / "out"), "--engine", "local")
    done = lpm("run", str(tmp_path / "in"), *there)
    assert done.returncode == 2 and "has PyArrow 1.0 and this Python has PyArrow" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


YAML = """
name: toys
policy: default
stages:
  toy_probe: {use: "toy:ToyProbe", python: env}
"""


def test_what_cannot_import_openlpm_says_why(tmp_path: Path) -> None:
    other = other_python(tmp_path / "env")
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "duckdb.py").write_text("raise ImportError('no duckdb here')")
    with pytest.raises(OtherPythonError, match=r"cannot run openlpm: ImportError: no duckdb here; install"):
        Worker(other).ask(os.getpid)


def test_a_worker_answers_raises_and_dies(python: str) -> None:
    w = Worker(python)
    assert w.ask(str.upper, "a") == "A" and w.ask(os.getpid) == w.ask(os.getpid) != os.getpid()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        w.ask(os.listdir, "nowhere")
    with pytest.raises(WorkerDiedError, match="with exit code 3"):
        w.ask(os._exit, 3)
    w.printed()
    w.ask(print, "aloud")
    assert w.printed() == "aloud\n"
    before = w.ask(os.getpid)
    w.close()
    assert not psutil.pid_exists(before)
    assert sorted(launch.PACKAGES) == sorted(OURS)


DRIVER = """
import os, signal, sys, time
from curation.pythons.worker import worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
w = worker(sys.argv[1])
print(w.ask(os.getpid), flush=True)
w.ask(time.sleep, 600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_the_run_is_ended(python: str, how: signal.Signals) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, python]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as driver:
        assert driver.stdout is not None
        process = psutil.Process(int(driver.stdout.readline()))
        driver.send_signal(how)
    for _ in range(600):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its driver")


HIDES = """
import importlib.metadata as m, sys
whole = m.version
def version(name):
    if name.startswith("pyannote"):
        raise m.PackageNotFoundError(name)
    return whole(name)
m.version, sys.modules["pyannote.audio"] = version, None
"""
ASKS = """
import sys
from annotators.optional_parts import PartNotInstalledError
from curation.engine.stage_call import Stages
from curation.engine.workflow import resolve
from curation.storage.store import Store
from workflows import catalog

whole = catalog.workflow("conversation")
python, out = sys.argv[1:]
sets = ["speech.diarizer=pyannote"]
here = next(s for s in resolve(whole, sets).stages if s.name == "speech")
there = next(s for s in resolve(whole, [*sets, f"speech.python={python}"]).stages if s.name == "speech")
try:
    here.provenance()
except PartNotInstalledError as e:
    print("here:", e)
print("there:", there.provenance()["pyannote.audio"])
stages = Stages(Store(out))
stages.ready(there)
stages.close()
print("ready")
"""


@pytest.mark.full
def test_a_small_environment_runs_a_stage_of_the_full_one(tmp_path: Path) -> None:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    small = other_python(tmp_path / "small")
    (site,) = (tmp_path / "small").glob("lib/python*/site-packages")
    (site / "hides.py").write_text(HIDES)
    (site / "hides.pth").write_text("import hides\n")  # some Pythons have a `sitecustomize` of their own
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [small, "-c", ASKS, sys.prefix, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second, third = done.stdout.splitlines()
    assert first.startswith("here: diarizer=pyannote needs pyannote.audio") and third == "ready"
    assert second == f"there: {importlib.metadata.version('pyannote.audio')}"
