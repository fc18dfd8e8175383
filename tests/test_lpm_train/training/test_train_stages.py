"""Losses, stages and their arithmetic, in small numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import train_case as case
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Batch
from lpm_train.config import Config, ConfigError, Optim, override
from lpm_train.training import distill
from lpm_train.training.parallel import Ema, accumulate, bit_reversed, clip_gradients
from lpm_train.training.stage import Criterion, make_stage


def test_dmd_is_zero_where_critic_and_teacher_agree() -> None:
    y, x = torch.randn(3, 2, 4, 2, 2), torch.randn(3, 2, 4, 2, 2)
    assert not distill.dmd_gradient(y, x, x).any()
    assert not distill.dmd_gradient(x, x, x).any()  # nothing to divide by either


def test_dmd_loss_has_the_gradient_it_promises() -> None:
    y = torch.randn(3, 2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    g = distill.dmd_gradient(y.detach(), torch.randn_like(y), torch.randn_like(y))
    distill.dmd_loss(y, g).sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad, g / y[0].numel())


def test_energy_score_prefers_the_right_spread() -> None:
    g = torch.Generator().manual_seed(0)

    def draws(spread: float) -> Tensor:
        return spread * torch.randn(4000, 1, 3, 1, 1, generator=g)

    data = draws(1.0)
    scores = {s: float(distill.energy_score(draws(s), draws(s), data).mean()) for s in (0.3, 1.0, 2.0)}
    assert scores[1.0] < scores[0.3] and scores[1.0] < scores[2.0]


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_a_solver_is_exact_on_a_straight_path(solver: str) -> None:
    x0, eps = torch.randn(2, 3, 4, 2, 2).double(), torch.randn(2, 3, 4, 2, 2).double()
    out = flow.SOLVERS[solver](lambda x, t: eps - x0, eps, flow.levels(5, 3.0).tolist())
    torch.testing.assert_close(out, x0)
    t = torch.rand(2, 3).double()
    torch.testing.assert_close(flow.to_x0(flow.add_noise(x0, eps, t), eps - x0, t), x0)


def _of_gaussian(x: Tensor, t: Tensor, std: float) -> Tensor:
    """Return the exact velocity where data is N(0, std^2): x0 is std times the noise that a path begins at."""
    t = t[..., None, None, None]
    return (x - std**2 * (1 - t) * x / ((1 - t) ** 2 * std**2 + t**2)) / t


@pytest.mark.parametrize(("std", "shift"), [(0.2, 1.0), (1.0, 1.0), (1.0, 3.0), (5.0, 3.0)])
def test_the_second_order_loses_a_third_of_the_spread_that_lines_lose(std: float, shift: float) -> None:
    """Deviations far from the noise's are decided near an end of the path; many latents that move together are a 5."""
    eps, levels = torch.ones(1, 1, 1, 1, 1).double(), flow.levels(16, shift).tolist()
    of = {
        name: abs(float(f(partial(_of_gaussian, std=std), eps, levels)) / std - 1) for name, f in flow.SOLVERS.items()
    }
    assert of["dpmpp_2m"] < of["euler"] / 3


def test_dpmpp_2m_is_that_of_diffusers() -> None:
    from diffusers import DPMSolverMultistepScheduler

    velocity = partial(_of_gaussian, std=0.5)
    eps, levels = (
        torch.randn(1, 2, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double(),
        [0.999, 0.9, 0.7, 0.3],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its NumPy
        theirs = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, lower_order_final=True, final_sigmas_type="zero"
        )
        theirs.set_timesteps(len(levels))
    theirs.sigmas, x = torch.tensor([*levels, 0.0], dtype=torch.float64), eps
    for at, t in zip(theirs.timesteps, levels, strict=True):
        x = theirs.step(velocity(x, torch.full((1, 2), t).double()), at, x).prev_sample.double()
    torch.testing.assert_close(flow.dpmpp_2m(velocity, eps, levels), x, atol=1e-6, rtol=1e-5)


def test_noise_belongs_to_the_sample() -> None:
    like = torch.empty(0)
    both = flow.noise(["a", "b"], (3,), like, "x", 1)
    assert torch.equal(flow.noise(["b"], (3,), like, "x", 1)[0], both[1])
    assert not torch.equal(flow.noise(["b"], (3,), like, "x", 2)[0], both[1])


@pytest.mark.parametrize("stage", ["pretrain", "causal", "consistency", "distill"])
def test_accumulation_equals_the_whole_batch(stage: str) -> None:
    figures, weights = [], []
    for size in (0, 1):
        settings = override(case.config(), [f"run.stage={stage}", f"optim.micro_batch={size}", "optim.clip=0"])
        made = make_stage(settings, start=case.model(dtype=torch.float32).state_dict())
        batch = case.batch(list("abcd"))
        figures.append([made.step(batch, i) for i in range(2)])
        weights.append({n: p.detach().clone() for n, p in made.student.named_parameters()})
    for whole, parts in zip(*figures, strict=True):
        assert whole.keys() == parts.keys()
    first, second = figures
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], rel=1e-5)
    norm = "critic_norm" if stage == "distill" else "grad_norm"
    assert first[0][norm] == pytest.approx(second[0][norm], rel=2e-4, abs=1e-6)


def test_parts_add_up_to_the_gradient_of_the_mean() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    batch = case.batch([str(i) for i in range(8)], frames=2)

    def loss(rows: Batch) -> Tensor:
        return (weight[0] * rows.x_BFCHW.flatten(1).double().mean(1) - weight[1]).square()

    grads, losses = [], []
    for size, exact in ((0, True), (1, True), (2, True), (4, False)):
        losses.append(accumulate(batch, size, [weight], loss, exact))
        assert weight.grad is not None
        grads.append(weight.grad.clone())
    for grad, each in zip(grads, losses, strict=True):
        torch.testing.assert_close(grad, grads[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(each, losses[0], rtol=1e-12, atol=0)
    assert bit_reversed(8) == [0, 4, 2, 6, 1, 5, 3, 7] and bit_reversed(1) == [0] and bit_reversed(3) == [0, 1, 2]


def test_clipping() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([p], 1.0) == 5.0
    torch.testing.assert_close(p.grad, torch.tensor([0.6, 0.8]))


def test_average_follows_and_steps_back() -> None:
    layer = torch.nn.Linear(2, 3)
    ema, before = Ema(layer, 0.5), layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    ema.update(layer, 100)
    torch.testing.assert_close(ema.weights["weight"], before + 0.5)
    with ema.applied(layer):
        torch.testing.assert_close(layer.weight, before + 0.5)
    torch.testing.assert_close(layer.weight, before + 1)


def _trained(settings: Config, steps: int, edit: Callable[[Batch], Batch] = lambda b: b, **start: Any) -> Any:
    stage, source = make_stage(settings, **start), case.Source()
    for i in range(steps):
        stage.step(edit(next(source)), i)
    return stage


def _simple(batch: Batch) -> Batch:
    """A world in which every frame shows the reference, dimmed where nobody speaks."""
    level = 1.0 - 0.5 * (~batch.cond.speak_on_BF).float()
    return replace(batch, x_BFCHW=batch.cond.ref_BKCHW[:, :1] * level[..., None, None, None])


@pytest.mark.parametrize("stage", ["pretrain", "causal"])
def test_heldout_loss_falls(stage: str) -> None:
    settings = override(case.config(), [f"run.stage={stage}", "run.steps=30", "optim.ema=0.9"])
    heldout = [_simple(case.batch(["x", "y"]))]
    before = make_stage(settings).evaluate(heldout)
    after = (trained := _trained(settings, 30, _simple)).evaluate(heldout)
    assert after["heldout_loss"] < 0.9 * before["heldout_loss"]
    assert {"heldout_loss.speak", "heldout_loss.t0.5"} <= after.keys()
    assert trained.evaluate([*heldout, _simple(case.batch(["z", "w"], frames=6))])["heldout_loss"] > 0  # other lengths
    assert trained.generate(heldout[0], 0).shape == heldout[0].x_BFCHW.shape
    assert next(c.name for c in trained.exit_criteria(before, after)) == "heldout_loss"


def test_distillation_starts_at_zero_and_moves_the_student() -> None:
    settings = override(case.config(), ["run.stage=distill", "distill.rollout=8", "distill.loss_frames=4"])
    start = case.model(dtype=torch.float32).state_dict()
    stage, source = make_stage(settings, start=start), case.Source()
    figures = [stage.step(next(source), i) for i in range(6)]
    assert figures[0]["dmd"] == 0.0 and "dmd" not in figures[1]
    assert figures[5]["dmd"] > 0
    moved = max((p - start[n]).abs().max() for n, p in stage.student.named_parameters())
    assert moved > 0
    assert all(torch.equal(p, start[n]) for n, p in stage.roles["teacher"].named_parameters())
    measured = stage.evaluate([case.batch(["x", "y"])])
    assert {"heldout_loss", "std_ratio"} <= measured.keys()
    assert len(stage.exit_criteria(measured, measured)) == 3


def test_a_rollout_longer_than_the_clip_is_refused() -> None:
    stage = make_stage(override(case.config(), ["run.stage=distill", "distill.rollout=10"]))
    with pytest.raises(ConfigError, match=r"set data\.frames"):
        stage.step(next(case.Source()), 0)


def test_a_causal_teacher_scores_too() -> None:
    settings = override(case.config(), ["run.stage=distill", "distill.teacher=causal", "distill.guidance=2"])
    stage = make_stage(settings, start=case.model(dtype=torch.float32).state_dict())
    assert stage.step(next(case.Source()), 0)["loss"] > 0


def test_the_teacher_weighs_conditions_apart() -> None:
    start, losses = case.model(dtype=torch.float32).state_dict(), []
    together = ["distill.guidance=2"]
    equal = [f"distill.guide.{name}=2" for name in flow.GUIDED]
    for said in (together, equal, [*together, "distill.guide.speak=4"]):
        stage = make_stage(override(case.config(), ["run.stage=distill", *said]), start=start)
        stage._sizes = []
        losses.append(stage._losses(case.batch(list("ab")), 0).detach())
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("stage", ["pretrain", "causal", "distill"])
def test_half_precision_is_close(stage: str) -> None:
    losses = []
    for half in ("false", "true"):
        settings = override(case.config(), [f"run.stage={stage}", f"run.bf16={half}"])
        torch.manual_seed(0)
        made = make_stage(settings)
        losses.append(made.step(case.batch(list("ab")), 0)["loss"])
        assert all(p.dtype == torch.float32 for p in made.student.parameters())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_phases_and_prefix() -> None:
    settings = case.config(optim=Optim(lr=0.0))
    settings = override(settings, ["pretrain.prefix_p=1.0", "run.steps=10"])
    from lpm_train.config import Phase, Pretrain

    early = replace(settings, pretrain=replace(settings.pretrain, phases=(Phase(share=0.5, listen=False, refs=False),
                                                                          Phase(share=0.5))))  # fmt: skip
    assert isinstance(early.pretrain, Pretrain)
    weights = case.model(dtype=torch.float32).state_dict()
    a, b = (make_stage(s, start=weights) for s in (settings, early))
    batch = case.batch(list("abcd"))
    assert a.step(batch, 2)["loss"] != b.step(batch, 2)["loss"]
    assert a.step(batch, 7)["loss"] == b.step(batch, 7)["loss"]


def test_criteria() -> None:
    assert Criterion("a", 1.0, "<=", 1.0).passed and not Criterion("a", 1.1, "<=", 1.0).passed
    assert Criterion("a", 1.0, ">=", 0.5).passed and not Criterion("a", None, ">=", 0.5).passed
    assert not Criterion("a", float("nan"), "<=", 1.0).passed and "open" in str(Criterion("a", None, "<=", 1.0))
