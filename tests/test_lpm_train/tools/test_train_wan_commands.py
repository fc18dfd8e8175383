"""A user's commands from Wan weights to a stream: begin, causal, distil, stream; and what low-rank training keeps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_case as case
import wan_case as wan
from torch.distributed.checkpoint import FileSystemReader
from train_ranks import environment
from warm_command import OF_THE_TRAINER, OF_WAN, warm

from lpm_train.cli import run
from lpm_train.config import Config, ConfigError, override
from lpm_train.data.loader import Loader
from lpm_train.network.base_names import pieces
from lpm_train.proof.synthetic_shards import write_dataset
from lpm_train.session import load_model, make_encoders
from lpm_train.tools import cli as tools
from lpm_train.tools.media import write_png
from lpm_train.tools.stream_files import stream_files
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import find, load_weights, path_of
from lpm_train.training.loop import train
from lpm_train.training.stage import make_stage

ROOT = Path(__file__).parents[3]


def losses(out: Path) -> dict[int, float]:
    lines = (out / "log.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith("\n")]  # one may just be written
    return {r["step"]: r["loss"] for r in records if "loss" in r}


def lora_settings(tmp_path: Path, *changes: str) -> Config:
    """Put a base that fits `train_case` into its settings, with low-rank changes."""
    if not (tmp_path / "base").exists():
        wan.network(text_dim=case.DT, in_channels=case.C, out_channels=case.C).save_pretrained(tmp_path / "base")
    settings = wan.settings(tmp_path / "base", case.config(), rank=2)
    return override(settings, ["run.steps=4", "run.save_every=2", "distill.critic_steps=2", *changes])


@pytest.mark.slow
def test_one_frozen_base_serves_all_roles_and_checkpoints_leave_it_out(tmp_path: Path) -> None:
    settings = lora_settings(tmp_path, "run.stage=distill")
    begun = make_stage(lora_settings(tmp_path))
    start = {n: p.detach().clone() for n, p in begun.student.named_parameters() if n not in begun.student.frozen}
    stage = make_stage(settings, start=start)
    base = {p.ours for p in pieces(settings.model)}
    assert stage.student.frozen == base
    student, *others = (dict(stage.roles[n].named_parameters()) for n in ("student", "critic", "teacher"))
    for name in base:
        assert not student[name].requires_grad and all(o[name] is student[name] for o in others)
    held = {id(p) for o in stage.optimizers["student"] for g in o.param_groups for p in g["params"]}
    assert held == {id(p) for n, p in student.items() if n not in base}
    kept = {n: student[n].clone() for n in base}
    train(stage, settings, case.Source(1, frames=4), tmp_path / "whole", show=lambda _: None)
    assert all(torch.equal(student[n], kept[n]) for n in base)
    assert any((student[n] != start[n]).any() for n in start if n.endswith(".up"))
    halves = [override(settings, ["run.steps=2"]), settings]
    for part in halves:  # goes on without what it started from: the frozen base is read again
        train(make_stage(part, start=start), part, case.Source(1, frames=4), tmp_path / "parts", show=lambda _: None)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert not base & load_weights(tmp_path / "parts")[1].keys()
    written = FileSystemReader(path_of(tmp_path / "parts", 4) / "tensors").read_metadata().state_dict_metadata
    assert {f"roles.{role}.blocks.0.qkv.up" for role in ("student", "critic")} <= written.keys()
    assert not {f"roles.{role}.{name}" for role in stage.roles for name in base} & written.keys()
    assert not any(name.startswith("roles.teacher.") for name in written)


def test_low_rank_training_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="changes a frozen base: name one with --base"):
        make_stage(override(case.config(), ["lora.rank=2"]))
    with pytest.raises(ConfigError, match=r"a block has no layer 'text\.kq'; did you mean"):
        make_stage(lora_settings(tmp_path, "lora.targets=['text.kq']"))
    settings = lora_settings(tmp_path)
    other = wan.network(text_dim=case.DT, in_channels=case.C, out_channels=case.C, num_layers=2)
    other.save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match="holds other weights than this run began with"):
        make_stage(settings)


def in_own_process(arguments: list[str], kill_after: Path | None = None) -> None:
    """Run `lpm train run`; with a log, kill it (-9) when that has three steps."""
    env = environment()
    if kill_after is None:
        imported = warm(*OF_THE_TRAINER, *OF_WAN)
        ended = imported.run("lpm_train.cli", ["run", *arguments], env, str(ROOT))
        assert not ended.returncode, ended.stderr
        return
    command = [sys.executable, "-m", "lpm_train.cli", "run", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        if kill_after.exists() and len(losses(kill_after.parent)) >= 3:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    _, said = process.communicate()
    assert process.returncode == -9, said.decode()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_from_weights_of_wan_to_a_stream(tmp_path: Path) -> None:
    """A base that is shown a picture, trained in bfloat16 and killed in its midst."""
    channels, data = 96, tmp_path / "data"
    write_dataset(data, identities=3, held_out=1, clips=2, n_frames=24)
    network = wan.network(**{**wan.I2V, "in_channels": 2 * channels + 4}, out_channels=channels)
    network.save_pretrained(tmp_path / "wan" / "transformer")
    common = [
        "data.frames=16", "data.height=32", "data.width=32", "data.batch=2", "data.codec.stride=[2, 4, 4]",
        "data.audio.steps_per_frame=1", "data.audio.n_mels=16", f"data.text.width={wan.TEXT}", "data.text.length=512",
        "data.picture=clip-vision", f"data.picture.directory={wan.clip_vision(tmp_path / 'clip')}", "run.bf16=true",
        "stream.block=2", "stream.window=4", "lora.rank=2", "run.device=cpu", "data.workers=1", "run.save_every=1",
        "run.eval_every=9", "distill.critic_steps=2",
    ]  # fmt: skip
    base = f"wan:{tmp_path / 'wan'}"
    options: dict[str, Any] = {"preset": "toy", "base": base, "settings": [*common, "run.steps=0"]}
    assert run(str(data), tmp_path / "begun", **options) == 0
    config, model = load_model(tmp_path / "begun")
    with Loader(config.data, make_encoders(config.data)) as loader:
        batch = next(loader)
    t = torch.full(batch.x_BFCHW.shape[:2], 0.6)
    assert batch.cond.given_BFCHW is not None and batch.cond.picture_BIP is not None
    want = wan.theirs(network, batch.x_BFCHW, 0.6, batch.cond)
    with torch.no_grad():
        ours = model(batch.x_BFCHW, t, batch.cond).v_BFCHW
    assert float((ours - want).abs().max()) < 1e-4 * max(1.0, float(want.abs().max()))

    options["settings"] = [*common, "run.steps=2"]
    assert run(str(data), tmp_path / "pretrain", **options) == 0
    assert run(str(data), tmp_path / "causal", stage="causal", init=tmp_path / "pretrain") == 0
    distil = [str(data), "--stage", "distill", "--init", str(tmp_path / "causal"), "--teacher",
              str(tmp_path / "pretrain"), "--set", "run.steps=6", "--out"]  # fmt: skip
    in_own_process([*distil, str(tmp_path / "whole")])
    in_own_process([*distil, str(tmp_path / "student")], kill_after=tmp_path / "student" / "log.jsonl")
    assert 2 <= checkpoint.steps(tmp_path / "student")[-1] < 6
    in_own_process([*distil, str(tmp_path / "student")])
    assert losses(tmp_path / "student") == losses(tmp_path / "whole") and len(losses(tmp_path / "whole")) == 6

    config, model = load_model(tmp_path / "student")
    write_png(tmp_path / "face.png", np.full((32, 32, 3), 90, np.uint8))
    said = stream_files(model, config, tmp_path / "face.png", tmp_path / "out.mp4", seconds=1.0)
    assert "25 frames" in said and (tmp_path / "out.mp4").stat().st_size > 500
    assert tools.export(find(tmp_path / "student"), tmp_path / "export") == 0
    assert "6 clips of the split train" in (tmp_path / "export" / "README.md").read_text()
