"""A model whose weights come to a rank one by one, each cut to the rows that the rank holds.

The network is made on the meta device, sharded there, and only then given memory: no rank ever holds more than its own
rows and one whole weight besides. Weights come from a checkpoint (`checkpoint.Saved`), from memory, from a
public base, or are drawn. Those that are drawn are, bit for bit, the rows of what one process would draw.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from lpm_train.config import Config, ConfigError
from lpm_train.network.base import Rows, open_base
from lpm_train.network.base_names import pieces
from lpm_train.network.lora import put_lora
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.training.parallel import Ranks

Weights = Mapping[str, Tensor]


class Stored(Protocol):
    """Weights that lie somewhere and are read when a model asks."""

    place: str  # where, for those who want to read them again

    def read(self, into: Mapping[str, Tensor]) -> None:
        """Overwrite tensors, whole or sharded ones, with the weights of their names; every rank calls it."""


Start = Weights | Stored


class Drawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches a network that is made on the meta device, and keeps a rank's rows of what its weights begin with.

    Random numbers are drawn for the whole of a weight and then cut, so they are those of a network that is made whole;
    all other operations of initialisation work on single values, so they are done to the rows.
    """

    def __init__(self, rows: Rows, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows, self._device = rows, device
        self._kept: dict[int, tuple[torch.UntypedStorage, Tensor]] = {}  # a storage that lives has its address alone
        self._whole = torch.empty(0, device="cpu")  # for one weight after another, so that memory is not left in pieces

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do an operation on the meta device, and on the rows."""
        kwargs = kwargs or {}
        out, random = func(*args, **kwargs), torch.Tag.nondeterministic_seeded in func.tags
        makes = not any(isinstance(a, Tensor) for a in args)  # else it changes a tensor, or computes one from others
        if makes and random:
            made = self._cut(func(*args, **kwargs | {"device": torch.device("cpu")})).clone()
        elif makes:
            (n, *others), *rest = args
            mine = len(range(n)[self._rows(n)])
            made = func([mine, *others], *rest, **kwargs | {"device": self._device})
        elif random:
            made = self._of(args[0]).copy_(self._cut(func(self._scratch(args[0].shape), *args[1:], **kwargs)))
        else:
            made = func(*(self._of(a) if isinstance(a, Tensor) else a for a in args), **kwargs)
        if isinstance(out, Tensor):
            storage = out.untyped_storage()
            self._kept[storage._cdata] = (storage, made)
        return out

    def _scratch(self, shape: torch.Size) -> Tensor:
        if self._whole.numel() < shape.numel():
            self._whole = torch.empty(shape.numel(), device="cpu")
        return self._whole[: shape.numel()].view(shape)

    def take(self, weight: Tensor) -> Tensor:
        """Give a weight's rows away."""
        return self._kept.pop(weight.untyped_storage()._cdata)[1]

    def _of(self, weight: Tensor) -> Tensor:
        return self._kept[weight.untyped_storage()._cdata][1]

    def _cut(self, whole: Tensor) -> Tensor:
        return whole[self._rows(len(whole))].to(self._device)


def skeleton(config: Config) -> DiT:
    """Make the network of a configuration without memory for its weights."""
    with torch.device("meta"):
        model = make_model(config.model)
        if config.lora.rank:
            if not config.base.weights:
                raise ConfigError("lora.rank changes a frozen base: name one with --base wan:DIRECTORY")
            put_lora(model, config.lora)
            model.frozen = frozenset(p.ours for p in pieces(config.model))
    return model


def build(
    config: Config, start: Start | None, shared: dict[str, Tensor] | None = None, where: Ranks | None = None,
    ready: Callable[[DiT], object] = lambda model: None,
) -> DiT:  # fmt: skip
    """Make a model: from the weights of the stage before, else from the base, else fresh (from torch's generator).

    Args:
        config: everything.
        start: weights; of a model with a frozen base, those that are trained. They are copied.
        shared: the frozen weights, filled at the first call; all models made with it hold the same memory: of one rank
            the same parameters, of several the same rows. None: a copy of its own.
        where: this rank; None: one process on the CPU.
        ready: is done to the model before it has memory: sharding, and of what type a frozen base is held.

    Raises:
        ConfigError: the base cannot be read, or is not the one that the configuration was made with; or `start` lacks
            a weight.
    """
    where, shared = where or Ranks(), {} if shared is None else shared
    drawn = Drawn(where.rows, where.device) if start is None and not config.base.weights else None
    with drawn or nullcontext():
        model = skeleton(config)
    values = {n: drawn.take(p) for n, p in model.named_parameters()} if drawn else {}
    del drawn
    ready(model)
    named = dict(model.named_parameters())
    trained = {n: p for n, p in named.items() if n not in model.frozen}
    if start is not None:
        values = {n: torch.empty(_local(p).shape, device=where.device) for n, p in trained.items()}
        model.place = _read(start, {n: _like(p, values[n]) for n, p in trained.items()}, where.rows)
    if config.base.weights and (start is None or (model.frozen and not shared)):
        found = _of_base(config, model, where.rows, start is None)
        held = {n: p.dtype for n, p in named.items() if n in model.frozen}  # one weight at a time is wider than that
        for name, weight in found:
            if not (name in held and shared):
                values[name] = weight.to(where.device, held.get(name, weight.dtype))
            del weight
            _trim()
    for name, p in named.items():  # in this order: each draws from the generator
        if name not in values and name not in shared:
            whole = _fresh(name, p.shape)
            values[name] = whole[where.rows(len(whole))].to(where.device, copy=True)
    _give(model, values, shared)
    return model


def _of_base(config: Config, model: DiT, rows: Rows, added: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield a rank's rows of a base's weights, and of what was added to it earlier."""
    base = open_base(config.base.weights)
    if not base.files.match(config.base.sha256):
        raise ConfigError(f"{config.base.weights} holds other weights than this run began with")
    yield from base.read(model, rows)
    if added:
        yield from base.added(rows)


def _read(start: Start, into: Mapping[str, Tensor], rows: Rows) -> str:
    """Fill tensors; returns where the weights lie, "" for those in memory."""
    if not isinstance(start, Mapping):
        start.read(into)
        return start.place
    if lacking := sorted(into.keys() - start.keys()):
        raise ConfigError(f"the weights to start from lack {', '.join(lacking[:3])}: they are of another model")
    with torch.no_grad():
        for name, weight in into.items():
            _local(weight).copy_(start[name][rows(len(start[name]))])
    return ""


def _trim() -> None:
    """Return what weights of other sizes left free to the system, as far as its C library can: milliseconds."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)  # glibc's; musl has none


def _local(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight


def _like(weight: Tensor, local: Tensor) -> Tensor:
    """Take a rank's rows for what they are: the shard of a weight, or all of it."""
    if not isinstance(weight, DTensor):
        return local
    return DTensor.from_local(
        local, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )


def _give(model: DiT, values: dict[str, Tensor], shared: dict[str, Tensor]) -> None:
    """Make values the weights of a model; shared ones are taken from `shared`, or put there."""
    named = dict(model.named_parameters())
    if any(isinstance(p, DTensor) for p in named.values()):  # `fully_shard` takes in what is loaded so
        values = values | {n: shared.setdefault(n, values.get(n, p)) for n, p in named.items() if n in model.frozen}
        model.load_state_dict({n: _like(named[n], w) for n, w in values.items()}, assign=True)
        return
    for name, p in named.items():
        parameter = shared.get(name)
        if not isinstance(parameter, nn.Parameter):
            parameter = nn.Parameter(values[name], requires_grad=p.requires_grad)
            if name in model.frozen:
                shared[name] = parameter
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, parameter)


def _fresh(name: str, shape: torch.Size) -> Tensor:
    """Draw what a base lacks as our own network draws it: what would change the base's function is zero."""
    if ".norm_" in name:
        return torch.ones(shape)
    if name.endswith((".sound.out.weight", "ref_kind.weight", ".up", ".bias", "ref_gain_D")):
        return torch.zeros(shape)
    if name.endswith((".weight", ".down")):
        return nn.init.xavier_uniform_(torch.empty(shape))
    return torch.randn(shape) * 0.02


_AT_ONCE = 1 << 20
_MIX = 0x1E3779B97F4A7C15  # odd


def fingerprint(model: DiT, where: Ranks) -> str:
    """Hash the weights of a model, but those of a frozen base; the same over any number of ranks.

    Every rank calls it. A weight counts by the sum of its values' bits, each times an odd number of its place: a sum
    over parts is the sum of all, and one changed bit changes it.
    """
    named = {n: p.detach() for n, p in model.named_parameters() if n not in model.frozen}
    sums = torch.zeros(len(named), dtype=torch.int64, device=where.device)
    for k, p in enumerate(named.values()):
        local = _local(p).flatten()
        first = where.rows(len(p)).start * (p.numel() // len(p))
        for at in range(0, local.numel(), _AT_ONCE):
            bits = local[at : at + _AT_ONCE].view(torch.int32).long()
            place = torch.arange(first + at, first + at + len(bits), device=bits.device)
            sums[k] += (bits * (place * _MIX | 1)).sum()
    if where.size > 1 and where.mesh is not None:
        dist.all_reduce(sums, group=where.mesh["shard"].get_group())
    digest = hashlib.sha256()
    for (name, p), value in zip(named.items(), sums.tolist(), strict=True):
        digest.update(f"{name} {list(p.shape)} {value}\x1f".encode())
    return digest.hexdigest()
