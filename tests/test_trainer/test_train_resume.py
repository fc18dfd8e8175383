"""Interrupted runs continue to the bit, in the same process count or another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import train_case as case

from lpm_train import checkpoint
from lpm_train.checkpoint import CheckpointError
from lpm_train.config import Config, override
from lpm_train.loop import TrainingError, train
from lpm_train.stage import make_stage

ROOT = Path(__file__).parents[2]
PATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"


def losses(out: Path) -> dict[int, float]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {r["step"]: r["loss"] for r in records if "loss" in r}


def run(settings: Config, out: Path, **options: Any) -> Any:
    stage = make_stage(settings, start=case.model(dtype=torch.float32).state_dict())
    return train(stage, settings, case.Source(), out, show=lambda _: None, **options)


@pytest.mark.parametrize("stage", ["pretrain", "consistency", "distill"])
def test_a_continued_run_is_the_same_run(tmp_path: Path, stage: str) -> None:
    whole = override(case.config(), [f"run.stage={stage}", "run.steps=6", "run.save_every=3", "distill.critic_steps=2"])
    run(whole, tmp_path / "whole", heldout=[case.batch(["x", "y"])])
    run(override(whole, ["run.steps=3"]), tmp_path / "parts", heldout=[case.batch(["x", "y"])])
    result = run(whole, tmp_path / "parts", heldout=[case.batch(["x", "y"])])
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ours, theirs = (checkpoint.load_weights(checkpoint.path_of(tmp_path / d, 6))[1] for d in ("parts", "whole"))
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert result.meta.step == 6 and result.meta.first and not list((tmp_path / "parts").glob("partial_*"))


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    settings = override(case.config(), ["run.steps=1"])
    run(settings, tmp_path)
    for change, name in (("model.theta=5.0", "model"), ("data.frames=9", "data"), ("run.seed=3", "run.seed")):
        with pytest.raises(CheckpointError, match=f"another {name}"):
            run(override(settings, [change]), tmp_path)


def test_a_half_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    settings = override(case.config(), ["run.steps=2", "run.save_every=1"])
    run(settings, tmp_path)
    half = tmp_path / "partial_00000003"
    shutil.copytree(checkpoint.path_of(tmp_path, 2), half)
    assert checkpoint.steps(tmp_path) == [1, 2]
    run(override(settings, ["run.steps=3"]), tmp_path)
    assert checkpoint.steps(tmp_path) == [1, 2, 3] and not half.exists()


def test_the_best_checkpoint_is_kept_and_found(tmp_path: Path) -> None:
    settings = override(
        case.config(), ["run.steps=8", "run.eval_every=1", "run.save_every=1", "run.keep=2", "run.select=wanted"]
    )
    wanted = iter([9.0, 5.0, 1.0, 4.0, 4.0, 4.0, 3.0, 4.0, 4.0])
    heldout = [case.batch(["x"])]
    result = run(settings, tmp_path, heldout=heldout, measure=lambda _: {"wanted": next(wanted)})
    assert result.meta.best_step == 2 and checkpoint.steps(tmp_path) == [2, 7, 8]
    assert checkpoint.find(tmp_path).name == "step_00000002"
    settings = override(settings, ["run.patience=2"])
    wanted = iter([9.0, 5.0, 1.0, 4.0, 4.0])
    stopped = run(settings, tmp_path / "again", heldout=heldout, measure=lambda _: {"wanted": next(wanted)})
    assert stopped.stopped == "patience" and stopped.meta.step == 4
    with pytest.raises(TrainingError, match="is not measured"):
        run(override(settings, ["run.select=nothing"]), tmp_path / "other", heldout=heldout)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.find(tmp_path / "none")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower optim\.lr"):
        run(override(case.config(), ["optim.lr=1e30", "run.steps=5", "optim.clip=0"]), tmp_path)


def worker(out: Path, stage: str, steps: int, *changes: str, ranks: int = 1, kill_at: int = 0) -> int:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    env = os.environ | {"PYTHONPATH": PATH, "KILL_AT": str(kill_at), "OMP_NUM_THREADS": "1"}
    env["MKL_CBWR"] = "COMPATIBLE"  # else MKL's sums depend on where in memory a shard was gathered to
    command = [sys.executable, *launch, "-m", "train_worker", str(out), stage, str(steps), *changes]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=kill_at > 0, timeout=240).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("causal", ()),
        ("distill", ("distill.rollout=16", "distill.loss_frames=4")),
        ("distill", ("stream.refine=true", "distill.role=refiner")),
    ],
)
def test_killed_and_continued_on_one_rank_or_two(tmp_path: Path, stage: str, changes: tuple[str, ...]) -> None:
    assert worker(tmp_path / "whole", stage, 8, *changes) == 0
    assert worker(tmp_path / "one", stage, 8, *changes, kill_at=5) == -9
    assert checkpoint.steps(tmp_path / "one")[-1] == 4
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert worker(tmp_path / "one", stage, 8, *changes) == 0
    assert worker(tmp_path / "two", stage, 8, *changes, ranks=2) == 0
    whole = losses(tmp_path / "whole")
    assert len(whole) == 8
    assert losses(tmp_path / "one") == whole
    assert losses(tmp_path / "two") == whole
    ema = {name: torch.load(tmp_path / name / "ema.pt", weights_only=True) for name in ("whole", "one", "two")}
    assert any(w.shape[0] % 2 for w in ema["whole"].values())  # uneven shards are among them
    for name, weight in ema["whole"].items():
        assert torch.equal(ema["one"][name], weight) and torch.equal(ema["two"][name], weight), name


@pytest.mark.slow
def test_half_precision_and_checkpointing_over_two_ranks(tmp_path: Path) -> None:
    changes = ("run.bf16=true", "run.checkpointing=true")
    assert worker(tmp_path / "half", "causal", 4, *changes, ranks=2) == 0
    assert worker(tmp_path / "full", "causal", 4) == 0
    half, full = losses(tmp_path / "half"), losses(tmp_path / "full")
    assert half != full and half == pytest.approx(full, rel=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray warns of its own defaults
def test_ray_workers_train_like_torchrun(tmp_path: Path) -> None:
    import ray
    from train_worker import main

    from lpm_train.extras.ray import launch

    assert worker(tmp_path / "one", "causal", 3) == 0
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": PATH}})
    try:
        arguments = {"out": tmp_path / "ray", "stage": "causal", "steps": 3}
        launch(main, arguments, 2, gpu=False, cpus=1, storage=str(tmp_path / "storage"))
    finally:
        ray.shutdown()
    assert losses(tmp_path / "ray") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
