"""Teacher-forced attention as one fused kernel: PyTorch's flex attention, chosen by `run.attention=flex`.

Does what `attention.attend_forced` does, also where the window forgets. There each block re-indexes what it sees from
time 0; here all stands at its time in the clip, which for the window and the block itself is the same, as only
differences count. References and sink stand at a constant distance from the window, so once it moves they move with it:
their keys come once for each place at which they have to stand, and a block sees those of its own. For CUDA: PyTorch
has no backward for flex attention on CPU, where it also runs unfused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lpm_train.config import Stream
from lpm_train.network.attention import KV, Space, beside, rotate, twice


@lru_cache(maxsize=1)
def _flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    function: Callable[..., Any] = flex_attention
    return torch.compile(function, dynamic=False) if torch.cuda.is_available() else function


def shifts(layout: Stream, frames: int) -> list[int]:
    """Return by how many frames the window has moved on from time 0 for each block of a clip."""
    return [max(0, first - layout.sink - layout.window) for first in range(0, frames, layout.block)]


@lru_cache(maxsize=16)
def forced_mask(layout: Stream, frames: int, tokens: int, refs: int, device: torch.device) -> Any:
    """Build the block mask of [clean | noisy] queries over [references and sink by shift | clean | noisy] keys.

    Args:
        layout: blocks, sink and window.
        frames: of a clip, whole blocks.
        tokens: in a frame.
        refs: tokens of references among the keys.
        device: where it is used.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    length, size, sink = frames * tokens, layout.block * tokens, layout.sink * tokens
    moved = shifts(layout, frames)
    distinct = sorted(set(moved))
    each = refs + sink  # keys of a shift; the sink's are seen by blocks whose window has moved alone
    ahead = len(distinct) * each
    which = torch.tensor([distinct.index(m) for m in moved], device=device)  # of each block, its shift's place
    first = torch.tensor([0 if m == 0 else layout.sink + m for m in moved], device=device) * tokens

    def visible(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        at, k = q % length, kv - ahead
        mine, noisy = at // size, k >= length
        fixed = (kv < ahead) & (kv // max(1, each) == which[mine])
        fixed = fixed & ((kv % max(1, each) < refs) | (which[mine] > 0))
        seen = (k % length) // size
        same = (seen == mine) & (noisy == (q >= length))
        past = ~noisy & (seen < mine) & (k >= first[mine])
        return fixed | ((kv >= ahead) & (same | past))

    return create_block_mask(visible, B=None, H=None, Q_LEN=2 * length, KV_LEN=ahead + 2 * length, device=str(device))


def _at(x: Tensor, times: list[int], space: Space) -> Tensor:
    """Rotate tokens of frames at any times."""
    rows = torch.tensor(times, device=x.device) - space.first
    cos, sin = (t.reshape(-1, space.tokens, t.shape[-1])[rows].flatten(0, 1) for t in (space.cos, space.sin))
    return rotate(x, (cos, sin))


def attend_forced_flex(q: Tensor, own: KV, refs: KV | None, space: Space, layout: Stream) -> Tensor:
    """Do what `attend_forced` does in one kernel."""
    S, half = space.tokens, q.shape[0] // 2
    frames = layout.blocks(q.shape[2] // S) * layout.block
    moved = shifts(layout, frames)
    shared = refs if space.beside_N1E is None else None

    def join(x: Tensor, *before: Tensor) -> Tensor:
        return torch.cat([*before, x[:half], x[half:]], dim=2)

    fixed_k, fixed_v = list[Tensor](), list[Tensor]()
    sink = [x[:half, :, : layout.sink * S] for x in own]
    for shift in sorted(set(moved)):
        if shared is not None:
            slots = shared.k.shape[2] // S
            fixed_k.append(_at(shared.k, [i - slots - space.ref_gap + 1 + shift for i in range(slots)], space))
            fixed_v.append(shared.v)
        if layout.sink:
            fixed_k.append(_at(sink[0], [i + shift for i in range(layout.sink)], space))
            fixed_v.append(sink[1])
    k, v = join(space.video(own.k), *fixed_k), join(own.v, *fixed_v)
    mask = forced_mask(layout, frames, S, 0 if shared is None else shared.k.shape[2], q.device)
    seen = torch.cat(_flex()(join(space.video(q)), k, v, block_mask=mask).chunk(2, dim=2), dim=0)
    if refs is None or shared is not None:
        return seen
    times = [first + i - shift for first, shift in zip(range(0, frames, layout.block), moved, strict=True)
             for i in range(layout.block)]  # fmt: skip
    return seen + beside(_at(q, times, space), twice(refs), space)
