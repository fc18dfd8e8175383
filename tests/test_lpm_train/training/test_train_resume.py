"""Interrupted runs continue to the bit, in the same process count or another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import train_case as case
from torch.distributed.checkpoint import FileSystemReader
from train_case import trained as run
from train_ranks import PATH, losses, worker

from lpm_train.config import override
from lpm_train.session import run_stage
from lpm_train.storage import DataError
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import CheckpointError
from lpm_train.training.checkpoint_files import Folder
from lpm_train.training.loop import TrainingError, train
from lpm_train.training.stage import make_stage


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
    changes = ("model.theta=5.0", "data.frames=9", "run.seed=3", "optim.muon=true")
    for change, name in zip(changes, ("model", "data", "run.seed", "optim.muon"), strict=True):
        with pytest.raises(CheckpointError, match=f"another {name}"):
            run(override(settings, [change]), tmp_path)


def test_a_run_is_known_by_the_settings_that_it_goes_on_with(tmp_path: Path) -> None:
    settings = override(case.config(), ["run.steps=1"])
    run(settings, tmp_path)
    longer = override(settings, ["run.steps=2", "optim.lr=0.0005", "run.save_every=1"])
    run(longer, tmp_path)
    assert checkpoint.read_config(tmp_path) == longer, "the next start and the next stage begin with them"
    with pytest.raises(CheckpointError, match=r"another run\.seed"):
        run(override(longer, ["run.seed=3", "run.steps=9"]), tmp_path)
    assert checkpoint.read_config(tmp_path) == longer, "what was refused changes nothing"


def test_what_a_run_begins_with_is_looked_for_before_any_part_is_made(tmp_path: Path) -> None:
    parts = ["run.stage=causal", "data.codec=tiny", "data.codec.path=none.pt"]
    config = override(case.config(), [*parts, f"data.root={tmp_path}"])
    for name in ("init", "teacher", "backbone"):
        named: Any = {"init": tmp_path, name: tmp_path / "nothing"}
        with pytest.raises(CheckpointError, match="no checkpoint in"):
            run_stage(config, tmp_path / "out", **named)
    with pytest.raises(DataError, match=r"no manifest\.parquet under"):
        run_stage(override(config, ["run.stage=pretrain"]), tmp_path / "out")


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


def test_judges_are_named_and_not_kept(tmp_path: Path) -> None:
    first = override(case.config(), ["run.steps=1", "run.checkpoints=" + str(tmp_path / "kept")])
    run(first, tmp_path / "first")
    settings = override(first, ["run.stage=distill", "run.steps=2", "run.save_every=1", 'run.checkpoints=""'])
    begin = checkpoint.Saved(tmp_path / "first")
    assert begin.place == str(tmp_path / "kept" / "first" / "step_00000001")

    def train_on(steps: int, teacher: Any = begin) -> Any:
        longer = override(settings, [f"run.steps={steps}"])
        stage = make_stage(longer, start=begin, teacher=teacher)
        return train(stage, longer, case.Source(), tmp_path / "student", show=lambda _: None)

    train_on(2)
    last = checkpoint.path_of(tmp_path / "student", 2)
    judge = checkpoint.read_meta(last).judges["teacher"]
    assert judge["place"] == begin.place
    written = FileSystemReader(last / "tensors").read_metadata().state_dict_metadata
    assert {n.split(".")[1] for n in written if n.startswith("roles.")} == {"student", "critic"}
    other = dict(checkpoint.load_weights(begin.path)[1])
    other["patch_out.bias"] = other["patch_out.bias"].nextafter(torch.tensor(9.0))
    with pytest.raises(CheckpointError, match=r"the teacher of .* was .*step_00000001.*name the former"):
        train_on(3, other)
    train_on(3)


@pytest.mark.slow
def test_checkpoints_on_an_object_store(tmp_path: Path, bucket: str) -> None:
    there = f"s3://{bucket}/runs"
    settings = override(case.config(), ["run.steps=4", "run.save_every=1", "run.keep=2", f"run.checkpoints={there}"])
    run(override(settings, ['run.checkpoints=""']), tmp_path / "local")
    run(override(settings, ["run.steps=2"]), tmp_path / "first")
    home = checkpoint.home(tmp_path / "first", there)
    store = Folder(home).store
    store.write("step_00000003/tensors/__0_0.distcp", b"of a write that was cut")
    assert home == f"{there}/first" and checkpoint.steps(home) == [1, 2]
    run(settings, tmp_path / "first")
    assert checkpoint.steps(home) == [3, 4] and not list((tmp_path / "first").glob("step_*"))
    assert losses(tmp_path / "first") == losses(tmp_path / "local")
    assert checkpoint.find(tmp_path / "first") == checkpoint.find(home) == f"{home}/step_00000004"
    _, ours = checkpoint.load_weights(home)
    _, theirs = checkpoint.load_weights(tmp_path / "local")
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


def test_what_goes_wrong_in_the_background_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Folder, "finish", full)
    with pytest.raises(CheckpointError, match=r"step_00000002 was not written: .*No space left"):
        run(override(case.config(), ["run.steps=6"]), tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower optim\.lr"):
        run(override(case.config(), ["optim.lr=1e30", "run.steps=5", "optim.clip=0"]), tmp_path)


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
    assert checkpoint.steps(tmp_path / "one")[-1] in (3, 4)  # the last may just have been written
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
def test_training_goes_on_while_a_checkpoint_is_written_and_a_kill_leaves_the_one_before(tmp_path: Path) -> None:
    changes = ("run.save_every=2", "run.eval_every=9", "run.keep=1")
    assert worker(tmp_path / "whole", "causal", 6, *changes) == 0
    assert worker(tmp_path / "cut", "causal", 6, *changes, kill_at=5, hang_at=4) == -9
    assert max(losses(tmp_path / "cut")) == 5 and checkpoint.steps(tmp_path / "cut") == [2]
    assert worker(tmp_path / "cut", "causal", 6, *changes) == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert checkpoint.steps(tmp_path / "cut") == [6] and not list((tmp_path / "cut").glob("partial_*"))


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


def test_a_folder_that_another_rank_makes_meanwhile_is_no_error(tmp_path: Path) -> None:
    """PyArrow finds no folder, looks whether there is one, finds it, and raises what it met first."""
    folder, asked = Folder(tmp_path / "run"), []

    class Late:
        def get_file_info(self, what: object) -> list[object]:
            asked.append(what)
            if len(asked) == 1:
                raise FileNotFoundError("Cannot list directory")
            return []

    folder.store.filesystem = Late()
    assert folder.whole() == [] and len(asked) >= 2
