"""The toy's goals: all reached by good figures, each missed by a bad one, at whichever length it stands."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from lpm_train.data.make import Encoders
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.text import HashedWords
from lpm_train.proof import goals
from lpm_train.proof.codec_principal import PrincipalCodec
from lpm_train.proof.puppet import held_out_scenes, measure, measure_lengths, scene_batch

AT = {"sway_std_ratio": 1.0, "mouth_speech_corr": 0.97, "nod_user_corr": 0.98, "silent_mouth": 0.03,
      "identity": {"last": 0.04}, "drift": {"brightness": 0.0}}  # fmt: skip
GOOD: dict[str, Any] = {
    "pretrain": AT | {"heldout_loss": {"first": 2.0, "last": 0.07, "worst_state": 1.1, "late_fall": 0.02}},
    "causal": {"few_steps": AT | {"sway_std_ratio": 0.6}, "many_steps": AT,
               "heldout_loss": {"first": 0.13, "last": 0.065, "worst_state": 1.1, "late_fall": 0.02}},
    "distill": {"x1": AT, "x20": AT, "x60": AT, "steps": 4, "condition_gap": {"speech": 0.1},
                "heldout_loss": {"first": 0.24, "last": 0.23, "std_ratio": 1.0}},
}  # fmt: skip


def test_good_figures_reach_every_goal() -> None:
    assert goals.missed(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("distill.x1.sway_std_ratio", 0.71, "distill: [open] x1 sway_std_ratio 0.71 (>= 0.85)"),
        ("distill.x60.sway_std_ratio", 1.3, "distill: [open] x60 sway_std_ratio 1.3 (<= 1.15)"),
        ("distill.x20.drift.brightness", -0.1, "distill: [open] x20 |drift.brightness| 0.1 (<= 0.02)"),
        ("distill.x60.identity.last", 0.2, "distill: [open] x60 identity.last"),
        ("distill.x1.nod_user_corr", float("nan"), "distill: [open] x1 nod_user_corr"),
        ("distill.heldout_loss.last", 0.25, "distill: [open] energy score / first"),
        ("pretrain.sway_std_ratio", 0.8, "pretrain: [open] sway_std_ratio 0.8 (>= 0.85)"),
        ("pretrain.heldout_loss.late_fall", 0.1, "pretrain: [open] fall of the held-out loss"),
        ("causal.heldout_loss.last", 0.077, "causal: [open] heldout_loss / pretrain's"),
        ("causal.many_steps.sway_std_ratio", 0.7, "causal: [open] many steps"),
        ("causal.few_steps.sway_std_ratio", 0.4, "causal: [open] few steps"),
    ],
)
def test_each_bad_figure_misses_its_goal(path: str, value: float, said: str) -> None:
    bad = json.loads(json.dumps(GOOD))
    *parts, name = path.split(".")
    at = bad
    for part in parts:
        at = at[part]
    at[name] = value
    missed = goals.missed(bad)
    assert len(missed) == 1 and missed[0].startswith(said)


def test_a_late_fall_is_over_the_last_sixth() -> None:
    assert goals.late_fall([(0, 2.0), (500, 0.2), (1000, 0.1), (1100, 0.05), (1200, 0.09)]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="before step 1000 of 1200"):
        goals.late_fall([(0, 2.0), (1200, 0.1)])


def test_each_length_is_judged_by_what_came_since_the_one_before() -> None:
    scenes = held_out_scenes(2, 96)
    codec = PrincipalCodec((1, 1, 1), torch.eye(3), torch.zeros(3), 1.0)
    encoders = Encoders(codec=codec, audio=LogMel(1, 16), text=HashedWords(8, 12))
    z = scene_batch(scenes, encoders, 1).x_BFCHW
    z[:, 72:] = 0.9  # a plain light picture at the end: nobody to be seen
    found = measure_lengths(z, scenes, encoders, 24, (1, 3, 4))
    clean = measure(z[:, :24], [s.cut(0, 24) for s in scenes], encoders, 24)
    assert {k: v for k, v in found[1].items() if k != "drift.brightness"} == pytest.approx(
        {k: v for k, v in clean.items() if k != "drift.brightness"}
    )
    assert found[3]["identity.last"] < 0.05 and found[4]["identity.last"] > 0.2
    assert abs(found[3]["drift.brightness"]) < 0.02 and found[4]["drift.brightness"] > 0.3
    assert np.isfinite(list(found[4].values())).all()
