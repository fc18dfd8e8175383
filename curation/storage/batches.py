"""Cut a sequence into runs of a bounded size, in order: clips into shards, small table files into larger ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: Iterable[tuple[Item, float]], most: float, most_items: float = math.inf) -> Iterator[list[Item]]:
    """Yield runs of (item, size) whose sizes add up to `most` at most, and of `most_items` at most.

    An item that is larger than `most` is a run of its own.
    """
    batch: list[Item] = []
    total = 0.0
    for item, size in items:
        if batch and (total + size > most or len(batch) >= most_items):
            yield batch
            batch, total = [], 0.0
        batch.append(item)
        total += size
    if batch:
        yield batch
