"""A frozen base that a run in bfloat16 holds in bfloat16: what is so held, and that no figure can tell it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import train_case as case
import wan_case as wan
from train_ranks import losses, worker

from lpm_train.config import Config, override
from lpm_train.network.base_names import pieces
from lpm_train.session import load_model
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import Meta, save
from lpm_train.training.stage import Stage, make_stage
from lpm_train.training.start import build

HALF = "run.bf16=true"


def lora_settings(place: Path, *changes: str) -> Config:
    """Put a base that fits `train_case` into its settings, with low-rank changes."""
    if not (place / "base").exists():
        wan.network(text_dim=case.DT, in_channels=case.C, out_channels=case.C).save_pretrained(place / "base")
    return override(wan.settings(place / "base", case.config(), rank=2), ["distill.critic_steps=2", *changes])


def widened(stage: Stage, settings: Config) -> Stage:
    """Hold the base of a stage as its file has it, in float32."""
    plain = dict(build(settings, None, {}).named_parameters())
    with torch.no_grad():
        for model in stage.roles.values():
            for name, p in model.named_parameters():
                p.data = plain[name].data if name in model.frozen else p.data
    return stage


def test_matrices_of_the_blocks_are_halved_and_nothing_that_is_trained(tmp_path: Path) -> None:
    settings = lora_settings(tmp_path, "run.stage=distill")
    plain = {n: p.detach() for n, p in build(settings, None, {}).named_parameters()}
    frozen = {p.ours for p in pieces(settings.model)}
    inner = {n for n in frozen if n.startswith("blocks.") and n.endswith(".weight") and plain[n].dim() == 2}
    assert len(inner) == 7 * settings.model.depth, "qkv, out, three of text, two of the MLP"
    assert {p.dtype for m in make_stage(settings).roles.values() for p in m.parameters()} == {torch.float32}
    stage = make_stage(override(settings, [HALF]))
    for model in stage.roles.values():
        for name, p in model.named_parameters():
            assert p.dtype == (torch.bfloat16 if name in inner else torch.float32), name
            assert name not in frozen or torch.equal(p, plain[name].to(p.dtype)), name
    assert {w.dtype for w in stage.ema.weights.values()} == {torch.float32}
    assert not inner & stage.ema.weights.keys()


@pytest.mark.parametrize("stage", ["pretrain", "distill"])
def test_a_run_in_bfloat16_is_to_the_bit_that_over_a_base_in_float32(stage: str, tmp_path: Path) -> None:
    settings = lora_settings(tmp_path, f"run.stage={stage}", HALF)
    half, wide = make_stage(settings), widened(make_stage(settings), settings)
    given = case.batch(list("ab"), 4)
    t = torch.full(given.x_BFCHW.shape[:2], 0.4)
    with half.averaged() as ours, wide.averaged() as theirs:  # new branches are zero, and this is the base alone
        v, want = (m(given.x_BFCHW, t, given.cond).v_BFCHW for m in (ours, theirs))
    assert torch.equal(v, want)
    steps = [[s.step(given, i) for i in range(3)] for s in (half, wide)]
    assert steps[0] == steps[1] and len({found["loss"] for found in steps[0]}) == 3
    learnt = dict(wide.student.named_parameters())
    moved = [n for n, p in half.student.named_parameters() if n not in half.student.frozen and n.endswith(".up")]
    assert moved and all(torch.equal(half.student.get_parameter(n), learnt[n]) for n in moved)
    assert any(learnt[n].abs().max() > 0 for n in moved)


def test_what_is_used_afterwards_is_merged_in_float32_from_the_base_as_it_lies(tmp_path: Path) -> None:
    settings = lora_settings(tmp_path, HALF)
    stage = make_stage(settings)
    stage.step(case.batch(list("ab"), 4), 0)
    save(tmp_path / "run", stage, settings, Meta(step=1), 1)
    weights = dict(load_model(tmp_path / "run")[1].named_parameters())
    assert {w.dtype for w in weights.values()} == {torch.float32}
    plain, ema = dict(build(settings, None, {}).named_parameters()), stage.ema.weights
    for name in stage.student.frozen:
        layer, want = name.removesuffix(".weight"), plain[name]
        if f"{layer}.up" in ema:
            change = ema[f"{layer}.up"] @ ema[f"{layer}.down"]
            assert change.abs().max() > 0
            want = want + settings.lora.scale * change
        assert torch.equal(weights[name], want), name


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_ranks_train_over_halves_and_go_on_after_a_kill(tmp_path: Path) -> None:
    made = lora_settings(tmp_path)
    changes = [f"model.{n}={getattr(made.model, n)}" for n in (
        "kind", "channels", "width", "depth", "heads", "patch", "mlp_ratio", "theta", "text_width")]  # fmt: skip
    changes += [f"base.weights={made.base.weights}", f"base.sha256={made.base.sha256}", "lora.rank=2"]
    changes += ["run.save_every=1", "run.eval_every=9", "distill.critic_steps=2"]
    assert worker(tmp_path / "wide", "distill", 4, *changes) == 0
    assert worker(tmp_path / "whole", "distill", 4, *changes, HALF, ranks=2) == 0
    assert worker(tmp_path / "cut", "distill", 4, *changes, HALF, ranks=2, kill_at=3) != 0
    assert checkpoint.steps(tmp_path / "cut")[-1] in (2, 3)  # the last may just have been written
    assert worker(tmp_path / "cut", "distill", 4, *changes, HALF, ranks=2) == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert losses(tmp_path / "whole") != losses(tmp_path / "wide")
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "wide"), rel=0.05)
