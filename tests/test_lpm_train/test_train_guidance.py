"""Guidance: one formula for equal scales and for different ones, and no pass more than it needs."""

from __future__ import annotations

import json

import pytest
import torch
import train_case as case
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Conditions
from lpm_train.config import ConfigError, Guide, from_json, override, to_json
from lpm_train.presets import small
from lpm_train.streaming.rollout import sample_clip

WORTH = {"refs": 1.0, "text": 10.0, "speak": 100.0, "listen": 1000.0}
MASKS = {"refs": "ref_mask_BK", "text": "text_mask_BL", "speak": "speak_on_BF", "listen": "listen_on_BF"}


def passes(*scales: float) -> tuple[float, list[str]]:
    """Return the guided value of a velocity that adds up what it is given, and what each pass was given."""
    seen: list[str] = []

    def velocity(cond: Conditions) -> Tensor:
        on = [name for name in flow.GUIDED if bool(getattr(cond, MASKS[name]).any())]
        seen.append(" ".join(on))
        return torch.tensor(7.0 + sum(WORTH[name] for name in on), dtype=torch.float64)

    return float(flow.guided(velocity, case.batch(["a"]).cond, scales)), seen


@pytest.mark.parametrize(
    ("scales", "given"),
    [
        ((1, 1, 1, 1), ["refs text speak listen"]),
        ((4, 4, 4, 4), ["", "refs text speak listen"]),
        ((0, 0, 0, 0), [""]),
        ((4, 4, 4, 6), ["", "refs text speak", "refs text speak listen"]),
        ((1, 1, 4, 4), ["refs text", "refs text speak listen"]),
        ((1, 2, 2, 0), ["refs", "refs text speak"]),
        ((2, 3, 4, 5), ["", "refs", "refs text", "refs text speak", "refs text speak listen"]),
    ],
)
def test_each_condition_counts_by_its_scale_in_as_few_passes_as_can_be(
    scales: tuple[float, ...], given: list[str]
) -> None:
    value, seen = passes(*scales)
    assert value == pytest.approx(7 + sum(s * w for s, w in zip(scales, WORTH.values(), strict=True)))
    assert seen == given


def test_equal_scales_are_the_formula_of_one_to_the_bit() -> None:
    model, batch = case.model(dtype=torch.float32), case.batch(["a", "b"])
    x, t = batch.x_BFCHW, torch.full((2, 8), 0.7)

    def velocity(cond: Conditions) -> Tensor:
        v: Tensor = model(x, t, cond).v_BFCHW
        return v

    with torch.no_grad():
        base, v = velocity(batch.cond.null()), velocity(batch.cond)
        assert torch.equal(flow.guided(velocity, batch.cond, (2.5,) * 4), base + 2.5 * (v - base))
        assert torch.equal(flow.guided(velocity, batch.cond, (1.0,) * 4), v)
        assert not torch.equal(flow.guided(velocity, batch.cond, (1.0, 1.0, 3.0, 1.0)), v)


def test_a_sampler_is_guided_by_its_settings() -> None:
    model, batch, size = case.model(dtype=torch.float32), case.batch(["a"]), (case.C, case.H, case.W)
    clips = []
    for said in (["guidance=2"], [f"guide.{n}=2" for n in flow.GUIDED], ["guidance=2", "guide.listen=0.5"]):
        settings = override(case.config(), ["flow.steps=2", *(f"flow.{one}" for one in said)])
        clips.append(sample_clip(model, batch.cond, size, ["a"], settings.flow))
    assert torch.equal(clips[0], clips[1]) and not torch.equal(clips[0], clips[2])


def test_scales_that_are_not_given_are_the_common_one_as_in_older_configurations() -> None:
    config = override(small(), ["flow.guide.speak=5"])
    assert config.flow.scales == (2.0, 2.0, 5.0, 2.0) and config.distill.scales == (2.0,) * 4
    assert from_json(to_json(config)) == config
    old = json.loads(to_json(small()))
    del old["flow"]["guide"], old["distill"]["guide"]
    assert from_json(json.dumps(old)) == small() and small().flow.guide == Guide()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["flow.guide.speak=-1"], "guide.speak = -1.0: 0 leaves the condition out"),
        (["flow.guide.words=2"], "no setting 'flow.guide.words'; there are: refs, text, speak, listen"),
        (["data.max_refs=0", "distill.guide.refs=3"], "distill.guide.refs has nothing to guide by"),
        (
            ["pretrain.drop.listen=0", "flow.guide.text=5"],
            "flow.guide weighs refs apart from text, which takes passes without text, speak, listen, and "
            "pretrain.drop.listen is 0",
        ),
    ],
)
def test_senseless_guidance_is_refused(said: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        override(small(), said)
    assert message in str(refused.value)
