"""What every stage of training is made of: one step of an optimizer, held-out figures, and when to stop.

A stage owns its models ("roles") and their optimizers; loop, checkpoints and logs see only `step`, `evaluate` and
`exit_criteria`. Evaluation uses the averaged weights and fixed noise, so two figures of one stage differ by the weights
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from lpm_train import flow
from lpm_train.batch import STATES, Batch, Conditions, Rows, sample_seed
from lpm_train.config import Config, Stream
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.streaming.rollout import forced, roll
from lpm_train.training.muon import ShardedMuon
from lpm_train.training.parallel import Ema, Ranks, accumulate, autocast, clip_gradients, gather_rows, prepare
from lpm_train.training.start import Start, build, fingerprint

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # noise levels of a held-out loss


def level_loss(
    model: Performer, batch: Batch, layout: Stream | None, level: float, cond: Conditions | None = None,
    purpose: str = "probe",
) -> Tensor:  # fmt: skip
    """Return the flow loss by sample and frame at one noise level, with noise fixed by `purpose`: [B, F].

    Under a layout the past is clean, but for a backbone, which knows the noisy one of its stream alone.
    """
    x = batch.x_BFCHW
    eps = flow.noise(batch.sample_ids, x.shape[1:], x, purpose, level)
    t, context, past = x.new_full(x.shape[:2], level), x, 0.0
    if layout is not None and layout.refine and not isinstance(model, Refined):
        past = layout.history
        other = flow.noise(batch.sample_ids, x.shape[1:], x, purpose, "past")
        context = flow.add_noise(x, other, torch.full_like(t, past))
    v = forced(model, flow.add_noise(x, eps, t), t, cond or batch.cond, layout, context, past=past)
    return flow.frame_loss(v, x, eps)


def by_state(loss: Tensor, state: Tensor) -> dict[str, float]:
    """Return the mean loss of each state that occurs."""
    return {n: float(loss[state == i].mean()) for i, n in enumerate(STATES) if bool((state == i).any())}


@dataclass(frozen=True)
class Criterion:
    """One condition of being done."""

    name: str
    value: float | None  # None: not measured
    sign: Literal["<=", ">="]
    target: float

    @property
    def passed(self) -> bool:
        """True if measured and reached."""
        if self.value is None or not math.isfinite(self.value):
            return False
        return self.value <= self.target if self.sign == "<=" else self.value >= self.target

    def __str__(self) -> str:
        shown = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"[{'pass' if self.passed else 'open'}] {self.name} {shown} ({self.sign} {self.target:g})"


def _make_optimizers(
    model: DiT, lr: float, betas: tuple[float, float], weight_decay: float, muon: bool, ranks: int = 1
) -> tuple[Optimizer, ...]:
    """Make AdamW; or Muon for the matrices of the blocks and AdamW for all else.

    Muon takes momentum orthogonalized (K. Jordan 2024, kellerjordan.github.io/posts/muon), scaled to AdamW's step size
    (Liu et al. 2025, arXiv 2502.16982), at three times the rate of the rest: a group's `gain` is its rate over `lr`.
    On several ranks a matrix is put together on one of them (`lpm_train.training.muon`).
    """
    others = [p for p in model.parameters() if p.requires_grad]
    if not muon:
        return (AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay),)
    linear = [m.weight for m in model.blocks.modules() if isinstance(m, nn.Linear)]
    matrices = [w for w in linear if w.requires_grad]
    inner = set(map(id, matrices))
    kind = ShardedMuon if ranks > 1 else Muon
    first = kind(matrices, lr=lr, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    first.param_groups[0]["gain"] = 3.0
    others = [p for p in others if id(p) not in inner]
    return first, AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay)


class Stage:
    """What all stages share: a student, its optimizer and average, and the measured step of flow matching."""

    name: ClassVar[str]
    judges: ClassVar[tuple[str, ...]] = ()  # roles that never change: checkpoints name them, and do not hold them
    held: ClassVar[tuple[str, ...]] = ()  # roles that never change either, and that checkpoints hold
    layout: Stream | None = None  # of teacher forcing

    def __init__(self, config: Config, where: Ranks, start: Start | None = None) -> None:
        self.config, self.where, self.seed = config, where, config.run.seed
        self._shared: dict[str, Tensor] = {}  # a frozen base, or this rank's rows of it: held once for all roles
        self.roles = {"student": self._model(start)}
        self.optimizers = {"student": self._optimizers(self.student, config.optim.lr)}
        self.ema = Ema(self.student, config.optim.ema)

    @property
    def student(self) -> DiT:
        """The model that is trained."""
        return self.roles["student"]

    def _model(self, start: Start | None, trained: bool = True) -> DiT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sample_seed("weights", self.seed))
            return build(
                self.config, start, self._shared, self.where, lambda m: prepare(m, self.config, self.where, trained)
            )

    @cached_property
    def judged_by(self) -> dict[str, dict[str, str]]:
        """Name the judges: where each was read from, and the hash of its weights. Every rank must ask."""
        judges = {n: self.roles[n] for n in self.judges}
        return {n: {"place": m.place, "sha256": fingerprint(m, self.where)} for n, m in judges.items()}

    def resumed(self) -> None:
        """Follow weights that were read from a checkpoint: what is no judge and has no optimizer is not in it."""

    def _optimizers(
        self, model: DiT, lr: float, betas: tuple[float, float] | None = None, muon: bool | None = None
    ) -> tuple[Optimizer, ...]:
        o = self.config.optim
        return _make_optimizers(
            model, lr, betas or o.betas, o.weight_decay, o.muon if muon is None else muon, self.where.size
        )

    def _rate(self, i: int) -> float:
        """Give the share of the learning rate at a step: linear warm-up, then constant or cosine."""
        o, n = self.config.optim, self.config.run.steps
        warm = min(1.0, (i + 1) / max(1, o.warmup))
        return warm * (o.decay_to + (1 - o.decay_to) * 0.5 * (1 + math.cos(math.pi * min(1.0, i / n))))

    def _descend(
        self, role: str, lr: float, batch: Rows, i: int, loss: Callable[[Rows, int], Tensor]
    ) -> tuple[float, float]:
        """Take one optimizer step on the mean of `loss` over the global batch; returns (loss, gradient norm)."""
        model, o = self.roles[role], self.config.optim

        def part(rows: Rows) -> Tensor:
            with autocast(self.config, self.where):
                return loss(rows, i)

        losses = accumulate(batch, o.micro_batch, model.parameters(), part, o.exact_sums)
        norm = clip_gradients(model.parameters(), o.clip)
        for optimizer in self.optimizers[role]:
            for group in optimizer.param_groups:
                group["lr"] = lr * self._rate(i) * group.get("gain", 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return float(losses.mean()), norm

    def _losses(self, batch: Batch, i: int) -> Tensor:
        """Give the training loss of each row."""
        raise NotImplementedError

    def step(self, batch: Batch, i: int) -> dict[str, float]:
        """Take optimizer step `i` (from 0) on this rank's rows; return figures of the global batch."""
        batch = batch.to(self.where.device)
        loss, norm = self._descend("student", self.config.optim.lr, batch, i, self._losses)
        self.ema.update(self.student, i)
        return {"loss": loss, "grad_norm": norm, "lr": self.config.optim.lr * self._rate(i)}

    @contextmanager
    def averaged(self) -> Iterator[DiT]:
        """Put the averaged weights into the student for a while, without gradients."""
        with self.ema.applied(self.student), torch.no_grad(), autocast(self.config, self.where):
            yield self.student

    def evaluate(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Measure the averaged weights at fixed noise: `heldout_loss` in all, by state and by noise level."""
        losses, states = [], []
        with self.averaged() as model:
            for batch in (b.to(self.where.device) for b in batches):
                by_level = [level_loss(model, batch, self.layout, t, purpose="heldout") for t in LEVELS]
                losses.append(torch.stack(by_level, dim=-1).double().flatten(0, 1))  # clips may differ in length
                states.append(batch.state_BF.flatten())
        loss_NG, state_N = gather_rows(torch.cat(losses)), gather_rows(torch.cat(states).long())
        out = {"": float(loss_NG.mean())} | {f".{n}": v for n, v in by_state(loss_NG, state_N).items()}
        out |= {f".t{t:g}": float(loss_NG[:, k].mean()) for k, t in enumerate(LEVELS)}
        return {f"heldout_loss{name}": value for name, value in out.items()}

    def exit_criteria(self, first: Mapping[str, float], now: Mapping[str, float]) -> list[Criterion]:
        """Ask for a held-out loss well below the first, and for one in every state that is not left behind."""
        target = self.config.run.exit_share * first["heldout_loss"]
        by_state = [key for key in (f"heldout_loss.{state}" for state in STATES) if key in now]
        rows = [Criterion("heldout_loss", now.get("heldout_loss"), "<=", target)]
        return rows + [Criterion(key, now[key], "<=", 2 * now["heldout_loss"]) for key in by_state]

    def generate(self, batch: Batch, *seed: object) -> Tensor:
        """Generate latents for a batch's conditions with the averaged weights: [B, F, C, H, W]."""
        batch = batch.to(self.where.device)
        C, H, W = batch.x_BFCHW.shape[2:]
        with self.averaged() as model:
            return self._generate(model, batch, (C, H, W), *seed)

    def _generate(self, model: DiT, batch: Batch, size: tuple[int, int, int], *seed: object) -> Tensor:
        return roll(model, batch.cond, size, batch.sample_ids, self.config.stream, *seed)

    def _uniform(self, batch: Batch, shape: Sequence[int], i: int, *purpose: object) -> Tensor:
        return flow.uniform(batch.sample_ids, shape, batch.x_BFCHW, *purpose, self.seed, i)

    def _noise(self, batch: Batch, purpose: str, i: int) -> Tensor:
        shape = batch.x_BFCHW.shape[1:]
        return flow.noise(batch.sample_ids, shape, batch.x_BFCHW, purpose, self.name, self.seed, i)


def make_stage(
    config: Config, where: Ranks | None = None, start: Start | None = None, teacher: Start | None = None,
    backbone: Start | None = None,
) -> Stage:  # fmt: skip
    """Make the stage that `config.run.stage` chooses, starting from weights of the one before.

    Args:
        config: everything.
        where: this rank; None: one process on the CPU.
        start: weights of the student; None: fresh.
        teacher: weights of the teacher, distillation only; None: those of `start`.
        backbone: weights of a refiner's backbone; None: those of `start`.
    """
    where = where or Ranks(device=torch.device(config.run.device or "cpu"))
    weights = {"start": start, "teacher": teacher, "backbone": backbone}
    return cast(Stage, config.run.stage.build(config=config, where=where, **weights))
