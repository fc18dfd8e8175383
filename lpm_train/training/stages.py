"""The stages of training: each owns its models and optimizers and knows one thing, how to take a step.

Pretrain (both directions) -> Causal (teacher forcing) -> optionally `extras.consistency` -> Distill (own rollouts).
All share one transformer; each starts from the averaged weights of the one before (`stage.make_stage`).
`student` is what is trained, `teacher` and `critic` exist in distillation. `stage.generate` gives latents the way the
stage's model is meant to be sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpm_train import flow
from lpm_train.batch import Batch, Conditioned, Conditions, drop_conditions, sample_seed
from lpm_train.config import Config, ConfigError
from lpm_train.encoders.perceptual import part_of
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.streaming.rollout import forced, near, roll, sample_clip
from lpm_train.training import distill
from lpm_train.training.parallel import Ranks, gather_rows
from lpm_train.training.stage import Criterion, Stage
from lpm_train.training.start import Start


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


class Made(NamedTuple):
    """What the student made, to be judged."""

    y_BFCHW: Tensor
    first: int  # its first frame within the conditions
    given_BFCHW: Tensor | None = None  # off the policy: the latents that it began with, before the noise


def _begins(cond: Conditions, start: int, y_BFCHW: Tensor) -> Conditions:
    """Let a part of a rollout begin with a given picture, where clips do: the base knows no others.

    It is the part's own first latent. The picture that the rollout began with is far away by then.
    """
    if cond.given_BFCHW is None or cond.given_on_BF is None:
        return cond
    given, on = cond.given_BFCHW.clone(), torch.zeros_like(cond.given_on_BF)
    given[:, start], on[:, start] = y_BFCHW[:, 0].detach().to(given), True
    return replace(cond, given_BFCHW=given, given_on_BF=on)


class Distill(Stage):
    """Match the distribution of what the student makes to the teacher's: of its own rollouts, or off its policy.

    With `distill.role` the student is a backbone, or the refiner behind a frozen backbone.
    """

    name = "distill"
    judges = ("teacher",)
    held = ("backbone",)

    def __init__(
        self, config: Config, where: Ranks, start: Start | None = None, teacher: Start | None = None,
        backbone: Start | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, where, start)
        self.layout = config.stream if config.distill.teacher == "causal" else None
        if config.distill.role == "refiner":
            self.roles["backbone"] = self._model(start if backbone is None else backbone, trained=False)
        perceptual = config.distill.perceptual
        self.perceptual = perceptual.build() if perceptual.at_work else None
        self.codec = config.data.codec.build() if perceptual.at_work else None
        for part in (self.perceptual, self.codec):
            if isinstance(part, nn.Module):
                part.to(where.device).requires_grad_(False)
        teacher = teacher if teacher is not None else start
        self.roles |= {"teacher": self._model(teacher, trained=False), "critic": self._model(teacher)}
        c = config.distill
        self.optimizers["critic"] = self._optimizers(self.roles["critic"], c.critic_lr, c.critic_betas, c.critic_muon)

    def performer(self, model: DiT) -> Performer:
        """Return what streams: the student, and where it is a refiner the backbone with it."""
        return Refined(self.roles["backbone"], model) if "backbone" in self.roles else model

    def _generate(self, model: DiT, batch: Batch, size: tuple[int, int, int], *seed: object) -> Tensor:
        return roll(self.performer(model), batch.cond, size, batch.sample_ids, self.config.stream, *seed)

    def _results(self, batch: Conditioned, i: int, purpose: str, graph: bool) -> Made:
        """Let the student work."""
        if self.config.distill.policy == "own":
            return Made(*self._roll(batch, i, purpose, graph))
        assert isinstance(batch, Batch)  # a loader gives chains for own rollouts alone
        given = self._given(batch, i)
        return Made(self._restore(batch, given, i, purpose), 0, given)

    def _exit(self, i: int, purpose: str) -> int:
        """Draw the step that carries the gradient, one for all blocks and ranks; a refiner's follows the others."""
        c = self.config.stream
        if self.config.distill.role == "refiner":
            return c.steps
        return sample_seed("exit", self.seed, purpose, i) % c.steps

    def _roll(self, batch: Conditioned, i: int, purpose: str, graph: bool) -> tuple[Tensor, int]:
        """Let the student go on from its own past; what comes before the frames of the loss is let go."""
        c, given = self.config.distill, batch.cond.frames
        frames = c.rollout or given
        if max(frames, c.loss_frames) > given or (c.loss_frames or frames) > frames:
            raise ConfigError(
                f"distill.rollout {frames} and loss_frames {c.loss_frames} do not fit conditions of {given} latents: "
                "set data.frames to the rollout's length, or give chains of clips (lpm_train.data.chain_loader)"
            )
        first = frames - (c.loss_frames or frames)
        model, stream = self.performer(self.student), self.config.stream
        y = roll(
            model, batch.cond.window(0, frames), batch.size, batch.sample_ids, stream, self.seed, purpose, i,
            exit_step=self._exit(i, purpose), loss_from=first if graph else frames,
            context_noise=c.context_noise, kept_from=first,
        )  # fmt: skip
        return y, first

    def _given(self, batch: Batch, i: int) -> Tensor:
        """Return the latents that the student restores off its policy: the data's or the teacher's."""
        c = self.config.distill
        if c.policy == "data":
            return batch.x_BFCHW
        guided = replace(self.config.flow, guidance=c.guidance, guide=c.guide)
        teacher, ids = self.roles["teacher"], batch.sample_ids
        return sample_clip(teacher, batch.cond, batch.size, ids, guided, self.seed, "policy", i)

    def _restore(self, batch: Batch, x0: Tensor, i: int, purpose: str) -> Tensor:
        """Let the student take one of its steps from noised latents that are not its own, on a past that is not either.

        All blocks at once, teacher-forced: one pass in place of a rollout's (steps + 1) for each block. A backbone's
        past has the noise and the label of its stream's.
        """
        c, stream, ids = self.config.distill, self.config.stream, batch.sample_ids
        label = stream.history if c.role == "backbone" else 0.0
        noises = (flow.noise(ids, x0.shape[1:], x0, self.seed, purpose, i, name) for name in ("policy", "context"))
        t = x0.new_full(x0.shape[:2], stream.levels[self._exit(i, purpose)])
        past = torch.full_like(t, label or c.context_noise)
        x_t, context = (flow.add_noise(x0, eps, at) for eps, at in zip(noises, (t, past), strict=True))
        return flow.to_x0(x_t, forced(self.student, x_t, t, batch.cond, stream, context, past=label), t)

    def _unlike(self, batch: Conditioned, y: Tensor, given: Tensor, i: int) -> Tensor:
        """Return how far pictures of the student's latents are from those of the given ones, over some frames: [B]."""
        assert self.perceptual is not None and self.codec is not None
        n = min(self.config.distill.perceptual_frames, y.shape[1])
        u = flow.uniform(batch.sample_ids, (1,), y, "perceptual", self.seed, i)
        frames = (u * (y.shape[1] - n + 1)).long() + torch.arange(n, device=y.device)
        parts = (part_of(x, frames) for x in (y, given))
        return self.perceptual(self.codec, *parts)

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
        cond = cond if first == 0 else _begins(cond, start, context)
        scales = self.config.distill.scales if role == "teacher" else (1.0,) * len(flow.GUIDED)
        v = flow.guided(lambda c: forced(self.roles[role], y_t, t, c, self.layout, context, start), cond, scales)
        return flow.to_x0(y_t, v, t)

    def _critic_losses(self, batch: Conditioned, i: int) -> Tensor:
        with torch.no_grad():
            y, first, _ = self._results(batch, i, "critic", graph=False)
        y_t, t = self._noised(batch, y, i, "critic")
        x0 = self._score("critic", y_t, t, batch, first, y)
        return ((x0 - y) / flow.spread(t)).square().mean(dim=(1, 2, 3, 4))  # the flow loss: v = (x_t - x0) / t

    def _losses(self, batch: Conditioned, i: int) -> Tensor:
        y, first, given = self._results(batch, i, "student", graph=True)
        with torch.no_grad():
            y_t, t = self._noised(batch, y, i, "student")
            real, fake = (self._score(role, y_t, t, batch, first, y) for role in ("teacher", "critic"))
            gradient = distill.dmd_gradient(y, real, fake)
        self._sizes.append(gradient.abs().flatten(1).mean(1))
        loss = distill.dmd_loss(y, gradient)
        if self.perceptual is None or given is None:
            return loss
        distance = self._unlike(batch, y, given, i)
        self._distances.append(distance.detach())
        return loss + self.config.distill.perceptual_weight * distance

    def step(self, batch: Conditioned, i: int) -> dict[str, float]:
        """Update the critic, and the student on every `critic_steps`-th step (the first included)."""
        c, batch = self.config.distill, batch.to(self.where.device)
        out: dict[str, float] = {}
        if i % c.critic_steps == 0:
            self._sizes: list[Tensor] = []
            self._distances: list[Tensor] = []
            lr = c.lr or self.config.optim.lr
            loss, norm = self._descend("student", lr, batch, i, self._losses)
            self.ema.update(self.student, i // c.critic_steps)
            dmd = float(gather_rows(torch.cat(self._sizes).double()).mean())
            out = {"generator_loss": loss, "grad_norm": norm, "dmd": dmd, "lr": lr * self._rate(i)}
            if self._distances:
                out["perceptual"] = float(gather_rows(torch.cat(self._distances).double()).mean())
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
