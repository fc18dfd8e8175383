"""The stages of training: each owns its models and optimizers and knows one thing, how to take a step.

Pretrain (both directions) -> Causal (teacher forcing) -> optionally Consistency -> Distill (own rollouts). All share
one transformer; each starts from the averaged weights of the one before: `make_stage(config, where, start=weights)`.
The loop, checkpoints and logs know nothing of what happens inside `step`. `evaluate` measures on held-out batches with
fixed noise; `exit_criteria` says when a stage is done. `student` is what is trained, `teacher` and `critic` exist in
distillation. `stage.generate` gives latents the way the stage's model is meant to be sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lpm_train import distill, flow
from lpm_train.batch import Batch, drop_conditions, sample_seed
from lpm_train.config import Config, ConfigError
from lpm_train.model import DiT
from lpm_train.parallel import Ranks, gather_rows
from lpm_train.rollout import causal_layout, near, roll, sample_clip
from lpm_train.stage import Criterion, Stage, StageBase, Weights

__all__ = [
    "STAGES",
    "Causal",
    "Consistency",
    "Criterion",
    "Distill",
    "Pretrain",
    "Stage",
    "StageBase",
    "Weights",
    "make_stage",
]


class Pretrain(StageBase):
    """Flow matching with both directions in view; phases open conditions one by one."""

    name = "pretrain"

    def _losses(self, batch: Batch, i: int) -> Tensor:
        c, F = self.config.pretrain, batch.x_BFCHW.shape[1]
        batch = drop_conditions(batch, c.drop, self.seed, i)
        phase, done = c.phases[-1], 0.0
        for candidate in c.phases:
            done += candidate.share
            if i < done * self.config.run.steps:
                phase = candidate
                break
        cond = batch.cond.without(listen=not phase.listen, refs=not phase.refs)
        t = self._levels(batch, (1,), i, self.config.flow.shift).expand(-1, F)
        if c.prefix_p:
            u = flow.uniform(batch.sample_ids, (2,), batch.x_BFCHW, "prefix", self.seed, i)
            length = (u[:, :1] < c.prefix_p) * (1 + (u[:, 1:] * c.prefix_max).floor())
            t = torch.where(torch.arange(F, device=t.device) < length, 0.0, t)
        eps = self._noise(batch, "eps", i)
        v = self.student(flow.add_noise(batch.x_BFCHW, eps, t), t, cond).v_BFCHW
        weight = (t > 0).to(v.dtype)
        return (flow.frame_loss(v, batch.x_BFCHW, eps) * weight).sum(1) / weight.sum(1).clamp_min(1)

    def _heldout(self, batch: Batch, level: float) -> Tensor:
        eps = flow.noise(batch.sample_ids, batch.x_BFCHW.shape[1:], batch.x_BFCHW, "heldout", level)
        t = eps.new_full(eps.shape[:2], level)
        v = self.student(flow.add_noise(batch.x_BFCHW, eps, t), t, batch.cond).v_BFCHW
        return flow.frame_loss(v, batch.x_BFCHW, eps)

    def _generate(self, model: DiT, batch: Batch, size: tuple[int, int, int], *seed: object) -> Tensor:
        return sample_clip(model, batch.cond, size, batch.sample_ids, self.config.flow, *seed)


class Causal(StageBase):
    """Teacher forcing by blocks, on context that is noisier than its label says."""

    name = "causal"

    def _forced(self, batch: Batch, t: Tensor, eps: Tensor, context: Tensor) -> Tensor:
        x = torch.cat([context, flow.add_noise(batch.x_BFCHW, eps, t)])
        layout = causal_layout(self.config.stream)
        v: Tensor = self.student(x, torch.cat([torch.zeros_like(t), t]), batch.cond, layout=layout).v_BFCHW
        return v

    def _by_block(self, t_Bn: Tensor) -> Tensor:
        return t_Bn.repeat_interleave(self.config.stream.block, dim=1)

    def _blocks(self, batch: Batch) -> int:
        return causal_layout(self.config.stream).blocks(batch.x_BFCHW.shape[1])

    def _context(self, batch: Batch, i: int, most: float) -> Tensor:
        if not most:
            return batch.x_BFCHW
        u = flow.uniform(batch.sample_ids, (self._blocks(batch),), batch.x_BFCHW, "context", self.seed, i)
        return flow.add_noise(batch.x_BFCHW, self._noise(batch, "context_eps", i), self._by_block(most * u))

    def _losses(self, batch: Batch, i: int) -> Tensor:
        c = self.config.causal
        batch = drop_conditions(batch, c.drop, self.seed, i)
        t = self._by_block(self._levels(batch, (self._blocks(batch),), i, self.config.flow.shift))
        eps = self._noise(batch, "eps", i)
        v = self._forced(batch, t, eps, self._context(batch, i, c.context_noise))
        return flow.frame_loss(v, batch.x_BFCHW, eps).mean(1)

    def _heldout(self, batch: Batch, level: float) -> Tensor:
        eps = flow.noise(batch.sample_ids, batch.x_BFCHW.shape[1:], batch.x_BFCHW, "heldout", level)
        v = self._forced(batch, eps.new_full(eps.shape[:2], level), eps, batch.x_BFCHW)
        return flow.frame_loss(v, batch.x_BFCHW, eps)


class Consistency(Causal):
    """Make neighbouring points of the causal model's path agree on the data; its start is its own teacher."""

    name = "consistency"

    def __init__(self, config: Config, where: Ranks, start: Weights | None = None) -> None:
        super().__init__(config, where, start)
        self.roles["teacher"] = self._model(start, trained=False)
        self.roles["target"] = self._model(start, trained=False)

    def step(self, batch: Batch, i: int) -> dict[str, float]:
        """Take optimizer step `i`, then let the target follow."""
        out = super().step(batch, i)
        self.ema.copy_to(self.roles["target"])
        return out

    def _losses(self, batch: Batch, i: int) -> Tensor:
        c, x0 = self.config.consistency, batch.x_BFCHW
        grid = flow.shifted(torch.linspace(1, 0, c.grid + 1, device=x0.device, dtype=x0.dtype), self.config.flow.shift)
        u = flow.uniform(batch.sample_ids, (self._blocks(batch),), x0, "t", self.name, self.seed, i)
        k = (u * c.grid).long().clamp_max(c.grid - 1)
        t, then = self._by_block(grid[k]), self._by_block(grid[k + 1])
        context, zero = self._context(batch, i, c.context_noise), torch.zeros_like(t)
        layout = causal_layout(self.config.stream)

        def velocity(role: str, x: Tensor, t: Tensor) -> Tensor:
            both = torch.cat([context, x]), torch.cat([zero, t])
            v: Tensor = self.roles[role](*both, batch.cond, layout=layout).v_BFCHW
            return v

        x_t = flow.add_noise(x0, self._noise(batch, "eps", i), t)
        with torch.no_grad():
            x_then = x_t + flow.spread(then - t) * velocity("teacher", x_t, t)
            target = flow.to_x0(x_then, velocity("target", x_then, then), then)
        online = flow.to_x0(x_t, velocity("student", x_t, t), t)
        return distill.consistency_loss(online, target).mean(1)


class Distill(StageBase):
    """Match the distribution of the student's own rollouts to the teacher's."""

    name = "distill"

    def __init__(
        self, config: Config, where: Ranks, start: Weights | None = None, teacher: Weights | None = None
    ) -> None:
        super().__init__(config, where, start)
        teacher = teacher if teacher is not None else start
        self.roles["teacher"] = self._model(teacher, trained=False)
        self.roles["critic"] = self._model(teacher)
        self.optimizers["critic"] = self._optimizer(self.roles["critic"], config.distill.critic_lr)

    def _roll(self, batch: Batch, i: int, purpose: str, graph: bool) -> tuple[Batch, Tensor, int]:
        """Let the student generate; returns (the batch, the last frames that carry the loss, the first of them)."""
        c, stream, C_H_W = self.config.distill, self.config.stream, batch.x_BFCHW.shape[2:]
        clip = batch.x_BFCHW.shape[1]
        frames = c.rollout or clip
        if max(frames, c.loss_frames) > clip or (c.loss_frames or frames) > frames:
            raise ConfigError(
                f"distill.rollout {frames} and loss_frames {c.loss_frames} do not fit clips of {clip} latents: "
                "set data.frames to the rollout's length"
            )
        cond = batch.cond.window(0, frames)
        first = frames - (c.loss_frames or frames)
        exit_step = sample_seed("exit", self.seed, purpose, i) % stream.steps
        y = roll(
            self.student, cond, (C_H_W[0], C_H_W[1], C_H_W[2]), batch.sample_ids, stream, self.seed, purpose, i,
            exit_step=exit_step, loss_from=first if graph else frames, context_noise=c.context_noise,
        )  # fmt: skip
        return batch, y[:, first:], first

    def _score(self, role: str, y_t: Tensor, t: Tensor, batch: Batch, first: int, context: Tensor) -> Tensor:
        """Estimate the data behind noised frames [first, ...) of a rollout, with the role's layout and guidance."""
        c, n = self.config.distill, y_t.shape[1]
        model = self.roles[role]
        cond, start = near(batch.cond, first, first + n, model)

        def velocity(x: Tensor, t: Tensor, drive: Any) -> Tensor:
            layout = None
            if c.teacher == "causal":
                x, t = torch.cat([context, x]), torch.cat([torch.zeros_like(t), t])
                layout = causal_layout(self.config.stream)
            v: Tensor = model(x, t, drive, layout=layout, start=start).v_BFCHW
            return v

        scale = c.guidance if role == "teacher" else 1.0
        null = cond.null()
        v = flow.guided(lambda x, t: velocity(x, t, cond), lambda x, t: velocity(x, t, null), scale)(y_t, t)
        return flow.to_x0(y_t, v, t)

    def _noised(self, batch: Batch, y: Tensor, i: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Draw a level for each sample, and noise."""
        c = self.config.distill
        u = flow.uniform(batch.sample_ids, (1,), y, purpose, "t", self.seed, i)
        t = flow.shifted(u, c.shift).clamp(c.t_min, c.t_max).expand(-1, y.shape[1])
        return t, flow.noise(batch.sample_ids, y.shape[1:], y, purpose, "eps", self.seed, i)

    def _critic_losses(self, batch: Batch, i: int) -> Tensor:
        with torch.no_grad():
            batch, y, first = self._roll(batch, i, "critic", graph=False)
        t, eps = self._noised(batch, y, i, "critic")
        y_t = flow.add_noise(y, eps, t)
        x0 = self._score("critic", y_t, t, batch, first, y)
        return ((x0 - y) / flow.spread(t)).square().mean(dim=(1, 2, 3, 4))  # the flow loss: v = (x_t - x0) / t

    def _losses(self, batch: Batch, i: int) -> Tensor:
        batch, y, first = self._roll(batch, i, "student", graph=True)
        with torch.no_grad():
            t, eps = self._noised(batch, y, i, "student")
            y_t = flow.add_noise(y, eps, t)
            real = self._score("teacher", y_t, t, batch, first, y)
            fake = self._score("critic", y_t, t, batch, first, y)
            gradient = distill.dmd_gradient(y, real, fake)
        self._sizes.append(gradient.abs().flatten(1).mean(1))
        return distill.dmd_loss(y, gradient)

    def step(self, batch: Batch, i: int) -> dict[str, float]:
        """Update the critic, and the student on every `critic_steps`-th step (the first included)."""
        c, batch = self.config.distill, batch.to(self.where.device)
        out: dict[str, float] = {}
        if i % c.critic_steps == 0:
            self._sizes: list[Tensor] = []
            loss, norm = self._descend(
                "student", c.lr or self.config.optim.lr, batch, i, lambda rows: self._losses(rows, i)
            )
            self.ema.update(self.student, i // c.critic_steps)
            dmd = float(gather_rows(torch.cat(self._sizes).double()).mean())
            out |= {"generator_loss": loss, "grad_norm": norm, "dmd": dmd}
        loss, norm = self._descend("critic", c.critic_lr, batch, i, lambda rows: self._critic_losses(rows, i))
        return out | {"loss": loss, "critic_norm": norm}

    def evaluate(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Score rollouts of the averaged student: `heldout_loss` is the energy score of two draws against the data.

        `std_ratio` is the spread of one latent value around the mean over samples, rollouts over data.
        """
        scores, spreads, means = [], [], []
        for batch in batches:
            batch = batch.to(self.where.device)
            x = batch.x_BFCHW
            first, second = self.generate(batch, "heldout", 0), self.generate(batch, "heldout", 1)
            scores.append(distill.energy_score(first, second, x).double())
            spreads.append(torch.stack([y.double().std((1,)).square().mean((1, 2, 3)) for y in (first, x)], -1))
            means.append((first.double() - x.double()).mean((2, 3, 4))[:, -1])
        spread = gather_rows(torch.cat(spreads)).mean(0).sqrt()
        return {
            "heldout_loss": float(gather_rows(torch.cat(scores)).mean()),
            "std_ratio": float(spread[0] / spread[1]),
            "brightness_drift": float(gather_rows(torch.cat(means)).mean()),
        }

    def exit_criteria(self, first: Mapping[str, float], now: Mapping[str, float]) -> list[Criterion]:
        """Ask for a better score than at the start, and for neither frozen nor exaggerated motion."""
        ratio = now.get("std_ratio")
        return [
            Criterion("heldout_loss", now.get("heldout_loss"), "<=", first["heldout_loss"]),
            Criterion("motion over time / data", ratio, ">=", 0.85),
            Criterion("motion over time / data", ratio, "<=", 1.15),
        ]


STAGES: dict[str, type[StageBase]] = {s.name: s for s in (Pretrain, Causal, Consistency, Distill)}


def make_stage(
    config: Config, where: Ranks | None = None, start: Weights | None = None, teacher: Weights | None = None
) -> StageBase:
    """Make the stage that `config.run.stage` names, starting from weights of the one before.

    Args:
        config: everything.
        where: this rank; None: one process on the CPU.
        start: weights of the student; None: fresh.
        teacher: weights of the teacher, distillation only; None: those of `start`.
    """
    where = where or Ranks(0, 1, torch.device(config.run.device or "cpu"))
    if config.run.stage == "distill":
        return Distill(config, where, start, teacher)
    return STAGES[config.run.stage](config, where, start)
