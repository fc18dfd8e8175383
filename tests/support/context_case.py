"""Passes that ranks share: as threads of one process that swap their tensors, and as processes over gloo.

python -m context_case OUT trains every case of `CASES` for some steps; as the ranks of torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import torch
import train_case as case
from torch import Tensor, nn

from lpm_train.config import Config, override
from lpm_train.network.context import Context
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.training.parallel import ranks
from lpm_train.training.stage import make_stage

STEPS, FRAMES = 2, 10  # an uneven number of frames for three ranks, and for four
CASES: dict[str, list[str]] = {
    "pretrain": ["pretrain.prefix_p=0.5"],
    "wan": ["run.stage=causal", "model.kind=wan", "run.checkpointing=true"],
    "uneven": ["stream.block=1", "stream.window=3", "run.stage=causal", "optim.micro_batch=1"],
    "distill": ["run.stage=distill", "distill.critic_steps=2"],
}

_T = TypeVar("_T")


def settings(*changes: str) -> Config:
    """Settings of the smallest model with four heads."""
    return override(case.config(), ["model.width=24", "model.heads=4", *changes])


def model(config: Config, dtype: torch.dtype = torch.float64) -> DiT:
    """Make a network in which nothing is zero."""
    torch.manual_seed(0)
    out = make_model(config.model)
    for p in out.parameters():
        nn.init.normal_(p, std=0.3)
    return out.to(dtype)


@dataclass(frozen=True)
class Seat:
    """A thread's place at a table where parts are swapped: what a process group is to processes."""

    table: list[Sequence[Tensor]]
    rank: int
    barrier: Barrier

    def swap(self, parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        self.table[self.rank] = parts
        self.barrier.wait(60)
        got = [theirs[self.rank] for theirs in self.table]
        self.barrier.wait(60)
        assert [tuple(x.shape) for x in got] == list(shapes)
        return got


def exchange(parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], group: Any) -> list[Tensor]:
    """Stand in for `lpm_train.network.context.exchange`."""
    return group.swap(parts, shapes)


def together(n: int, do: Callable[[Context], _T]) -> list[_T]:
    """Let n threads do their part of one pass."""
    table, barrier = list[Sequence[Tensor]]([()] * n), Barrier(n)

    def part(rank: int) -> _T:
        try:
            return do(Context(Seat(table, rank, barrier), rank, n))  # type: ignore[arg-type]
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(part, range(n)))


def train(out: Path, name: str, context: int, shard: int = 0) -> None:
    """Train a case for some steps; the first rank writes losses, held-out figures and weights."""
    config = settings("optim.micro_batch=2", f"run.context={context}", f"run.shard={shard}", *CASES[name])
    frames = 5 if name == "uneven" else 8
    with ranks(config) as where:
        stage = make_stage(config, where, start=model(config).state_dict())
        source = case.Source(rank=where.data_rank, world=where.data_size, frames=frames)
        found: dict[str, Any] = {"losses": []}
        for i in range(STEPS):
            figures = stage.step(next(source).to(dtype=torch.float64), i)
            found["losses"].append([figures["loss"], figures.get("grad_norm", 0.0)])
        heldout = case.batch(["x", "y"], frames, dtype=torch.float64)
        found["heldout"] = stage.evaluate([heldout])["heldout_loss"]
        found["generated"] = stage.generate(heldout, "held")
        found["weights"] = {
            n: getattr(p, "full_tensor", lambda p=p: p)().detach() for n, p in stage.student.named_parameters()
        }
        if where.first:
            torch.save(found, out / f"{name}.pt")


def main(out: Path) -> None:
    torch.set_default_dtype(torch.float64)
    torch.distributed.init_process_group("gloo")  # once for all cases
    for name in CASES:
        train(out, name, int(os.environ["CONTEXT"]), int(os.environ["SHARD"]))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
