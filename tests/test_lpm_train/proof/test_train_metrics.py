"""Metrics: known curves give known numbers; a model that ignores a condition has no gap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import train_case as case
from torch.utils.flop_counter import FlopCounterMode

from lpm_train import parts
from lpm_train.config import Distill, Model, Stream
from lpm_train.data.make import Encoders
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.text import HashedWords
from lpm_train.network.model import DiT
from lpm_train.proof.codec_principal import PrincipalCodec
from lpm_train.proof.metrics import (
    correlation,
    lagged_correlation,
    motion_energy,
    nested,
    pooled_correlation,
    puppet_metrics,
    slope_per_window,
)
from lpm_train.proof.puppet import held_out_scenes, measure, scene_batch
from lpm_train.proof.synthetic import SWAY_STD_PX, Factors, read_factors, render
from lpm_train.tools.flops import distill_flops, forward_flops, mfu, sample_flops
from lpm_train.tools.judge.evaluate import condition_gaps, heldout_loss
from lpm_train.training.stage import make_stage


def curve(n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(n).cumsum()


def test_lag_is_found_with_its_sign() -> None:
    x = curve()
    assert lagged_correlation(x[:-3], x[3:], 8)[1] == 3
    assert lagged_correlation(x[3:], x[:-3], 8)[1] == -3
    assert lagged_correlation(x, x, 8) == (pytest.approx(1.0), 0)


def test_a_still_curve_has_no_correlation() -> None:
    assert correlation(np.zeros(9), curve(9)) == 0.0
    with pytest.raises(ValueError, match="cannot be correlated"):
        correlation(np.zeros(3), np.zeros(4))


def test_pooling_counts_offsets_of_clips() -> None:
    x = curve()
    assert pooled_correlation([(x, x), (x, x + 100)]) < 0.5


def test_slope_is_by_window() -> None:
    assert slope_per_window(np.arange(40.0), 10) == pytest.approx(10.0)


def test_motion_energy_is_the_mean_change() -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1] = 10
    assert motion_energy(frames) == 10.0


def test_nested_keys() -> None:
    assert nested({"a.b": 1.0, "a.c": 2.0, "d": 3.0}) == {"a": {"b": 1.0, "c": 2.0}, "d": 3.0}
    with pytest.raises(ValueError, match="inside the number"):
        nested({"a": 1.0, "a.b": 2.0})


def test_the_puppet_scores_perfectly_against_itself_and_faults_show() -> None:
    scenes = held_out_scenes(4, 96)
    shown = [read_factors(render(s)) for s in scenes]
    good = puppet_metrics(shown, scenes, 48)
    assert good["mouth_speech_corr"] > 0.99 and good["nod_user_corr"] > 0.99 and good["mouth_speech_lag"] == 0
    assert good["silent_mouth"] < 0.02 and good["sway_std_ratio"] == pytest.approx(1, abs=0.35)
    assert good["identity.last"] < 0.03 and abs(good["drift.brightness"]) < 0.01

    def fault(**change: object) -> dict[str, float]:
        return puppet_metrics([replace(f, **change(f)) for f in shown], scenes, 48)  # type: ignore[operator]

    def altered(name: str, function: object) -> dict[str, float]:
        broken: list[Factors] = [replace(f, **{name: function(getattr(f, name))}) for f in shown]  # type: ignore[operator]
        return puppet_metrics(broken, scenes, 48)

    assert altered("sway", lambda v: 0.5 * v)["sway_std_ratio"] == pytest.approx(good["sway_std_ratio"] / 2)
    assert altered("mouth", lambda v: np.roll(v, 4))["mouth_speech_lag"] == 4
    assert altered("mouth", lambda v: v + 0.3)["silent_mouth"] > 0.25
    fade = np.linspace(0, 0.2, 96)
    assert altered("brightness", lambda v: v + fade)["drift.brightness"] == pytest.approx(0.1, abs=0.02)
    assert altered("identity", lambda v: v + fade[:, None])["drift.identity_slope"] > 0.05


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    scenes = held_out_scenes(24, 16, seed=5)
    clips = [torch.from_numpy(render(s)).permute(0, 3, 1, 2)[None].float() / 127.5 - 1 for s in scenes]
    return Encoders(PrincipalCodec.fit(clips, (4, 4, 4), 12), LogMel(), HashedWords())


def test_scenes_through_the_codec_keep_their_factors(encoders: Encoders) -> None:
    scenes = held_out_scenes(4, 48)
    batch = scene_batch(scenes, encoders)
    figures = measure(batch.x_BFCHW, scenes, encoders, 48)
    assert figures["mouth_speech_corr"] > 0.98 and figures["nod_user_corr"] > 0.98
    truth = float(np.sqrt(np.mean(np.stack([s.sway for s in scenes]) ** 2))) / SWAY_STD_PX
    assert figures["sway_std_ratio"] == pytest.approx(truth, rel=0.05) and figures["identity.last"] < 0.04


@pytest.mark.parametrize("layout", [None, Stream()])
def test_gaps_are_zero_for_a_deaf_model_and_not_for_one_that_hears(encoders: Encoders, layout: Stream | None) -> None:
    batch = scene_batch(held_out_scenes(4, 48), encoders)
    torch.manual_seed(0)
    model = DiT(Model(channels=12, audio_width=80, audio_steps=8, text_width=64, depth=2, width=24, heads=2))
    assert all(v == 0 for v in condition_gaps(model, [batch], layout).values())
    by_state = heldout_loss(model, [batch], layout)
    assert set(by_state) == {"all", "idle", "speak", "listen", "both"}
    assert by_state["all"] == heldout_loss(model, [batch], layout)["all"]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    gaps = condition_gaps(model, [batch], layout)
    assert set(gaps) == {"speech", "user", "text", "reference"} and all(v != 0 for v in gaps.values())
    with pytest.raises(ValueError, match="at least two"):
        condition_gaps(model, [batch.select([0])], layout)


def test_operations_are_those_of_the_weights_and_of_attention() -> None:
    model = Model(channels=16, audio_width=80, audio_steps=8, text_width=384, depth=30, width=1536, heads=12)
    forward = forward_flops(model, 21, 60, 104)
    tokens = 21 * 30 * 52
    inside = 2 * 30 * (4 + 4 + 2 * 4) * 1536**2 * tokens  # self-attention, cross-attentions, MLP
    attention = 4 * 30 * 1536 * tokens**2
    assert inside + attention < forward < 1.05 * (inside + attention)
    assert 1.0 < forward_flops(model, 21, 60, 104, block=3, window=18) / forward < 2.0
    assert mfu(3 * forward, 3 * forward / 0.4e15, peak=1e15) == pytest.approx(0.4)


@pytest.mark.parametrize("name", ["causal", "consistency"])
def test_operations_of_a_step_are_those_of_its_passes(name: str) -> None:
    """Counted by PyTorch over a step on a toy: to a tenth."""
    config = case.config(run=replace(case.config().run, stage=parts.stage(name)))
    stage, batch = make_stage(config), case.batch(["a", "b"])
    with FlopCounterMode(display=False) as counter:
        stage.step(batch, 0)
    _, F, _, H, W = batch.x_BFCHW.shape
    refs, text = batch.cond.ref_BKCHW.shape[1], batch.cond.text_BLD.shape[1]
    assert 2 * sample_flops(config, F, H, W, refs=refs, text=text) == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_operations_of_distillation_are_those_of_its_passes() -> None:
    """Counted by PyTorch over one update of the student and its critic's, on a toy: to a tenth."""
    stream = Stream(block=2, window=4, steps=1)  # of one step, none is drawn
    run = replace(case.config().run, stage=parts.stage("distill"))
    config = case.config(distill=Distill(critic_steps=1), stream=stream, run=run)
    stage, batch = make_stage(config), case.batch(["a", "b"])
    with FlopCounterMode(display=False) as counter:
        stage.step(batch, 0)
    _, F, _, H, W = batch.x_BFCHW.shape
    refs, text = batch.cond.ref_BKCHW.shape[1], batch.cond.text_BLD.shape[1]
    assert 2 * distill_flops(config, F, H, W, refs=refs, text=text) == pytest.approx(counter.get_total_flops(), rel=0.1)
    longer = replace(config, distill=replace(config.distill, rollout=10 * F, loss_frames=F))
    more = distill_flops(longer, F, H, W) - distill_flops(config, F, H, W)
    one = forward_flops(config.model, F, H, W, block=config.stream.block, window=config.stream.window) / 2
    assert more == pytest.approx(2 * 9 * (config.stream.steps + 1) * one)
