"""What a stream remembers: the references for ever, the first frames as a sink, and a rolling window.

Keys are stored before rotation and rotated when read, so that the distance of references and sink to the present stays
constant however long the stream runs. Appending returns a new cache and never writes in place: a checkpointed forward
may run twice. Memory: 2 * depth * width * tokens of (references + sink + window), independent of the stream's length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lpm_train.attention import KV, Causal, cut


@dataclass(frozen=True)
class Cache:
    """Keys and values by layer."""

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
