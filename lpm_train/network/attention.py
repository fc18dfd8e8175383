"""Self-attention of video tokens and their positions: over a whole clip, teacher-forced, or a block against a cache.

Rotary embedding over (time, row, column) is a pure function of positions: references sit at negative times, a rolling
window is re-indexed when it is read, and neither needs a special case. Angles are kept in float32 or wider.
Teacher forcing puts the clean copy of a batch before the noisy one along the batch axis. A noisy block sees the clean
blocks before it and itself; a clean block likewise, so its keys are what a stream would have cached. All causal paths
go through `attend_block`, which re-indexes what is visible from time 0; hence a stream equals the full pass by
construction. References precede the window at a constant distance. This is the reference and runs anywhere;
`extras.flex` does the same in one fused kernel, for CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from lpm_train.config import Stream
from lpm_train.network.context import Split


def positions(times_F: Tensor, height: int, width: int) -> Tensor:
    """Lay out the tokens of frames at the given times, row by row: [F] -> [F*height*width, 3] of (t, y, x)."""
    y = torch.arange(height, dtype=times_F.dtype, device=times_F.device)
    x = torch.arange(width, dtype=times_F.dtype, device=times_F.device)
    grid = torch.meshgrid(times_F, y, x, indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, 3)


def angles(positions_L3: Tensor, head_width: int, theta: float) -> Tensor:
    """Rotate each channel pair by position / theta**(i/n): [L, 3] -> angles [L, E/2].

    Of E/2 pairs a third (rounded down) turns with each space axis, the rest with time (Wan 2.1's split).
    """
    if head_width % 2 or head_width < 6:
        raise ValueError(
            f"heads of {head_width} channels cannot be split over three axes: use an even number from 6 on"
        )
    space = head_width // 2 // 3
    parts = []
    for axis, pairs in enumerate((head_width // 2 - 2 * space, space, space)):
        exponent = torch.arange(pairs, dtype=positions_L3.dtype, device=positions_L3.device) / pairs
        parts.append(positions_L3[:, axis, None] * theta**-exponent)
    return torch.cat(parts, dim=-1)


@lru_cache(maxsize=64)
def frame_rotation(
    start: int, stop: int, height: int, width: int, head_width: int, theta: float, device: torch.device, wide: bool
) -> tuple[Tensor, Tensor]:
    """Return (cos, sin) [(stop-start)*height*width, E/2] for frames at times start, ..., stop-1; float64 if `wide`."""
    times = torch.arange(start, stop, dtype=torch.float64, device=device)
    angle = angles(positions(times, height, width), head_width, theta)
    dtype = torch.float64 if wide else torch.float32
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x_BNLE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys [B, N, L, E] by (cos, sin) [L, E/2]; pairs are (i, i + E/2)."""
    cos, sin = rotation
    a, b = x_BNLE.to(torch.promote_types(x_BNLE.dtype, cos.dtype)).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x_BNLE.dtype)


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
    # What references add beside the rest, by head and channel [N, 1, E]; None: they share one softmax with the rest.
    beside_N1E: Tensor | None = None
    split: Split | None = None  # frames over the ranks of a group; None: this rank has them all

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


class Held(NamedTuple):
    """One layer's buffers of a cache of fixed size (`streaming.ring`), [B, N, (K + W + b) S, E]: always the same.

    In order of place: K references, W frames of the past in any order, the b frames of the block itself.
    """

    k: Tensor  # rotated keys
    v: Tensor
    plain: Tensor  # keys of past and block before rotation, [B, N, (W + b) S, E]
    see_L: Tensor | None  # bool [1, 1, 1, (K + W + b) S]; False: nothing is remembered there yet; None: all is seen

    def attend(self, q: Tensor, own: KV, space: Space) -> Tensor:
        """Put the block's keys and values in place, and attend over all; `space` rotates the block's own tokens."""
        own_L, refs = q.shape[2], self.k.shape[2] - self.plain.shape[2]
        turn = space.cos, space.sin
        q = rotate(q, turn)
        self.k[:, :, -own_L:] = rotate(own.k, turn)
        self.v[:, :, -own_L:] = own.v
        self.plain[:, :, -own_L:] = own.k
        if space.beside_N1E is None or not refs:
            return sdpa(q, self.k, self.v, attn_mask=self.see_L)
        see_L = None if self.see_L is None else self.see_L[..., refs:]
        out = sdpa(q, self.k[:, :, refs:], self.v[:, :, refs:], attn_mask=see_L)
        return out + sdpa(q, self.k[:, :, :refs], self.v[:, :, :refs]) * space.beside_N1E.to(q.dtype)


def attend_block(q: Tensor, own: KV, past: KV | Held | None, refs: KV | None, space: Space) -> Tensor:
    """Attend over references, the visible past (re-indexed from time 0) and the block itself; [B, N, L, E]."""
    if isinstance(past, Held):
        return past.attend(q, own, space)
    start = 0 if past is None else past.k.shape[2] // space.tokens
    q, ks, vs = space.video(q, start), [space.video(own.k, start)], [own.v]
    if past is not None:
        ks, vs = [space.video(past.k), *ks], [past.v, *vs]
    if refs is not None and space.beside_N1E is None:
        ks, vs = [space.refs(refs.k), *ks], [refs.v, *vs]
    return sdpa(q, torch.cat(ks, dim=2), torch.cat(vs, dim=2)) + beside(q, refs, space)


def beside(q: Tensor, refs: KV | None, space: Space) -> Tensor | float:
    """Return what references add to rotated queries in a softmax of their own; 0 where they share the other."""
    if refs is None or space.beside_N1E is None:
        return 0.0
    return sdpa(q, space.refs(refs.k), refs.v) * space.beside_N1E.to(q.dtype)


def attend_split(
    whole: Callable[[Tensor, KV, KV | None, Space], Tensor], q: Tensor, own: KV, refs: KV | None, space: Space
) -> Tensor:
    """Attend over a whole clip, of which this rank has all tokens, or some: [B, N, own L, E] -> the same."""
    split = space.split
    if split is None:
        return whole(q, own, refs, space)
    q, k, v = split.to_heads(q, *own)
    refs = None if refs is None else KV(*(split.heads(x, 1) for x in refs))
    if space.beside_N1E is not None:
        space = space._replace(beside_N1E=split.heads(space.beside_N1E, 0))
    return split.to_frames(whole(q, KV(k, v), refs, space))


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

    layout: Stream
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


def attend_forced(q: Tensor, own: KV, refs: KV | None, space: Space, layout: Stream) -> Tensor:
    """Attend block by block, clean and noisy copies together: [2B, N, L, E], the clean half first."""
    S, half, out = space.tokens, q.shape[0] // 2, []
    clean, both = KV(own.k[:half], own.v[:half]), twice(refs)
    for i in range(layout.blocks(q.shape[2] // S)):
        here = slice(i * layout.block * S, (i + 1) * layout.block * S)
        past = twice(cut(clean, layout.kept(i * layout.block), S))
        out.append(attend_block(q[:, :, here], KV(own.k[:, :, here], own.v[:, :, here]), past, both, space))
    return torch.cat(out, dim=2)


def twice(kv: KV | None) -> KV | None:
    """Repeat along the batch axis, for the clean and the noisy copy."""
    if kv is None:
        return None
    return KV(*(x.repeat(2, 1, 1, 1) for x in kv))
