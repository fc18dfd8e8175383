"""Generate frames: a whole clip with the bidirectional model, or block after block from a cache.

One block costs `steps` passes and one more that writes its clean keys to the cache. `Rollout` does this for training,
evaluation and streaming alike; only the block that carries a loss keeps a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Conditions
from lpm_train.config import ConfigError, Flow, Stream
from lpm_train.network.attention import Cache
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined

Draw = Callable[[str], Tensor]  # purpose -> noise [B, F, C, H, W] for the block at hand


@torch.no_grad()
def sample_clip(
    model: DiT, cond: Conditions, size: tuple[int, int, int], ids: Sequence[str], config: Flow, *seed: object
) -> Tensor:
    """Generate whole clips with both directions in view: -> [B, F, C, H, W]; `size` is (C, H, W)."""
    like = torch.empty(0, device=cond.speak_BTA.device)
    eps = flow.noise(ids, (cond.frames, *size), like, "clip", *seed)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return flow.guided(lambda c: model(x, t, c).v_BFCHW, cond, config.scales)

    return flow.SOLVERS[config.solver](velocity, eps, flow.levels(config.steps, config.shift).tolist())


def forced(
    model: Performer, x_t: Tensor, t_BF: Tensor, cond: Conditions, layout: Stream | None, context: Tensor,
    start: int = 0, past: float = 0.0,
) -> Tensor:  # fmt: skip
    """Return the velocity at `x_t`: with both directions in view, or under a layout, forced on a `context`.

    `past` is the noise level that the context is labelled with: 0, clean, but for a backbone.
    """
    if layout is not None:
        x_t, t_BF = torch.cat([context, x_t]), torch.cat([torch.full_like(t_BF, past), t_BF])
    v: Tensor = model(x_t, t_BF, cond, layout=layout, start=start).v_BFCHW
    return v


def near(cond: Conditions, start: int, stop: int, model: Performer) -> tuple[Conditions, int]:
    """Cut conditions to a block, the sound it can hear and its texts; returns them and its first frame within."""
    low = max(0, start - model.config.frames_before)
    part = cond.window(low, min(cond.frames, stop + model.config.frames_after))
    return part.told(start - low, stop - low), start - low


def few_steps(
    velocity: Callable[[Tensor, Tensor], Tensor], draw: Draw, config: Stream, exit_step: int | None = None,
    graph: bool = False,
) -> Tensor:  # fmt: skip
    """Denoise a block in the steps of `config`; `velocity` is a function of (x_BFCHW, t_BF), the rest as in `block`."""
    ts = flow.levels(config.steps, config.shift).tolist()
    x, last = draw("step0"), len(ts) - 1 if exit_step is None else exit_step
    for i, now in enumerate(ts[: last + 1]):
        with torch.set_grad_enabled(graph and i == last):
            t = x.new_full(x.shape[:2], now)
            v = velocity(x, t)
            x0 = flow.to_x0(x, v, t)
            if i < last:
                then = ts[i + 1]
                eps = draw(f"step{i + 1}") if config.resample else x0 + v
                x = flow.add_noise(x0, eps, torch.full_like(t, then))
    return x0


def handed(
    velocity: Callable[[Tensor, Tensor], Tensor], draw: Draw, config: Stream, exit_step: int | None = None,
    graph: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Take a backbone's steps, all of them; returns (clean latents of the one asked for, what the refiner takes)."""
    ts, x, results = config.levels, draw("step0"), []
    wanted = config.steps - 1 if exit_step is None else exit_step
    for i in range(config.steps):
        with torch.set_grad_enabled(graph and i == wanted):
            t = x.new_full(x.shape[:2], ts[i])
            v = velocity(x, t)
            results.append(flow.to_x0(x, v, t))
        with torch.no_grad():
            eps = draw(f"step{i + 1}") if config.resample else results[-1] + v
            x = flow.add_noise(results[-1], eps, torch.full_like(t, ts[i + 1]))
    return results[wanted], x


def refined(velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, config: Stream) -> Tensor:
    """Take a refiner's one step from what a backbone handed on: -> clean latents."""
    t = x.new_full(x.shape[:2], config.levels[-1])
    return flow.to_x0(x, velocity(x, t), t)


@dataclass
class Rollout:
    """Blocks from a causal model, each remembered for the next."""

    model: DiT
    config: Stream
    cache: Cache
    context_noise: float = 0.0

    @classmethod
    @torch.no_grad()
    def begin(cls, model: DiT, cond: Conditions, config: Stream, context_noise: float = 0.0) -> Self:
        """Start with the references of `cond` in the cache."""
        return cls(model, config, model(None, None, cond, layout=config), context_noise)

    def block(
        self, cond: Conditions, start: int, draw: Draw, exit_step: int | None = None, graph: bool = False
    ) -> Tensor:
        """Generate one block and remember it.

        Args:
            cond: conditions around the block, see `near`.
            start: the block's first frame within `cond`.
            draw: gives the noise; asked for "step0", "step1", ..., and "context".
            exit_step: stop after this step; None: after the last.
            graph: keep the graph of that step.
        """

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            v: Tensor = self.model(x, t, cond, cache=self.cache, start=start).v_BFCHW
            return v

        x0 = few_steps(velocity, draw, self.config, exit_step, graph)
        self.remember(x0.detach(), cond, start, draw)
        return x0

    @torch.no_grad()
    def remember(self, x0: Tensor, cond: Conditions, start: int, draw: Draw) -> None:
        """Write a clean block to the cache."""
        if self.context_noise:
            x0 = flow.add_noise(x0, draw("context"), x0.new_full(x0.shape[:2], self.context_noise))
        self.cache = self.cache.append(
            self.model(x0, x0.new_zeros(x0.shape[:2]), cond, cache=self.cache, start=start).block
        )


@dataclass
class BackboneRollout(Rollout):
    """Blocks that are left to a refiner.

    What is remembered of each are the keys and values of its last step, whose noise the next block knows by their
    label: a block costs its steps and no pass more.
    """

    def block(
        self, cond: Conditions, start: int, draw: Draw, exit_step: int | None = None, graph: bool = False
    ) -> Tensor:
        """Generate one block and remember it, see `Rollout.block`; all steps are taken, whichever gives the result."""
        return self.handed(cond, start, draw, exit_step, graph)[0]

    def handed(
        self, cond: Conditions, start: int, draw: Draw, exit_step: int | None = None, graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Generate one block and remember it; returns (clean latents of the step asked for, what the refiner takes)."""
        keys: Any = None

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            nonlocal keys
            v, keys = self.model(x, t, cond, cache=self.cache, start=start)
            return v  # type: ignore[no-any-return]

        out = handed(velocity, draw, self.config, exit_step, graph)
        self.cache = self.cache.append(keys)
        return out


@dataclass
class RefinedRollout(Rollout):
    """A refiner's blocks behind a backbone's, each network with a cache of its own.

    The backbone never sees what the refiner makes of its blocks: the two may work on blocks that follow each other.
    """

    backbone: BackboneRollout = field(kw_only=True)

    def block(
        self, cond: Conditions, start: int, draw: Draw, exit_step: int | None = None, graph: bool = False
    ) -> Tensor:
        """Generate one block and remember it, see `Rollout.block`; the refiner has one step, and `graph` is its."""
        with torch.no_grad():
            x = self.backbone.handed(cond, start, draw)[1]
        with torch.set_grad_enabled(graph):
            x0 = refined(lambda x, t: self.model(x, t, cond, cache=self.cache, start=start).v_BFCHW, x, self.config)
        self.remember(x0.detach(), cond, start, draw)
        return x0


def check(model: Performer, config: Stream) -> None:
    """Raise ConfigError where a refiner is given and the stream has no step for it."""
    if isinstance(model, Refined) and not config.refine:
        raise ConfigError("backbone and refiner generate with stream.refine=true, as they were trained")


def begin(model: Performer, cond: Conditions, config: Stream, context_noise: float = 0.0) -> Rollout:
    """Start with the references of `cond` in the cache, or in both caches; see `Rollout`.

    Raises:
        ConfigError: a refiner is given, and the stream has no step for it.
    """
    check(model, config)
    if not isinstance(model, Refined):
        return (BackboneRollout if config.refine else Rollout).begin(model, cond, config, context_noise)
    of_refiner = Rollout.begin(model.refiner, cond, config, context_noise)
    return RefinedRollout(**vars(of_refiner), backbone=BackboneRollout.begin(model.backbone, cond, config))


def drawn(ids: Sequence[str], shape: tuple[int, ...], device: torch.device, *seed: object) -> Draw:
    """Return what draws the noise of a block [B, *shape], by the samples' ids and the seed, which tells the block."""
    like = torch.empty(0, device=device)
    return lambda purpose: flow.noise(ids, shape, like, "roll", *seed, purpose)


def roll(
    model: Performer, cond: Conditions, size: tuple[int, int, int], ids: Sequence[str], config: Stream, *seed: object,
    exit_step: int | None = None, loss_from: int = 0, context_noise: float = 0.0, kept_from: int = 0,
) -> Tensor:  # fmt: skip
    """Generate all frames of `cond` block by block: -> [B, F - kept_from, C, H, W], `size` is (C, H, W).

    With `exit_step`, blocks stop there; those from frame `loss_from` on keep their graph, and no graph crosses from
    block to block. Blocks that begin before frame `kept_from` take all steps and are let go: they are the past as a
    stream would have it (cut at an early step, each would be paler than the one before), and memory is that of the
    cache and of what is returned, however long the rollout.
    """
    rollout, out = begin(model, cond, config, context_noise), []
    for first in range(0, config.blocks(cond.frames) * config.block, config.block):
        draw = drawn(ids, (config.block, *size), cond.speak_BTA.device, *seed, first)
        part, start = near(cond, first, first + config.block, model)
        graph = exit_step is not None and first >= loss_from
        x0 = rollout.block(part, start, draw, exit_step if first >= kept_from else None, graph)
        if first + config.block > kept_from:
            out.append(x0[:, max(0, kept_from - first) :])
    return torch.cat(out, dim=1)
