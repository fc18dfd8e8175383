"""A stream's cache in buffers of fixed size, and the rollout that computes with them: the same shapes at every block.

`rollout.Rollout` with `attention.Cache` is the reference: its tensors grow until the window is full, and each pass
joins them anew. Here each layer has its memory from the start (`attention.Held`): references, then the sink, then the
window as a ring of blocks, then the block at hand. Order in memory does not matter to attention, positions do: they
are tables that are written in place before each block, relative to the window as they always are, and past keys are
rotated by them once a block. Places that are not filled yet are masked; from the block on for which all are, no mask
is needed. So there are two graphs, for a filling and for a full cache, however long the stream. Nothing in a block
asks the device for a value, so that on CUDA all its passes are captured as one graph (`stream.compile`). A backbone and
its refiner have such memory each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lpm_train.batch import Conditions
from lpm_train.config import ConfigError, Stream
from lpm_train.network.attention import Held, Space, frame_rotation, rotate
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.streaming.rollout import Draw, check, few_steps, handed, refined


class Ring:
    """What a stream remembers, by layer (`attention.Held`).

    Memory: depth * width * tokens of (2 references + 3 (sink + window + block)), from the first block on.
    """

    def __init__(self, model: DiT, cond: Conditions, layout: Stream) -> None:
        """Make the buffers of a model on its device, with the references of `cond` in them; K may be 0."""
        c, weight, (H, W) = model.config, model.patch_in.weight, cond.ref_BKCHW.shape[-2:]
        height, width, head = H // c.patch, W // c.patch, c.width // c.heads
        wide = weight.dtype == torch.float64
        space = Space.make(
            height, width, head, c.theta, c.ref_gap, cond.ref_BKCHW.shape[1], 1, weight.device, wide
        )  # fmt: skip
        self.layout, self.tokens, self.seen = layout, space.tokens, 0
        self.kept = layout.sink + layout.window  # frames of the past, W
        S, own, dtype = space.tokens, layout.block, weight.dtype
        refs = model(None, None, cond, layout=layout).refs
        self.layers: tuple[Held, ...] = ()
        self.see_L = torch.zeros(
            1, 1, 1, (cond.ref_BKCHW.shape[1] + self.kept + own) * S, dtype=torch.bool, device=weight.device
        )
        self.refs = cond.ref_BKCHW.shape[1] * S  # tokens of references
        for kv in refs:
            shape = (len(cond), c.heads, self.see_L.shape[-1], head)
            k, v, plain = (
                torch.zeros(*shape[:2], n, head, dtype=dtype if kv is None else kv.k.dtype, device=weight.device)
                for n in (shape[2], shape[2], shape[2] - self.refs)
            )
            if kv is not None:
                k[:, :, : self.refs], v[:, :, : self.refs] = space.refs(kv.k), kv.v
            self.layers += (Held(k, v, plain, self.see_L),)
        tables = frame_rotation(0, self.kept + own, height, width, head, c.theta, weight.device, wide)
        self._tables = [table.reshape(-1, S, table.shape[-1]) for table in tables]  # cos, sin [W + b, S, E/2]
        self.past_turn = [table[: self.kept].flatten(0, 1).clone() for table in self._tables]
        self.own_turn = [table[:own].flatten(0, 1).clone() for table in self._tables]
        self.space = Space(S, 0, c.ref_gap, cos=self.own_turn[0], sin=self.own_turn[1])

    @property
    def full(self) -> bool:
        """True when every place of the past is filled."""
        return self.seen >= self.kept

    @property
    def frames(self) -> int:
        """Frames that are still remembered."""
        return min(self.seen, self.kept)

    @property
    def n_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(x.numel() * x.element_size() for held in self.layers for x in held[:3])

    def place(self) -> None:
        """Write the positions for the block at hand, and which places are filled; the device is asked for nothing."""
        sink, window, device = self.layout.sink, self.layout.window, self.see_L.device
        at = torch.arange(sink + window, device=device)
        # What each place holds: the sink its own frame for ever, the ring the latest frame that came there.
        frame = torch.where(at < sink, at, self.seen - 1 - torch.remainder(self.seen - 1 - at, window))
        filled = (frame < self.seen) & ((frame >= sink) | (at < sink))
        time = torch.where(at < sink, at, frame - max(0, self.seen - self.kept)).clamp_min(0)
        own = torch.arange(self.layout.block, device=device) + self.frames
        for turn, times in ((self.past_turn, time), (self.own_turn, own)):
            for buffer, table in zip(turn, self._tables, strict=True):
                buffer.copy_(table[times].flatten(0, 1))
        self.see_L.fill_(True)
        self.see_L[..., self.refs : self.refs + len(at) * self.tokens] = filled.repeat_interleave(self.tokens)

    def turn(self) -> None:
        """Rotate all past keys to their positions."""
        own = self.layout.block * self.tokens
        for held in self.layers:
            past = rotate(held.plain[:, :, :-own], (self.past_turn[0], self.past_turn[1]))
            held.k[:, :, self.refs : -own] = past

    def keep(self) -> None:
        """Remember the block whose keys and values were left in place last, over the oldest one's."""
        sink, window, S = self.layout.sink, self.layout.window, self.tokens
        at = self.seen if self.seen < sink else sink + (self.seen - sink) % window
        own, here = self.layout.block * S, slice(at * S, (at + self.layout.block) * S)
        for held in self.layers:
            held.plain[:, :, here] = held.plain[:, :, -own:]
            held.v[:, :, self.refs :][:, :, here] = held.v[:, :, -own:]
        self.seen += self.layout.block


class _Network:
    """A network with its own past."""

    def __init__(self, model: DiT, cond: Conditions, config: Stream) -> None:
        self.model, self.cache = model, Ring(model, cond, config)
        self.against: Callable[..., Tensor] = model.against
        if config.compile:
            self.against = torch.compile(model.against, fullgraph=True, dynamic=False)

    def velocity(self, driven: tuple[Any, ...], full: bool) -> Callable[[Tensor, Tensor], Tensor]:
        """Return its velocity as a function of (x_BFCHW, t_BF), under what `DiT.driven` gave."""
        layers = tuple(held._replace(see_L=None) for held in self.cache.layers) if full else self.cache.layers
        return lambda x, t: self.against(x, t, *driven, layers, self.cache.space)


class StaticRollout:
    """Blocks from caches of fixed size; does what `rollout.begin`'s rollouts do, without gradients.

    One network is a causal model, or where the stream has a refiner the backbone; two are backbone and refiner.
    """

    def __init__(self, config: Stream, networks: Sequence[_Network]) -> None:
        self.config, self.networks = config, tuple(networks)
        self._given: Any = None  # (noises, what `driven` gives of each): one memory where graphs are captured
        self._graphs: dict[bool, tuple[torch.cuda.CUDAGraph, Tensor]] = {}  # by whether the cache is full

    @classmethod
    @torch.no_grad()
    def begin(cls, model: Performer, cond: Conditions, config: Stream) -> StaticRollout:
        """Start with the references of `cond` in the cache, or in both caches.

        Raises:
            ConfigError: a refiner is given, and the stream has no step for it.
        """
        check(model, config)
        models = (model.backbone, model.refiner) if isinstance(model, Refined) else (model,)
        return cls(config, [_Network(one, cond, config) for one in models])

    @property
    def cache(self) -> Ring:
        """What is remembered, of two networks by the last one."""
        return self.networks[-1].cache

    @torch.no_grad()
    def warm(self, cond: Conditions, start: int, draw: Draw) -> None:
        """Compile and capture before the first block, for whatever `block` is given later has these shapes."""
        self._take(cond, start, draw)
        self._place()
        pool: Any = None
        for full in (False, True):
            if self.cache.see_L.device.type != "cuda":
                self._passes(full)
                continue
            side, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
            side.wait_stream(here)
            with torch.cuda.stream(side):  # compiles, and lets libraries choose and allocate before the capture
                for _ in range(2):
                    self._passes(full)
            here.wait_stream(side)
            graph, pool = torch.cuda.CUDAGraph(), pool or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=pool):
                x0 = self._passes(full)
            self._graphs[full] = graph, x0

    @torch.no_grad()
    def block(self, cond: Conditions, start: int, draw: Draw) -> Tensor:
        """Generate one block and remember it; see `Rollout.block`.

        Raises:
            ConfigError: frames of the block are told different texts; a stream tells a block one.
        """
        self._take(cond, start, draw)
        self._place()
        if self._graphs:
            graph, x0 = self._graphs[self.cache.full]
            graph.replay()
            x0 = x0.clone()  # the next replay writes there
        else:
            x0 = self._passes(self.cache.full)
        for network in self.networks:
            network.cache.keep()
        return x0

    def _place(self) -> None:
        for network in self.networks:
            network.cache.place()

    def _take(self, cond: Conditions, start: int, draw: Draw) -> None:
        if cond.prompt_BF is not None:
            raise ConfigError("stream.cache=static tells a block one text: give `cond.told`, or use stream.cache=eager")
        steps = self.config.steps + self.config.refine if self.config.resample else 1
        noises = {f"step{i}": draw(f"step{i}") for i in range(steps)}
        given = noises, tuple(network.model.driven(cond, start, self.config.block) for network in self.networks)
        if self._graphs:
            _copy(self._given, given)
        else:
            self._given = _solid(given)

    def _passes(self, full: bool) -> Tensor:
        """Denoise the block in its steps, leaving in each cache what its network is to remember."""
        noises, drives = self._given
        for network in self.networks:
            network.cache.turn()
        first, *rest = (n.velocity(given, full) for n, given in zip(self.networks, drives, strict=True))
        if not self.config.refine:
            return _clean(first, few_steps(first, noises.__getitem__, self.config))
        x0, x = handed(first, noises.__getitem__, self.config)  # remembered is its last step
        return _clean(rest[0], refined(rest[0], x, self.config)) if rest else x0


def _clean(velocity: Callable[[Tensor, Tensor], Tensor], x0: Tensor) -> Tensor:
    """Pass a block once more, clean, so that its keys are those of clean frames."""
    velocity(x0, x0.new_zeros(x0.shape[:2]))
    return x0


def _solid(given: Any) -> Any:
    """Return tensors in nested tuples and dictionaries as contiguous ones of their own memory."""
    if isinstance(given, Tensor):
        return given.clone(memory_format=torch.contiguous_format)
    if isinstance(given, dict):
        return {name: _solid(value) for name, value in given.items()}
    if isinstance(given, tuple):
        parts = [_solid(part) for part in given]
        return type(given)(*parts) if hasattr(given, "_fields") else tuple(parts)
    return given


def _copy(into: Any, given: Any) -> None:
    """Write such tensors over others of the same shapes."""
    if isinstance(given, Tensor):
        into.copy_(given)
    elif isinstance(given, dict):
        _copy(tuple(into.values()), tuple(given.values()))
    elif isinstance(given, tuple):
        for old, new in zip(into, given, strict=True):
            _copy(old, new)
