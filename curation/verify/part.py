"""A part of a dataset to look at, drawn by hash: what is too large to be read whole is certified part by part."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Part:
    """A share of the groups of sources, of the shards and of what else is looked at one after another.

    `share` in (0, 1]: at least one of each kind is drawn. Another `seed` draws others; the same draws the same, and a
    larger share holds a smaller one.
    """

    share: float
    seed: int = 0
    looked: dict[str, tuple[int, int]] = field(default_factory=dict)
    """of each kind, how many were drawn and how many there are"""

    def of(self, kind: str, names: Iterable[str]) -> list[str]:
        """Return the names that are looked at, in their order."""
        every = list(names)
        ranked = sorted(every, key=lambda n: hashlib.sha256(f"{self.seed} {kind} {n}".encode()).digest())
        drawn = set(ranked[: math.ceil(self.share * len(every))])
        self.looked[kind] = (len(drawn), len(every))
        return [n for n in every if n in drawn]

    def __str__(self) -> str:
        return ", ".join(f"{few} of {all_} {kind}" for kind, (few, all_) in self.looked.items())


def drawn(part: Part | None, kind: str, names: Iterable[str]) -> list[str]:
    """Return what a part holds of some names, all of them where there is none."""
    return list(names) if part is None else part.of(kind, names)
