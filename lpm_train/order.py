"""Which samples make up global batch number k: a pure function of (seed, epoch, cursor), whoever asks.

Every bucket (samples of one shape) is an endless stream: its ids in a new permutation on every pass, one pass after
another. Batch j of a bucket takes slots [j*G, (j+1)*G) of that stream, so nothing is dropped or repeated to fill a
batch, and after any number of batches no two ids of a bucket have been drawn more than one time apart. An epoch is as
many batches as its buckets' samples fill, in random order of buckets. With a balance by state, each state has its own
such stream, and the slots are dealt out in a fixed ratio. No state but two integers; random access costs one
permutation, which is cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lpm_train.batch import sample_seed
from lpm_train.storage import DataError

Bucket = tuple[int, int, int]
"""(video frames, height, width) that a sample is cut to, in pixels."""

_CYCLE = 1000  # slots after which the deal among states repeats: ratios are exact to 0.1 %


@dataclass(frozen=True)
class Draw:
    """One place in a batch: a sample, and how often it has been drawn before (the epoch of its own randomness)."""

    sample_id: str
    turn: int
    bucket: Bucket


@lru_cache(maxsize=64)
def _permutation(n: int, name: str, turn: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(sample_seed(seed, "order", name, turn)).permutation(n)


@dataclass(frozen=True, eq=False)
class Order:
    """The order of all batches. `balance` gives the share of each state, e.g. {"speak": 0.5, "listen": 0.5}."""

    samples: Mapping[str, tuple[Bucket, str]]  # sample id -> (bucket, state)
    global_batch: int
    seed: int = 0
    balance: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.global_batch < 1:
            raise DataError(f"global_batch is {self.global_batch}: it counts samples and must be at least 1")
        if not self.samples:
            raise DataError("there is no sample to order")
        if self.balance is not None and (min(self.balance.values(), default=0) < 0 or sum(self.balance.values()) <= 0):
            raise DataError(f"balance {dict(self.balance)}: shares must not be negative, and one must be positive")

    @cached_property
    def buckets(self) -> dict[Bucket, dict[str, list[str]]]:
        """Ids by bucket, and in it by state (by "" without a balance), all in fixed order."""
        out: dict[Bucket, dict[str, list[str]]] = {}
        for sample_id in sorted(self.samples):
            bucket, state = self.samples[sample_id]
            if self.balance is None or self.balance.get(state, 0) > 0:
                out.setdefault(bucket, {}).setdefault("" if self.balance is None else state, []).append(sample_id)
        if not out:
            raise DataError(f"no sample is in a state of the balance {dict(self.balance or {})}")
        return {bucket: dict(sorted(groups.items())) for bucket, groups in sorted(out.items())}

    @cached_property
    def _deals(self) -> dict[Bucket, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Per bucket: the group of each slot of a cycle, and [cycle+1, groups] slots of each group before it."""
        out = {}
        for bucket, groups in self.buckets.items():
            deal = spread([1.0], 1) if self.balance is None else spread([self.balance[g] for g in groups], _CYCLE)
            before = np.zeros((len(deal) + 1, len(groups)), np.int64)
            np.cumsum(np.eye(len(groups), dtype=np.int64)[deal], axis=0, out=before[1:])
            out[bucket] = deal, before
        return out

    def schedule(self, epoch: int) -> tuple[tuple[Bucket, int], ...]:
        """Return an epoch's batches as (bucket, number of the batch in the bucket's stream); may be empty."""
        return _schedule(self, epoch)

    def batch(self, epoch: int, cursor: int) -> tuple[Draw, ...]:
        """Return the `global_batch` draws of batch number `cursor` of an epoch; all are of one bucket."""
        bucket, number = self.schedule(epoch)[cursor]
        groups, (deal, before), draws = list(self.buckets[bucket].items()), self._deals[bucket], []
        for slot in range(number * self.global_batch, (number + 1) * self.global_batch):
            cycle, place = divmod(slot, len(deal))
            name, ids = groups[group := int(deal[place])]
            turn, at = divmod(int(cycle * before[-1, group] + before[place, group]), len(ids))
            draws.append(Draw(ids[_permutation(len(ids), f"{bucket}/{name}", turn, self.seed)[at]], turn, bucket))
        return tuple(draws)

    def normal(self, epoch: int, cursor: int) -> tuple[int, int]:
        """Return the place of the next batch at or after (epoch, cursor): epochs that are used up are left."""
        while cursor >= len(self.schedule(epoch)):
            epoch, cursor = epoch + 1, 0
        return epoch, cursor

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that the meaning of (epoch, cursor) depends on, but the seed."""
        shares = sorted(self.balance.items()) if self.balance is not None else None
        text = repr((sorted(self.samples.items()), self.global_batch, shares))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def _schedule(order: Order, epoch: int) -> tuple[tuple[Bucket, int], ...]:
    batches = []
    for bucket, groups in order.buckets.items():
        size = sum(map(len, groups.values()))
        first, stop = (e * size // order.global_batch for e in (epoch, epoch + 1))
        batches += [(bucket, j) for j in range(first, stop)]
    mix = np.random.default_rng(sample_seed(order.seed, "schedule", epoch)).permutation(len(batches))
    # Batches of one bucket keep their order, so that its stream is read forwards; which bucket comes next is random.
    turns = {bucket: iter([b for b in batches if b[0] == bucket]) for bucket in order.buckets}
    return tuple(next(turns[batches[i][0]]) for i in mix)


def spread(shares: Sequence[float], length: int) -> NDArray[np.int64]:
    """Deal `length` slots among parties in the ratio of their shares, as evenly as can be (largest remainder)."""
    exact = np.asarray(shares, np.float64) / float(np.sum(shares)) * length
    counts = np.floor(exact).astype(np.int64)
    for i in np.argsort(counts - exact, kind="stable")[: length - int(counts.sum())]:
        counts[i] += 1
    at = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n] or [np.zeros(0)])
    who = np.repeat(np.arange(len(counts)), counts)
    return who[np.argsort(at, kind="stable")]
