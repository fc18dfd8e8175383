"""Teacher-forced attention as one fused kernel: PyTorch's flex attention, chosen by `run.attention=flex`.

Does what `attention.attend_forced` does, for clips that the window holds as a whole. For CUDA: PyTorch has no backward
for it on CPU, where it also runs unfused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lpm_train.attention import KV, Space, beside, twice
from lpm_train.config import Stream


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


def attend_forced_flex(q: Tensor, own: KV, refs: KV | None, space: Space, layout: Stream) -> Tensor:
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

    q, shared = space.video(q), refs if space.beside_N1E is None else None
    k = join(space.video(own.k), None if shared is None else space.refs(shared.k))
    v = join(own.v, None if shared is None else shared.v)
    mask = forced_mask(length, k.shape[2] - 2 * length, layout.block * space.tokens, q.device)
    seen = torch.cat(_flex()(join(q), k, v, block_mask=mask).chunk(2, dim=2), dim=0)
    return seen + beside(q, twice(refs), space)
