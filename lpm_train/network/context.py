"""One sample over several ranks: its tokens are split by frames, its attention by heads (`run.context`).

Ulysses (Jacobs et al. 2023, arXiv 2309.14509): all but self-attention concerns a token or a frame, so each rank of a
group has some of the frames. Before self-attention ranks exchange frames for heads: each gets all tokens of its share
of the heads, and attends as one rank would, in both directions or teacher-forced. After it they exchange back. So the
result is that of one rank, to the order of sums. A model takes and returns whole clips, and losses know nothing of it.

What comes before the split and after the gathering is computed by all ranks alike. The gathering's backward pass adds
up what each rank says of a frame: n times its gradient, of which the mean over all ranks (`fully_shard`) makes the
gradient of the batch. A layer exchanges 4 / n of its tokens' widths a rank and pass; references are computed by each
rank, and passes on a cache too, which are not split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lpm_train.config import Config, ConfigError


class _AllToAll(torch.autograd.Function):
    """Send consecutive pieces of a vector to the ranks of a group, and receive one from each."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup) -> Tensor:
        """Exchange."""
        ctx.back = received, sent, group
        out = flat.new_empty(sum(received))
        dist.all_to_all_single(out, flat, received, sent, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Send the gradient of each piece back to where it came from."""
        out: Tensor = _AllToAll.apply(gradients[0].contiguous(), *ctx.back)  # type: ignore[no-untyped-call]
        return out, None, None, None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def exchange(parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], group: dist.ProcessGroup) -> list[Tensor]:
    """Send the i-th part to the i-th rank of a group; returns what each sent, of the given shapes."""
    received = [math.prod(shape) for shape in shapes]
    flat = torch.cat([part.reshape(-1) for part in parts])
    out: Tensor = _AllToAll.apply(flat, [part.numel() for part in parts], received, group)  # type: ignore[no-untyped-call]
    pieces = torch.split(out, received)
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]


@dataclass(frozen=True)
class Split:
    """The frames of a pass over the ranks of a group, consecutive ones on each."""

    group: dist.ProcessGroup
    rank: int  # within the group
    counts: tuple[int, ...]  # frames of each rank

    @property
    def first(self) -> int:
        """This rank's first frame."""
        return sum(self.counts[: self.rank])

    @property
    def count(self) -> int:
        """This rank's frames."""
        return self.counts[self.rank]

    def gathered(self, x: Tensor) -> Tensor:
        """Join the frames of all ranks, which are axis 1, on every rank."""
        shapes = [(x.shape[0], n, *x.shape[2:]) for n in self.counts]
        return torch.cat(exchange([x] * len(self.counts), shapes, self.group), dim=1)

    def to_heads(self, *own: Tensor) -> tuple[Tensor, ...]:
        """Give other heads away for other frames: [B, N, own L, E] each -> [B, N / ranks, L, E]."""
        x, n = torch.stack(own), len(self.counts)
        C, B, N, length, E = x.shape
        shapes = [(C, B, N // n, length // self.count * frames, E) for frames in self.counts]
        return torch.cat(exchange(x.chunk(n, dim=2), shapes, self.group), dim=3).unbind()

    def to_frames(self, x_BNLE: Tensor) -> Tensor:
        """Undo `to_heads` of one tensor: [B, N / ranks, L, E] -> [B, N, own L, E]."""
        B, N, length, E = x_BNLE.shape
        tokens = length // sum(self.counts)
        parts = torch.split(x_BNLE, [tokens * frames for frames in self.counts], dim=2)
        return torch.cat(exchange(parts, [(B, N, tokens * self.count, E)] * len(parts), self.group), dim=1)

    def heads(self, x: Tensor, axis: int) -> Tensor:
        """Take this rank's heads of what every rank has."""
        return x.chunk(len(self.counts), dim=axis)[self.rank]


@dataclass(frozen=True)
class Context:
    """The ranks that share samples with this one: consecutive ones."""

    group: dist.ProcessGroup
    rank: int  # within the group
    size: int

    def split(self, frames: int) -> Split:
        """Deal out frames as evenly as they go. Raises ConfigError where there are fewer than ranks."""
        if frames < self.size:
            raise ConfigError(f"{frames} latents cannot be split over run.context={self.size} ranks: use longer clips")
        counts = (frames // self.size + (i < frames % self.size) for i in range(self.size))
        return Split(self.group, self.rank, tuple(counts))


def join(config: Config, rank: int, size: int) -> Context | None:
    """Make the group of this rank, where `run.context` asks for one; every rank must call it.

    Raises:
        ConfigError: ranks or heads do not divide by it, or the stage cannot be split.
    """
    n, heads = config.run.context, config.model.heads
    if n == 1:
        return None
    if n < 1 or size % n:
        raise ConfigError(f"run.context={n} does not divide {size} ranks: start a multiple of {n}, or set a divisor")
    if heads % n:
        fits = [k for k in range(2, n) if not heads % k and not size % k]
        raise ConfigError(f"run.context={n} does not divide {heads} heads: use {' or '.join(map(str, [1, *fits]))}")
    group, _ = dist.new_subgroups(n)  # type: ignore[no-untyped-call]
    assert group is not None
    return Context(group, rank % n, n)
