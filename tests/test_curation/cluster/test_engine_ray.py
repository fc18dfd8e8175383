"""The Ray engine against the local one: equal tables, equal refusals, nothing left running."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import deadly
import psutil
import pytest
import ray
from command_line import ROOT, SUPPORT
from engine_case import GOOD, by_name, go, policy, snapshot
from other_python import other_python
from toy import WORKFLOW, write_sources

from curation.cluster.engine_ray import RayEngine
from curation.cluster.lanes import Node, cpu_share, lanes, misfit, pipeline_lanes
from curation.engine.register import expand
from curation.engine.run import Job, RunStoppedError, run
from curation.engine.stage_call import MachineError
from curation.engine.step import StageSetupError
from curation.engine.workflow import resolve
from schemas.settings.workflow import Resources, StageSpec, Workflow

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def worker_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{ROOT}")


def ray_processes() -> set[int]:
    me = psutil.Process(os.getpid())
    return {p.pid for p in me.children(recursive=True) if "ray" in " ".join(p.cmdline()).lower()}


def test_same_tables_as_the_local_engine_in_two_pythons_and_nothing_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: dict[str, Any] = {f"s{i}": {**GOOD, "duration_s": 9.0 + i} for i in range(4)}
    specs["s1"]["fail"] = "toy_scan"
    specs["s2"]["fail_track"] = 0
    specs["long"] = {**GOOD, "duration_s": 60.0}
    folder = write_sources(tmp_path / "in", **specs)
    go(folder, tmp_path / "local")
    there = (f"toy_active.python={Path(other_python(tmp_path / 'env')).parents[1]}",)
    monkeypatch.setenv("OPENLPM_TOY_CALLS", str(tmp_path / "calls"))
    result = go(folder, tmp_path / "ray", engine=RayEngine(), sets=there, batch=4)
    assert "together" in (tmp_path / "calls").read_text(), "a batch forms across sources"
    assert snapshot(tmp_path / "ray", "tables", "commits", "clips") == snapshot(
        tmp_path / "local", "tables", "commits", "clips"
    )
    assert by_name(tmp_path / "ray") == by_name(tmp_path / "local")
    assert result.steps["toy_scan", "ran"] == 3 * 3 + 15
    assert not ray_processes()
    again = go(folder, tmp_path / "ray", engine=RayEngine(), sets=there)
    assert not any(status == "ran" for (stage, status), n in again.steps.items() if n)


def test_workers_of_a_local_ray_have_this_environment_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENLPM_MODELS", "/models")
    assert RayEngine(cpus=1)._connect()
    try:
        ask = ray.remote(os.getenv).remote
        told = ray.get([ask(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENLPM_MODELS")])
    finally:
        ray.shutdown()
    assert told == ["1", "1", "/models"]
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_missing_model_stops_before_the_first_item(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    with pytest.raises(StageSetupError, match=r"toy_pairing.*missing_model"):
        go(folder, tmp_path / "out", engine=RayEngine(), sets=("toy_pairing.broken_import=true",))
    assert not list((tmp_path / "out" / "tables").glob("sources/**/*.parquet"))
    impossible = WORKFLOW.model_copy(
        update={
            "stages": {
                k: v.model_copy(update={"resources": Resources(cpus=1, gpus=8)}) if k == "toy_active" else v
                for k, v in WORKFLOW.stages.items()
            }
        }
    )
    job = Job(str(tmp_path / "out"), resolve(impossible), policy())
    with pytest.raises(RunStoppedError, match=r"toy_active asks for 1 CPUs, 8 GPUs on one machine"):
        run(job, RayEngine(), expand([str(folder)]))
    assert not ray_processes()


def test_the_only_machine_that_fails_ends_the_run_with_the_words_of_its_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, job = write_sources(tmp_path / "in", a={**GOOD, "die": "ENOSPC"}), tmp_path / "out"
    with pytest.raises(MachineError, match=r"'deadly' on .*No space left.*nothing was quarantined") as raised:
        run(Job(str(job), resolve(deadly.workflow()), policy()), RayEngine(), expand([str(folder)]))
    assert raised.value.node
    assert "Traceback" not in capfd.readouterr().err
    assert not ray_processes()


def test_lanes_group_contiguous_stages_with_equal_resources() -> None:
    stages = dict(WORKFLOW.stages)
    stages["toy_active"] = StageSpec(use="toy:ToyActive", resources=Resources(cpus=2, gpus=1))
    pipeline = resolve(Workflow(name="x", policy="default", stages=stages))
    before, windowed, after = pipeline_lanes(pipeline)
    assert [lane.name for lane in (*before, *windowed, *after)] == [
        "toy_probe",
        "toy_scan",
        "toy_tracks",
        "toy_active",
        "toy_pairing+toy_packing",
    ]
    assert lanes((), windowed=False) == []
    assert cpu_share([*windowed, *after], 2.0) == pytest.approx(2 / 5)


def test_misfits_are_named() -> None:
    pipeline = resolve(WORKFLOW)
    before, windowed, after = pipeline_lanes(pipeline)
    small = [Node(0.5, 0, 1.0, {})]
    assert "toy_scan asks for 1 CPUs" in str(misfit(windowed, small))
    assert misfit([*before, *windowed, *after], [Node(2, 0, 8.0, {})]) is None
