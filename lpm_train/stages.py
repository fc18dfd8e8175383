"""The stages of training: each owns its models and optimizers and knows one thing, how to take a step.

Pretrain (both directions) -> Causal (teacher forcing) -> optionally `extras.consistency` -> Distill (own rollouts).
All share one transformer; each starts from the averaged weights of the one before (`stage.make_stage`).
`student` is what is trained, `teacher` and `critic` exist in distillation. `stage.generate` gives latents the way the
stage's model is meant to be sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lpm_train import distill, flow
from lpm_train.batch import Batch, Conditioned, drop_conditions, sample_seed
from lpm_train.config import Config, ConfigError
from lpm_train.model import DiT
from lpm_train.parallel import Ranks, gather_rows
from lpm_train.rollout import forced, near, roll, sample_clip
from lpm_train.stage import Criterion, Stage
from lpm_train.start import Start


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

    def __init__(self, config: Config, where: Ranks, start: Start | None = None) -> None:
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
    """Match the distribution of what the student makes to the teacher's: of its own rollouts, or off its policy."""

    name = "distill"
    judges = ("teacher",)

    def __init__(self, config: Config, where: Ranks, start: Start | None = None, teacher: Start | None = None) -> None:
        super().__init__(config, where, start)
        self.layout = config.stream if config.distill.teacher == "causal" else None
        teacher = teacher if teacher is not None else start
        self.roles |= {"teacher": self._model(teacher, trained=False), "critic": self._model(teacher)}
        c = config.distill
        self.optimizers["critic"] = self._optimizers(self.roles["critic"], c.critic_lr, c.critic_betas, c.critic_muon)

    def _results(self, batch: Conditioned, i: int, purpose: str, graph: bool) -> tuple[Tensor, int]:
        """Let the student work; returns (frames that carry the loss, the first of them within the conditions)."""
        if self.config.distill.policy == "own":
            return self._roll(batch, i, purpose, graph)
        assert isinstance(batch, Batch)  # a loader gives chains for own rollouts alone
        return self._restore(batch, i, purpose), 0

    def _exit(self, i: int, purpose: str) -> int:
        """Draw the step that carries the gradient: one for all blocks and ranks."""
        return sample_seed("exit", self.seed, purpose, i) % self.config.stream.steps

    def _roll(self, batch: Conditioned, i: int, purpose: str, graph: bool) -> tuple[Tensor, int]:
        """Let the student go on from its own past; what comes before the frames of the loss is let go."""
        c, given = self.config.distill, batch.cond.frames
        frames = c.rollout or given
        if max(frames, c.loss_frames) > given or (c.loss_frames or frames) > frames:
            raise ConfigError(
                f"distill.rollout {frames} and loss_frames {c.loss_frames} do not fit conditions of {given} latents: "
                "set data.frames to the rollout's length, or give chains of clips (lpm_train.chain_loader)"
            )
        first = frames - (c.loss_frames or frames)
        y = roll(
            self.student, batch.cond.window(0, frames), batch.size, batch.sample_ids, self.config.stream, self.seed,
            purpose, i, exit_step=self._exit(i, purpose), loss_from=first if graph else frames,
            context_noise=c.context_noise, kept_from=first,
        )  # fmt: skip
        return y, first

    def _restore(self, batch: Batch, i: int, purpose: str) -> Tensor:
        """Let the student take one of its steps from noised latents that are not its own, on a past that is not either.

        All blocks at once, teacher-forced: one pass in place of a rollout's (steps + 1) for each block.
        """
        c, ids = self.config.distill, batch.sample_ids
        x0 = batch.x_BFCHW
        if c.policy == "teacher":
            guided = replace(self.config.flow, guidance=c.guidance, guide=c.guide)
            x0 = sample_clip(self.roles["teacher"], batch.cond, batch.size, ids, guided, self.seed, "policy", i)
        level = float(flow.levels(self.config.stream.steps, self.config.stream.shift)[self._exit(i, purpose)])
        noises = (flow.noise(ids, x0.shape[1:], x0, self.seed, purpose, i, name) for name in ("policy", "context"))
        t, past = x0.new_full(x0.shape[:2], level), x0.new_full(x0.shape[:2], c.context_noise)
        x_t, context = (flow.add_noise(x0, eps, at) for eps, at in zip(noises, (t, past), strict=True))
        return flow.to_x0(x_t, forced(self.student, x_t, t, batch.cond, self.config.stream, context), t)

    def _noised(self, batch: Conditioned, y: Tensor, i: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Draw a level for each sample and put the rollout there; returns (noised, levels)."""
        c = self.config.distill
        u = flow.uniform(batch.sample_ids, (1,), y, purpose, "t", self.seed, i)
        t = flow.shifted(u, c.shift).clamp(c.t_min, c.t_max).expand(-1, y.shape[1])
        eps = flow.noise(batch.sample_ids, y.shape[1:], y, purpose, "eps", self.seed, i)
        return flow.add_noise(y, eps, t), t

    def _score(self, role: str, y_t: Tensor, t: Tensor, batch: Conditioned, first: int, context: Tensor) -> Tensor:
        """Estimate the data behind noised frames [first, ...) of a rollout, with the role's layout and guidance."""
        cond, start = near(batch.cond, first, first + y_t.shape[1], self.roles[role])
        scales = self.config.distill.scales if role == "teacher" else (1.0,) * len(flow.GUIDED)
        v = flow.guided(lambda c: forced(self.roles[role], y_t, t, c, self.layout, context, start), cond, scales)
        return flow.to_x0(y_t, v, t)

    def _critic_losses(self, batch: Conditioned, i: int) -> Tensor:
        with torch.no_grad():
            y, first = self._results(batch, i, "critic", graph=False)
        y_t, t = self._noised(batch, y, i, "critic")
        x0 = self._score("critic", y_t, t, batch, first, y)
        return ((x0 - y) / flow.spread(t)).square().mean(dim=(1, 2, 3, 4))  # the flow loss: v = (x_t - x0) / t

    def _losses(self, batch: Conditioned, i: int) -> Tensor:
        y, first = self._results(batch, i, "student", graph=True)
        with torch.no_grad():
            y_t, t = self._noised(batch, y, i, "student")
            real, fake = (self._score(role, y_t, t, batch, first, y) for role in ("teacher", "critic"))
            gradient = distill.dmd_gradient(y, real, fake)
        self._sizes.append(gradient.abs().flatten(1).mean(1))
        return distill.dmd_loss(y, gradient)

    def step(self, batch: Conditioned, i: int) -> dict[str, float]:
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
