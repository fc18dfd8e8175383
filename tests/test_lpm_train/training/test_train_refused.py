"""What cannot be meant is refused in a sentence: another codec, a network of NaN, another shape, a wrong stage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import taew_case as taew
import torch
import train_case as case
from train_case import trained
from train_data_case import SMALL, dataset

from lpm_train.cli import run as train_run
from lpm_train.config import ConfigError, override
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE
from lpm_train.resolve import resolve
from lpm_train.session import load_model, must_share_codec, run_stage
from lpm_train.tools.codec_fit import fit_codec
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import CheckpointError
from lpm_train.training.loop import TrainingError


def codec(file: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    TinyVideoAE(TinyConfig(stride=(4, 8, 8), channels=4, width=4, blocks=1)).save(file)
    return file


def test_another_codec_under_the_same_name_is_refused(tmp_path: Path) -> None:
    file, kept, root, run = codec(tmp_path / "codec.pt", 0), tmp_path / "kept.pt", str(dataset()), tmp_path / "run"
    kept.write_bytes(file.read_bytes())
    own = ["data.codec=tiny", f"data.codec.path={file}"]
    train_run(root, run, "toy", settings=[*SMALL, *own])
    step = checkpoint.find(run)
    was = checkpoint.read_meta(step).loader["fingerprint"]["encoders"]["codec"]["weights"][:12]
    load_model(run)
    codec(file, 1)
    with pytest.raises(CheckpointError, match=rf"codec tiny .*codec\.pt \({was}\), and this one is tiny .*codec\.pt"):
        load_model(run)
    with pytest.raises(CheckpointError, match="was trained on latents of the codec"):
        train_run(root, tmp_path / "causal", None, "causal", run)
    same = [f"data.codec.path={kept}"]
    load_model(run, settings=same)
    train_run(root, tmp_path / "causal", None, "causal", run, settings=same)
    with pytest.raises(CheckpointError, match="whose latents mean something else"):
        load_model(tmp_path / "causal", settings=[f"data.codec.path={file}"])
    file.unlink()
    load_model(run)  # whoever needs the codec says that it is gone


def test_the_tiny_autoencoder_for_wan_stands_for_wans_own_where_it_is_used(tmp_path: Path) -> None:
    file = taew.written(tmp_path / "taew2_1.safetensors", taew.weights())
    wan = {"class": "lpm_train.extras.codec_public:WanCodec", "settings": {}, "weights": "5" * 64}
    config = override(case.config(), ["model.channels=16"])
    stage = case.make_stage(config)
    meta = checkpoint.Meta(step=0, loader={"fingerprint": {"encoders": {"codec": wan}}})
    step = checkpoint.save(tmp_path / "run", stage, config, meta, keep=1)
    asked = override(config, ["data.codec=taew", f"data.codec.path={file}"]).data
    must_share_codec(step, asked)
    with pytest.raises(CheckpointError, match=r"5{12}\), and this one is taew"):
        must_share_codec(step, asked, asked.codec.build())  # to train on it


def test_another_shape_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    config = resolve("toy", str(dataset()), settings=SMALL)
    run_stage(config, tmp_path)
    for change in ("model.width=32", "model.heads=1", "model.depth=1"):
        with pytest.raises(CheckpointError, match="was written with another model"):
            run_stage(override(config, [change, "run.steps=2"]), tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("runs")
    for stage in ("pretrain", "causal", "distill"):
        trained(override(case.config(), [f"run.stage={stage}", "run.steps=0"]), tmp_path / stage)
    return tmp_path


@pytest.mark.parametrize(
    ("init", "teacher", "looks", "said"),
    [
        ("pretrain", "pretrain", "pretrain", r"--init .* is of the stage pretrain, which sees both directions"),
        ("causal", "distill", "pretrain", r"--teacher .* is of the stage distill, and distill\.teacher=pretrain asks"),
        ("causal", "causal", "pretrain", r"or set distill\.teacher=causal"),
        ("causal", "pretrain", "causal", r"asks for a judge of the stage causal"),
        ("distill", None, "pretrain", r"without --teacher, --init .* judges, and is of the stage distill"),
        # These go on to where there is no data.
        ("causal", "pretrain", "pretrain", "manifest"),
        ("distill", "pretrain", "pretrain", "manifest"),
        ("causal", None, "pretrain", "manifest"),
        ("causal", "causal", "causal", "manifest"),
    ],
)
def test_distillation_follows_a_causal_model_and_has_a_judge(
    runs: Path, init: str, teacher: str | None, looks: str, said: str
) -> None:
    config = override(case.config(), ["run.stage=distill", f"distill.teacher={looks}", f"data.root={runs}"])
    with pytest.raises(Exception, match=said) as e:
        run_stage(config, runs / "out", runs / init, runs / teacher if teacher else None)
    assert isinstance(e.value, ConfigError) == (said != "manifest")


def test_without_a_teacher_the_run_of_init_judges_and_goes_on_to(tmp_path: Path) -> None:
    root, at = str(dataset()), {name: tmp_path / name for name in ("pretrain", "causal", "distill")}

    def judges(stage: str, init: str = "", teacher: str = "", steps: int = 0) -> dict[str, str]:
        preset, small = ("toy", SMALL) if stage == "pretrain" else (None, [])
        settings = [*small, f"run.steps={steps}"]
        train_run(root, at[stage], preset, stage, at.get(init), teacher=at.get(teacher), settings=settings)
        found = checkpoint.read_meta(checkpoint.find(at[stage])).judges
        return {role: named["place"] for role, named in found.items()}

    assert not judges("pretrain")
    assert not judges("causal", "pretrain", teacher="pretrain")  # such a stage has no judge
    wanted = {"teacher": str(checkpoint.find(at["causal"]))}
    assert judges("distill", "causal") == wanted
    assert judges("distill", steps=1) == wanted and checkpoint.steps(at["distill"]) == [0, 1]


def test_figures_that_are_no_numbers_are_never_the_best(tmp_path: Path) -> None:
    settings = override(case.config(), ["run.eval_every=1", "run.save_every=1", "run.select=wanted"])
    wanted, heldout = iter([9.0, 5.0, float("nan")]), [case.batch(["x"])]
    with pytest.raises(TrainingError, match=r"wanted is nan at step 2: lower optim\.lr"):
        trained(settings, tmp_path, heldout=heldout, measure=lambda _: {"wanted": next(wanted)})
    assert checkpoint.steps(tmp_path) == [1] and checkpoint.read_meta(checkpoint.find(tmp_path)).best == 5.0
    broken = override(case.config(), ["run.steps=1", "optim.lr=1e30", "optim.clip=0"])
    with pytest.raises(TrainingError, match=r"heldout_loss is (nan|inf) at step 1: lower optim\.lr"):
        trained(broken, tmp_path / "broken", heldout=heldout)
    assert not checkpoint.steps(tmp_path / "broken")
    beside = {"wanted": 1.0, "other": float("nan")}  # which may have had nothing to be measured on
    done = trained(settings, tmp_path / "beside", heldout=heldout, measure=lambda _: beside)
    assert done.meta.best == 1.0 and done.meta.step == 6


@pytest.mark.parametrize("steps", [1, 4])
def test_a_codec_that_became_no_number_is_not_written(tmp_path: Path, steps: int) -> None:
    shape, out = TinyConfig(channels=4, width=4), tmp_path / "codec.pt"
    with pytest.raises(TrainingError, match=r"lower --lr; nothing was written"):
        fit_codec(dataset(), out, shape, (8, 16, 16), steps=steps, batch=1, lr=1e30)
    assert not out.exists()


def test_a_run_that_trains_nothing_keeps_its_settings(tmp_path: Path) -> None:
    settings, said = override(case.config(), ["run.steps=2"]), list[str]()

    def go(*changes: str) -> list[str]:
        said.clear()
        changed, stage = override(settings, changes), case.make_stage(settings)
        case.train(stage, changed, case.Source(), tmp_path, show=said.append)
        return [line for line in said if line.startswith("settings changed")]

    assert not go()
    before = (tmp_path / "config.json").read_bytes()
    (line,) = go("optim.lr=0.5")
    assert "optim.lr 0.01 -> 0.5" in line and "no step is left to train" in line
    assert (tmp_path / "config.json").read_bytes() == before
    (line,) = go("optim.lr=0.005", "run.steps=3")
    assert line == "settings changed since step 2: optim.lr 0.01 -> 0.005, run.steps 2 -> 3"
    assert (tmp_path / "config.json").read_bytes() != before


def test_an_interrupted_run_says_where_it_goes_on(tmp_path: Path) -> None:
    class Cut(case.Source):
        def __next__(self) -> Any:
            if self.cursor == at:
                raise KeyboardInterrupt
            return super().__next__()

    settings, said = case.config(), list[str]()
    for at, want in ((1, "before the first checkpoint: the same command"), (3, "goes on with .*step_00000002")):
        with pytest.raises(KeyboardInterrupt):
            case.train(case.make_stage(settings), settings, Cut(), tmp_path / str(at), show=said.append)
        assert re.search(want, said[-1])


def test_nothing_behind_the_sign_is_the_empty_text() -> None:
    config = override(case.config(), ["data.precomputed=a", "data.where=b"])
    emptied = override(config, ["data.precomputed=", "data.where= ", "run.checkpoints="])
    assert (emptied.data.precomputed, emptied.data.where, emptied.run.checkpoints) == ("", "", "")
    assert override(config, ["distill.critic_betas="]).distill.critic_betas is None
    assert override(config, ["data.picture="]).data.picture.choice == "none"
    assert override(config, ["data.batch=", "data.batch=8"]).data.batch == 8
    with pytest.raises(
        ConfigError, match=r"'data\.batch=': no value stands behind the =; write one, e\.g\. data\.batch=4"
    ):
        override(config, ["data.batch="])
    with pytest.raises(ConfigError, match=r"path: .*got None: write a value"):
        override(config, ["data.codec=tiny", "data.codec.path="])
