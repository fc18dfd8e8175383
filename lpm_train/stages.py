"""The stages of training: each owns its models and optimizers and knows one thing, how to take a step.

Pretrain (both directions) -> Causal (teacher forcing) -> optionally `extras.consistency` -> Distill (own rollouts).
All share one transformer; each starts from the averaged weights of the one before (`stage.make_stage`).
`student` is what is trained, `teacher` and `critic` exist in distillation. `stage.generate` gives latents the way the
stage's model is meant to be sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lpm_train import distill, flow
from lpm_train.batch import Batch, drop_conditions, sample_seed
from lpm_train.config import Config, ConfigError
from lpm_train.model import DiT
from lpm_train.parallel import Ranks, gather_rows
from lpm_train.rollout import forced, near, roll, sample_clip
from lpm_train.stage import Criterion, Stage, Weights


class Pretrain(Stage):
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
        t = flow.shifted(self._uniform(batch, (1,), i, "t", self.name), self.config.flow.shift).expand(-1, F)
        if c.prefix_p:
            u = self._uniform(batch, (2,), i, "prefix")
            length = (u[:, :1] < c.prefix_p) * (1 + (u[:, 1:] * c.prefix_max).floor())
            t = torch.where(torch.arange(F, device=t.device) < length, 0.0, t)
        eps = self._noise(batch, "eps", i)
        v = self.student(flow.add_noise(batch.x_BFCHW, eps, t), t, cond).v_BFCHW
        weight = (t > 0).to(v.dtype)
        return (flow.frame_loss(v, batch.x_BFCHW, eps) * weight).sum(1) / weight.sum(1).clamp_min(1)

    def _generate(self, model: DiT, batch: Batch, size: tuple[int, int, int], *seed: object) -> Tensor:
        return sample_clip(model, batch.cond, size, batch.sample_ids, self.config.flow, *seed)


class Causal(Stage):
    """Teacher forcing by blocks, on context that is noisier than its label says."""

    name = "causal"

    def __init__(self, config: Config, where: Ranks, start: Weights | None = None) -> None:
        super().__init__(config, where, start)
        self.layout = config.stream

    def _by_block(self, batch: Batch, i: int, *purpose: object) -> Tensor:
        """Draw U(0, 1) for each block, and give it to its frames: [B, F]."""
        block = self.config.stream.block
        blocks = self.config.stream.blocks(batch.x_BFCHW.shape[1])
        return self._uniform(batch, (blocks,), i, *purpose).repeat_interleave(block, dim=1)

    def _context(self, batch: Batch, i: int, most: float) -> Tensor:
        if not most:
            return batch.x_BFCHW
        t = most * self._by_block(batch, i, "context")
        return flow.add_noise(batch.x_BFCHW, self._noise(batch, "context_eps", i), t)

    def _losses(self, batch: Batch, i: int) -> Tensor:
        c, x0 = self.config.causal, batch.x_BFCHW
        batch = drop_conditions(batch, c.drop, self.seed, i)
        t = flow.shifted(self._by_block(batch, i, "t", self.name), self.config.flow.shift)
        eps, context = self._noise(batch, "eps", i), self._context(batch, i, c.context_noise)
        v = forced(self.student, flow.add_noise(x0, eps, t), t, batch.cond, self.layout, context)
        return flow.frame_loss(v, x0, eps).mean(1)


class Distill(Stage):
    """Match the distribution of the student's own rollouts to the teacher's."""

    name = "distill"

    def __init__(
        self, config: Config, where: Ranks, start: Weights | None = None, teacher: Weights | None = None
    ) -> None:
        super().__init__(config, where, start)
        self.layout = config.stream if config.distill.teacher == "causal" else None
        teacher = teacher if teacher is not None else start
        self.roles |= {"teacher": self._model(teacher, trained=False), "critic": self._model(teacher)}
        c = config.distill
        self.optimizers["critic"] = self._optimizers(self.roles["critic"], c.critic_lr, c.critic_betas, c.critic_muon)

    def _roll(self, batch: Batch, i: int, purpose: str, graph: bool) -> tuple[Tensor, int]:
        """Let the student generate; returns (the last frames, which carry the loss, and the first of them)."""
        c, stream, (clip, C, H, W) = self.config.distill, self.config.stream, batch.x_BFCHW.shape[1:]
        frames = c.rollout or clip
        if max(frames, c.loss_frames) > clip or (c.loss_frames or frames) > frames:
            raise ConfigError(
                f"distill.rollout {frames} and loss_frames {c.loss_frames} do not fit clips of {clip} latents: "
                "set data.frames to the rollout's length"
            )
        first = frames - (c.loss_frames or frames)
        y = roll(
            self.student, batch.cond.window(0, frames), (C, H, W), batch.sample_ids, stream, self.seed, purpose, i,
            exit_step=sample_seed("exit", self.seed, purpose, i) % stream.steps,
            loss_from=first if graph else frames, context_noise=c.context_noise,
        )  # fmt: skip
        return y[:, first:], first

    def _noised(self, batch: Batch, y: Tensor, i: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Draw a level for each sample and put the rollout there; returns (noised, levels)."""
        c = self.config.distill
        u = flow.uniform(batch.sample_ids, (1,), y, purpose, "t", self.seed, i)
        t = flow.shifted(u, c.shift).clamp(c.t_min, c.t_max).expand(-1, y.shape[1])
        eps = flow.noise(batch.sample_ids, y.shape[1:], y, purpose, "eps", self.seed, i)
        return flow.add_noise(y, eps, t), t

    def _score(self, role: str, y_t: Tensor, t: Tensor, batch: Batch, first: int, context: Tensor) -> Tensor:
        """Estimate the data behind noised frames [first, ...) of a rollout, with the role's layout and guidance."""
        cond, start = near(batch.cond, first, first + y_t.shape[1], self.roles[role])
        scales = self.config.distill.scales if role == "teacher" else (1.0,) * len(flow.GUIDED)
        v = flow.guided(lambda c: forced(self.roles[role], y_t, t, c, self.layout, context, start), cond, scales)
        return flow.to_x0(y_t, v, t)

    def _critic_losses(self, batch: Batch, i: int) -> Tensor:
        with torch.no_grad():
            y, first = self._roll(batch, i, "critic", graph=False)
        y_t, t = self._noised(batch, y, i, "critic")
        x0 = self._score("critic", y_t, t, batch, first, y)
        return ((x0 - y) / flow.spread(t)).square().mean(dim=(1, 2, 3, 4))  # the flow loss: v = (x_t - x0) / t

    def _losses(self, batch: Batch, i: int) -> Tensor:
        y, first = self._roll(batch, i, "student", graph=True)
        with torch.no_grad():
            y_t, t = self._noised(batch, y, i, "student")
            real, fake = (self._score(role, y_t, t, batch, first, y) for role in ("teacher", "critic"))
            gradient = distill.dmd_gradient(y, real, fake)
        self._sizes.append(gradient.abs().flatten(1).mean(1))
        return distill.dmd_loss(y, gradient)

    def step(self, batch: Batch, i: int) -> dict[str, float]:
        """Update the critic, and the student on every `critic_steps`-th step (the first included)."""
        c, batch = self.config.distill, batch.to(self.where.device)
        out: dict[str, float] = {}
        if i % c.critic_steps == 0:
            self._sizes: list[Tensor] = []
            lr = c.lr or self.config.optim.lr
            loss, norm = self._descend("student", lr, batch, i, self._losses)
            self.ema.update(self.student, i // c.critic_steps)
            dmd = float(gather_rows(torch.cat(self._sizes).double()).mean())
            out = {"generator_loss": loss, "grad_norm": norm, "dmd": dmd, "lr": lr * self._rate(i)}
        loss, norm = self._descend("critic", c.critic_lr, batch, i, self._critic_losses)
        return out | {"loss": loss, "critic_norm": norm}

    def evaluate(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Score rollouts of the averaged student: `heldout_loss` is the energy score of two draws against the data.

        `std_ratio` is the spread of one latent value around the mean over samples, rollouts over data.
        """
        scores, spreads, means = [], [], []
        for batch in (b.to(self.where.device) for b in batches):
            x, first, second = batch.x_BFCHW, *(self.generate(batch, "heldout", k) for k in range(2))
            scores.append(distill.energy_score(first, second, x).double())
            spreads.append(torch.stack([y.double().std((1,)).square().mean((1, 2, 3)) for y in (first, x)], -1))
            means.append((first.double() - x.double()).mean((2, 3, 4))[:, -1])
        score, spread, mean = (gather_rows(torch.cat(parts)).mean(0) for parts in (scores, spreads, means))
        ratio = spread.sqrt()[0] / spread.sqrt()[1]
        return {"heldout_loss": float(score), "std_ratio": float(ratio), "brightness_drift": float(mean)}

    def exit_criteria(self, first: Mapping[str, float], now: Mapping[str, float]) -> list[Criterion]:
        """Ask for a better score than at the start, and for neither frozen nor exaggerated motion."""
        ratio = now.get("std_ratio")
        return [
            Criterion("heldout_loss", now.get("heldout_loss"), "<=", first["heldout_loss"]),
            Criterion("motion over time / data", ratio, ">=", 0.85),
            Criterion("motion over time / data", ratio, "<=", 1.15),
        ]
