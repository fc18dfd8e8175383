"""Ranks, sharding, and the arithmetic that must not depend on them.

`fully_shard` splits weights, gradients, optimizer state and EMA over the ranks that torchrun starts (nccl on CUDA,
gloo on CPU): over all, or over `run.shard` of them, the others being replicas of these (HSDP). Sums over parts of a
batch are taken pairwise in a fixed order and norms in float64, so that one rank and two give the same bits at the same
global batch and `optim.micro_batch`; that costs log2(parts) more copies of the (sharded) gradients. Where the CPU's
products come from MKL, MKL_CBWR=COMPATIBLE is needed besides.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from lpm_train.batch import Rows
from lpm_train.config import Config, ConfigError
from lpm_train.network.context import Context, join
from lpm_train.network.lora import halve_frozen
from lpm_train.network.model import DiT


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mesh: DeviceMesh | None = None  # ("shard",) or ("replicate", "shard"): what the weights are split over
    context: Context | None = None  # ranks that share each sample; the others have samples of their own

    @property
    def first(self) -> bool:
        """True on the one rank that writes and prints."""
        return self.rank == 0

    @property
    def data_size(self) -> int:
        """How many parts a global batch has: groups of ranks that share samples count as one."""
        return self.size // (self.context.size if self.context else 1)

    @property
    def data_rank(self) -> int:
        """Which of these parts is this rank's."""
        return self.rank // (self.context.size if self.context else 1)

    def rows(self, n: int) -> slice:
        """Return which of the n rows of a weight this rank holds; those of `fully_shard` (it splits as torch.chunk)."""
        if self.size == 1 or self.mesh is None:
            return slice(0, n)
        return spans(n, self.mesh["shard"].size())[self.mesh.get_local_rank("shard")]


def spans(n: int, parts: int) -> list[slice]:
    """Split n rows as torch.chunk does; the last parts may be shorter, or empty."""
    most = -(-n // parts)
    return [slice(min(n, k * most), min(n, (k + 1) * most)) for k in range(parts)]


def must_cut_evenly(config: Config) -> None:
    """See that `optim.micro_batch` cuts each rank's share of a batch into whole parts. Raises ConfigError.

    Ranks among which a batch does not divide are refused by the loader, whose batches they would be.
    """
    part, batch, size = config.optim.micro_batch, config.data.batch, _started()
    share, left = divmod(batch * max(1, config.run.context), size)
    if part and not left and share % part:
        raise ConfigError(
            f"optim.micro_batch {part} does not divide a rank's share of data.batch {batch}, which is {share} over "
            f"{size} ranks: set optim.micro_batch to a divisor of {share}, or to 0 for the whole share at once"
        )


def _started() -> int:
    """Return how many ranks torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ranks(config: Config) -> Iterator[Ranks]:
    """Join the process group that torchrun describes, if there is one; leave it at the end.

    Raises:
        ConfigError: `run.shard` does not divide the ranks, or there is no such GPU.
    """
    name = config.run.device or ("cuda" if torch.cuda.is_available() else "cpu")
    size, local = _started(), int(os.environ.get("LOCAL_RANK", "0"))
    shard = config.run.shard or size
    if size % shard:
        raise ConfigError(
            f"run.shard {shard} does not divide {size} ranks: start a multiple of it, or set run.shard to a divisor"
        )
    device = torch.device(f"cuda:{local}" if name == "cuda" else name)
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f"run.device={name}: no such GPU can be used here; leave it empty for what there is")
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    torch.set_num_threads(config.run.threads)
    joined = size > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    shape, names = ((size,), ("shard",)) if shard == size else ((size // shard, shard), ("replicate", "shard"))
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names) if dist.is_initialized() else None
    try:
        rank = 0 if mesh is None else dist.get_rank()
        yield Ranks(rank, size, device, mesh, join(config, rank, size))
    finally:
        if joined:
            dist.destroy_process_group()
            _let_go(mesh)


def _let_go(mesh: DeviceMesh | None) -> None:
    """Free the group's threads before the interpreter ends, which one holding a tensor would abort (exit code -6).

    DTensor's caches keep the mesh for good, the mesh keeps the destroyed group, and the group its gloo threads; what
    else holds the group, the sharded model, is garbage in cycles by the time exit handlers run.
    """
    getattr(mesh, "_pg_registry", {}).clear()
    atexit.register(gc.collect)


def prepare(model: DiT, config: Config, where: Ranks, trained: bool = True) -> DiT:
    """Checkpoint, compile and shard a model, in this order; it may be without memory yet (`training.start`).

    With `run.bf16` the matrices of a frozen base are held in bfloat16, which the passes compute in.
    """
    run = config.run
    if run.attention == "flex" and where.device.type != "cuda":
        raise ConfigError("run.attention=flex needs CUDA (PyTorch has no backward for it on CPU); use sdpa")
    model.checkpointing, model.context = run.checkpointing and trained, where.context
    if run.attention == "flex":
        from lpm_train.extras.flex import attend_forced_flex

        model.attend_forced = attend_forced_flex
    for name, p in model.named_parameters():
        p.requires_grad_(trained and name not in model.frozen)
    if run.bf16:
        halve_frozen(model)
    if run.compile:
        torch._dynamo.config.recompile_limit = 64  # one graph for each length of a filling cache
        for block in model.blocks:
            block.compile(dynamic=False)
    if where.size > 1:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        half, wide = (torch.bfloat16, torch.float32) if run.bf16 else (None, None)
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=wide, cast_forward_inputs=False)
        for module in (*model.blocks, model):
            fully_shard(module, mesh=where.mesh, mp_policy=policy, reshard_after_forward=True)
    return model


def autocast(config: Config, where: Ranks) -> Any:
    """Return the context for forward passes: bf16 where asked for on one rank (sharding casts by itself)."""
    if not config.run.bf16 or where.size > 1:
        return nullcontext()
    return torch.autocast(where.device.type, torch.bfloat16)


def gather_rows(values: Tensor) -> Tensor:
    """Join each rank's rows in rank order: the global batch's values, on every rank.

    Rows that ranks share come once for each of them (`run.context`), so that means are those of the batch.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def bit_reversed(n: int) -> list[int]:
    """Order parts such that pairwise sums match those across ranks; natural order where n is no power of two."""
    bits = n.bit_length() - 1
    if n != 1 << bits:
        return list(range(n))
    return [int(f"{i:0{bits}b}"[::-1], 2) if bits else 0 for i in range(n)]


def accumulate(
    batch: Rows, size: int, parameters: Iterable[nn.Parameter], loss: Callable[[Rows], Tensor], exact: bool = True
) -> Tensor:
    """Leave the gradient of the mean loss in `.grad`, computed part by part.

    Args:
        batch: this rank's rows.
        size: rows in a part; 0: all at once.
        parameters: what is trained.
        loss: gives the loss of each row of a part, [rows].
        exact: add gradients pairwise (bits independent of the number of ranks) rather than one after another.

    Returns:
        The loss of every row of the global batch, detached, float64.
    """
    parts, weights = batch.micro_batches(size or len(batch)), [p for p in parameters if p.requires_grad]
    rows: dict[int, Tensor] = {}
    sums: list[tuple[int, list[Tensor]]] = []  # of gradients, each with the number of parts that it holds
    for p in weights:
        p.grad = None
    for i in bit_reversed(len(parts)) if exact else range(len(parts)):
        losses = loss(parts[i])
        (losses.mean() / len(parts)).backward()  # type: ignore[no-untyped-call]
        rows[i] = losses.detach().double()
        if exact and len(parts) > 1:
            sums.append((1, [_grad(p) for p in weights]))
            for p in weights:
                p.grad = None
            while len(sums) > 1 and (sums[-1][0] == sums[-2][0] or len(rows) == len(parts)):
                (n, b), (m, a) = sums.pop(), sums.pop()
                sums.append((m + n, [x + y for x, y in zip(a, b, strict=True)]))
    for k, p in enumerate(weights):  # what had no part in the loss has a gradient too: optimizer states must exist
        p.grad = sums[0][1][k] if sums else _grad(p)
    return gather_rows(torch.cat([rows[i] for i in range(len(parts))]))


def _grad(p: nn.Parameter) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale gradients to a total norm of at most `most`; returns the norm before, summed in float64."""
    grads = [p.grad for p in parameters if p.grad is not None]
    shards = [g.to_local() if isinstance(g, DTensor) else g for g in grads]
    total = torch.stack([g.double().square().sum() for g in shards]).sum()
    if grads and isinstance(grads[0], DTensor):
        for k, placement in enumerate(grads[0].placements):
            if placement.is_shard():  # not over replicas, which hold the same
                dist.all_reduce(total, group=grads[0].device_mesh.get_group(k))
    norm = float(total.sqrt())
    if most and norm > most:
        for g in shards:
            g.mul_(most / norm)
    return norm


class Ema:
    """A moving average of weights, sharded as they are; never gathered."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        self.rate = rate
        self.weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move toward the model; early steps (from 0) count more, so that the start is soon forgotten."""
        rate = min(self.rate, (1 + step) / (10 + step))
        named = dict(model.named_parameters())
        for name, weight in self.weights.items():
            weight.lerp_(named[name].detach(), 1 - rate)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Put the average into the model for a while."""
        kept = {n: p.detach().clone() for n, p in model.named_parameters() if n in self.weights}
        self.copy_to(model)
        try:
            yield
        finally:
            self.copy_to(model, kept)

    @torch.no_grad()
    def copy_to(self, model: nn.Module, weights: dict[str, Tensor] | None = None) -> None:
        """Overwrite a model's weights with the average, or with others."""
        named = dict(model.named_parameters())
        for name, weight in (weights or self.weights).items():
            named[name].copy_(weight)
