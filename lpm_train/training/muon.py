"""Muon over shards: every matrix is whole on one rank for a moment, and only there is it orthogonalized.

Momentum lies in shards, as weights and gradients do. Of as many matrices as ranks hold a copy of the weights, each
goes to another rank, which orthogonalizes it and sends everyone the rows of its result. What travels is bfloat16, the
type that the orthogonalization computes in, so the update is that of `torch.optim.Muon` on one rank.

A rank sends and receives 2 x 2 bytes for each value of its shard and step, where `fully_shard` moves a whole copy of
the weights twice to gather it and once to reduce: for n ranks about an n-th of that. Replicas each do the whole work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Muon
from torch.optim._muon import _adjust_lr, _zeropower_via_newtonschulz  # so that both compute the same

from lpm_train.training.parallel import spans


class ShardedMuon(Muon):
    """`torch.optim.Muon` of weights that `fully_shard` split, with a state of the same form; every rank steps."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step; `closure` is not called."""
        for group in self.param_groups:
            weights, grads, momenta = list[Tensor](), list[Tensor](), list[Tensor]()
            self._init_group(group, weights, grads, momenta)  # type: ignore[no-untyped-call]
            order = sorted(range(len(weights)), key=lambda k: -weights[k].numel())  # a round has equal work
            at_once = _ranks(weights[0]) if weights else 1
            for first in range(0, len(order), at_once):
                self._round(group, [(weights[k], grads[k], momenta[k]) for k in order[first : first + at_once]])

    def _round(self, group: dict[str, Any], rows: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Update as many weights as there are ranks, or fewer."""
        sent = []
        for _, grad, momentum in rows:
            mine, past = _local(grad), _local(momentum)
            past.lerp_(mine, 1 - group["momentum"])
            sent.append(mine.lerp(past, group["momentum"]) if group["nesterov"] else past)

        def orthogonal(matrix: Tensor) -> Tensor:
            made: Tensor = _zeropower_via_newtonschulz(
                matrix, group["ns_coefficients"], group["ns_steps"], group["eps"]
            )
            return made

        made = on_owners([w for w, _, _ in rows], sent, orthogonal)
        for (weight, _, _), update in zip(rows, made, strict=True):
            local = _local(weight)
            local.mul_(1 - group["lr"] * group["weight_decay"])
            local.add_(update, alpha=-_adjust_lr(group["lr"], group["adjust_lr_fn"], weight.shape))


def on_owners(
    weights: Sequence[Tensor], rows: Sequence[Tensor], function: Callable[[Tensor], Tensor]
) -> Sequence[Tensor]:
    """Compute a function of whole matrices of which each rank has rows, matrix k on the k-th rank of a shard.

    Args:
        weights: weights, sharded, of the matrices' shapes; at most as many as ranks.
        rows: this rank's rows of each matrix.
        function: maps a matrix to one of its shape, both bfloat16.

    Returns:
        This rank's rows of the results, bfloat16.
    """
    group, n = _group(weights[0]), _ranks(weights[0])
    me, parts = dist.get_rank(group), [spans(len(w), n) for w in weights]
    out = [r.bfloat16().flatten() for r in rows]
    mine = weights[me].shape if me < len(weights) else torch.Size([0, 0])
    arriving = [(s.stop - s.start) * mine[1] for s in parts[me]] if me < len(weights) else [0] * n
    leaving = [r.numel() for r in out] + [0] * (n - len(out))
    whole = _exchange(torch.cat(out), leaving, arriving, group)
    result = function(whole.reshape(mine)).contiguous() if me < len(weights) else whole
    back = _exchange(result.flatten(), arriving, leaving, group)
    return [b.reshape(r.shape) for b, r in zip(torch.split(back, leaving), rows, strict=False)]


def _exchange(values: Tensor, leaving: Sequence[int], arriving: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """Send consecutive parts of values, bfloat16, one to each rank, as bytes: gloo knows no bfloat16."""
    size = values.element_size()
    out = values.new_empty(sum(arriving))
    dist.all_to_all_single(
        out.view(torch.uint8), values.view(torch.uint8), [size * a for a in arriving], [size * n for n in leaving],
        group=group,
    )  # fmt: skip
    return out


def _group(weight: Tensor) -> dist.ProcessGroup:
    assert isinstance(weight, DTensor)
    return weight.device_mesh.get_group(_dimension(weight))


def _ranks(weight: Tensor) -> int:
    assert isinstance(weight, DTensor)
    return weight.device_mesh.size(_dimension(weight))


def _dimension(weight: DTensor) -> int:
    return next(k for k, placement in enumerate(weight.placements) if placement.is_shard())


def _local(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight
