"""Self-attention of video tokens: over a whole clip, teacher-forced by blocks, or one block against a cache.

Teacher forcing puts the clean copy of a batch before the noisy one along the batch axis. A noisy block sees the clean
blocks before it and itself; a clean block likewise, so its keys are what a stream would have cached. All causal paths
go through `attend_block`, which re-indexes what is visible from time 0; hence a stream equals the full pass by
construction. References precede the window at a constant distance. The `sdpa` back-end runs anywhere and is the
reference; `flex` is one fused kernel, for CUDA (PyTorch has no backward for it on CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from lpm_train.rope import frame_rotation, rotate


class KV(NamedTuple):
    """Keys (not rotated) and values, [B, N, L, E] each."""

    k: Tensor
    v: Tensor


class Space(NamedTuple):
    """The rotations of a pass, computed once for all layers."""

    tokens: int  # tokens S in a frame
    first: int  # time of the first row of the tables: that of the first reference slot
    ref_gap: int  # frames between the last reference slot and the window's first frame
    cos: Tensor
    sin: Tensor

    @classmethod
    def make(
        cls, height: int, width: int, head_width: int, theta: float, ref_gap: int, slots: int, frames: int,
        device: torch.device | str = "cpu", wide: bool = False,
    ) -> Space:  # fmt: skip
        """Cover `slots` references and times 0 to `frames` of a grid; `wide` gives float64."""
        first = 1 - slots - ref_gap
        tables = frame_rotation(first, frames, height, width, head_width, theta, torch.device(device), wide)
        return cls(height * width, first, ref_gap, *tables)

    def video(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate tokens of frames at times start, start+1, ..."""
        row = (start - self.first) * self.tokens
        return rotate(x, (self.cos[row : row + x.shape[2]], self.sin[row : row + x.shape[2]]))

    def refs(self, x: Tensor) -> Tensor:
        """Rotate reference slots, which stand before the window: slot i of K at time i - K - gap + 1."""
        return self.video(x, 1 - x.shape[2] // self.tokens - self.ref_gap)


@dataclass(frozen=True)
class Causal:
    """Teacher-forcing layout: blocks, and how many frames of the past a block sees."""

    block: int  # frames in a block
    window: int  # frames of the recent past
    sink: int = 0  # frames from the start of the clip that are never forgotten

    def __post_init__(self) -> None:
        if self.block < 1 or self.window < 0 or self.window % self.block or self.sink < 0 or self.sink % self.block:
            raise ValueError(
                f"window {self.window} and sink {self.sink} must be multiples of the block of {self.block} frames"
            )

    def kept(self, frames: int) -> list[tuple[int, int]]:
        """Return the frame ranges that are visible once `frames` frames lie in the past."""
        whole = frames <= self.sink + self.window
        ranges = [(0, frames)] if whole else [(0, self.sink), (frames - self.window, frames)]
        return [r for r in ranges if r[0] < r[1]]

    def blocks(self, frames: int) -> int:
        """Return how many blocks a clip has."""
        if frames % self.block:
            raise ValueError(
                f"{frames} frames are not a multiple of block {self.block}: set stream.block or the clip length"
            )
        return frames // self.block


def attend_block(q: Tensor, own: KV, past: KV | None, refs: KV | None, space: Space) -> Tensor:
    """Attend over references, the visible past (re-indexed from time 0) and the block itself; [B, N, L, E]."""
    start = 0 if past is None else past.k.shape[2] // space.tokens
    ks, vs = [space.video(own.k, start)], [own.v]
    if past is not None:
        ks, vs = [space.video(past.k), *ks], [past.v, *vs]
    if refs is not None:
        ks, vs = [space.refs(refs.k), *ks], [refs.v, *vs]
    return sdpa(space.video(q, start), torch.cat(ks, dim=2), torch.cat(vs, dim=2))


def attend_full(q: Tensor, own: KV, refs: KV | None, space: Space) -> Tensor:
    """Attend over the references and the whole clip: one block without a past."""
    return attend_block(q, own, None, refs, space)


def cut(kv: KV, ranges: list[tuple[int, int]], tokens: int) -> KV | None:
    """Take ranges of frames out of keys and values."""
    if not ranges:
        return None
    parts = [slice(a * tokens, b * tokens) for a, b in ranges]
    return KV(*(x[:, :, parts[0]] if len(parts) == 1 else torch.cat([x[:, :, p] for p in parts], 2) for x in kv))


@dataclass(frozen=True)
class Cache:
    """What a stream remembers, by layer: the references for ever, the first frames as a sink, and a rolling window.

    Keys are stored before rotation and rotated when read, so that the distance of references and sink to the present
    stays constant however long the stream runs. Appending returns a new cache and never writes in place: a checkpointed
    forward may run twice. Memory: 2 * depth * width * tokens of (references + sink + window), whatever the length.
    """

    layout: Causal
    tokens: int  # tokens in a frame
    refs: tuple[KV | None, ...]
    past: tuple[KV | None, ...]
    seen: int = 0  # frames generated so far, kept or not

    def append(self, block: tuple[KV, ...]) -> Cache:
        """Return the cache with one more block; what falls out of the window is forgotten."""
        layers, frames = [], block[0].k.shape[2] // self.tokens
        for past, new in zip(self.past, block, strict=True):
            new = KV(new.k.detach(), new.v.detach())
            joined = new if past is None else KV(torch.cat([past.k, new.k], 2), torch.cat([past.v, new.v], 2))
            layers.append(cut(joined, self.layout.kept(joined.k.shape[2] // self.tokens), self.tokens))
        return replace(self, past=tuple(layers), seen=self.seen + frames)

    @property
    def frames(self) -> int:
        """Frames that are still remembered."""
        first = self.past[0]
        return 0 if first is None else first.k.shape[2] // self.tokens

    @property
    def n_bytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(x.numel() * x.element_size() for kv in (*self.refs, *self.past) if kv is not None for x in kv)


def attend_forced(q: Tensor, own: KV, refs: KV | None, space: Space, layout: Causal) -> Tensor:
    """Attend block by block, clean and noisy copies together: [2B, N, L, E], the clean half first."""
    S, half, out = space.tokens, q.shape[0] // 2, []
    clean, twice = KV(own.k[:half], own.v[:half]), _twice(refs)
    for i in range(layout.blocks(q.shape[2] // S)):
        here = slice(i * layout.block * S, (i + 1) * layout.block * S)
        past = _twice(cut(clean, layout.kept(i * layout.block), S))
        out.append(attend_block(q[:, :, here], KV(own.k[:, :, here], own.v[:, :, here]), past, twice, space))
    return torch.cat(out, dim=2)


def _twice(kv: KV | None) -> KV | None:
    return None if kv is None else KV(*(x.repeat(2, 1, 1, 1) for x in kv))


@lru_cache(maxsize=1)
def _flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    function: Callable[..., Any] = flex_attention
    return torch.compile(function, dynamic=False) if torch.cuda.is_available() else function


@lru_cache(maxsize=16)
def forced_mask(length: int, refs: int, block: int, device: torch.device) -> Any:
    """Build the block mask of [clean | noisy] queries over [references | clean | noisy] keys."""
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        q_noisy, q_block = q >= length, (q % length) // block
        kv_noisy, kv_block = (kv - refs) >= length, ((kv - refs) % length) // block
        same = (kv_block == q_block) & (kv_noisy == q_noisy)
        return (kv < refs) | (~kv_noisy & (kv_block < q_block)) | same

    return create_block_mask(visible, B=None, H=None, Q_LEN=2 * length, KV_LEN=refs + 2 * length, device=str(device))


def attend_forced_flex(q: Tensor, own: KV, refs: KV | None, space: Space, layout: Causal) -> Tensor:
    """Do what `attend_forced` does in one kernel, for clips that the window holds as a whole."""
    length, half = q.shape[2], q.shape[0] // 2
    frames = layout.blocks(length // space.tokens) * layout.block
    if frames - layout.block > layout.sink + layout.window:
        raise ValueError(
            f"the flex back-end needs a window that holds the clip: {frames} frames, window {layout.window}; "
            "widen stream.window or use run.attention=sdpa"
        )

    def join(x: Tensor, before: Tensor | None = None) -> Tensor:
        return torch.cat([*([] if before is None else [before]), x[:half], x[half:]], dim=2)

    k = join(space.video(own.k), None if refs is None else space.refs(refs.k))
    v = join(own.v, None if refs is None else refs.v)
    mask = forced_mask(length, k.shape[2] - 2 * length, layout.block * space.tokens, q.device)
    return torch.cat(_flex()(join(space.video(q)), k, v, block_mask=mask).chunk(2, dim=2), dim=0)
