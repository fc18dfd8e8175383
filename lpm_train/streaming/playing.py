"""Generate under conditions that are all known, as a stream would: block by block, computed as `config.Stream` says.

What evaluation and `StreamGenerator` share is `started`: which rollout `stream.cache` and `stream.compile` ask for.
Training generates with `rollout.roll`, which can keep a graph; what comes out is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lpm_train.batch import Conditions
from lpm_train.config import Stream
from lpm_train.network.refine import Performer
from lpm_train.streaming.ring import StaticRollout
from lpm_train.streaming.rollout import Rollout, begin, drawn, near


def started(model: Performer, cond: Conditions, config: Stream) -> Rollout | StaticRollout:
    """Start with the references of `cond` in a cache that grows, or in one of fixed size, as `config.cache` says."""
    if config.cache == "eager":
        return begin(model, cond, config)
    return StaticRollout.begin(model, cond, config)


@torch.no_grad()
def played(
    model: Performer, cond: Conditions, size: tuple[int, int, int], ids: Sequence[str], config: Stream, *seed: object
) -> Iterator[Tensor]:
    """Yield the blocks of all frames of `cond`, [B, b, C, H, W] each; `size` is (C, H, W).

    The latents are those of `rollout.roll`. With `config.compile` passes are compiled, and on CUDA captured, before the
    first block.

    Raises:
        ConfigError: the frames are no whole number of blocks; or the cache is static, and frames of one block are told
            different texts.
    """
    rollout = started(model, cond, config)
    for first in range(0, config.blocks(cond.frames) * config.block, config.block):
        part, start = near(cond, first, first + config.block, model)
        draw = drawn(ids, (config.block, *size), cond.speak_BTA.device, *seed, first)
        if first == 0 and config.compile and isinstance(rollout, StaticRollout):
            rollout.warm(part, start, draw)
        yield rollout.block(part, start, draw)
