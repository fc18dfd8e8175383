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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import overload

import numpy as np
from numpy.typing import NDArray

from lpm_train.batch import sample_seed
from lpm_train.data.cut import Cut
from lpm_train.data.table.columns import Ints, narrow
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


def _permutation(n: int, name: str, turn: int, seed: int) -> Ints:
    return narrow(np.random.default_rng(sample_seed(seed, "order", name, turn)).permutation(n))


class Schedule(Sequence[tuple[Bucket, int]]):
    """The batches of an epoch as (bucket, number of the batch in the bucket's stream); a few bytes each."""

    def __init__(self, buckets: Sequence[Bucket], which: Ints, number: Ints) -> None:
        """Keep of each batch which of the buckets it is of, and its number there."""
        self._buckets, self._which, self._number = tuple(buckets), which, number

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, at: int) -> tuple[Bucket, int]: ...
    @overload
    def __getitem__(self, at: slice) -> Schedule: ...
    def __getitem__(self, at: int | slice) -> tuple[Bucket, int] | Schedule:
        if isinstance(at, slice):
            return Schedule(self._buckets, self._which[at], self._number[at])
        return self._buckets[self._which[at]], int(self._number[at])


class Order:
    """The order of all batches."""

    def __init__(
        self, samples: Mapping[str, tuple[Bucket, str]], global_batch: int, seed: int = 0,
        balance: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        """Order samples.

        Args:
            samples: sample id -> (bucket, state).
            global_batch: samples of a batch, over all ranks.
            seed: of the permutations.
            balance: share of each state, e.g. {"speak": 0.5, "listen": 0.5}; None: as they are.

        Raises:
            DataError: there is no sample, or a number makes no sense.
        """
        self.samples = samples if isinstance(samples, Cut) else Cut.of(samples)
        self.global_batch, self.seed, self.balance = global_batch, seed, balance
        if self.global_batch < 1:
            raise DataError(f"global_batch is {self.global_batch}: it counts samples and must be at least 1")
        if not self.samples:
            raise DataError("there is no sample to order")
        if self.balance is not None and (min(self.balance.values(), default=0) < 0 or sum(self.balance.values()) <= 0):
            raise DataError(f"balance {dict(self.balance)}: shares must not be negative, and one must be positive")

    @cached_property
    def buckets(self) -> dict[Bucket, dict[str, Ints]]:
        """Places of the samples by bucket, and in it by state (by "" without a balance), all in fixed order."""
        out: dict[Bucket, dict[str, Ints]] = {}
        samples, states = self.samples, self.samples.state
        for size, bucket in sorted(enumerate(samples.sizes), key=lambda numbered: numbered[1]):
            inside = samples.size == size
            if self.balance is None:
                groups = {"": inside}
            else:
                groups = {
                    n: inside & (states.codes == i) for i, n in enumerate(states.names) if self.balance.get(n, 0) > 0
                }
            found = {name: narrow(np.flatnonzero(mask)) for name, mask in sorted(groups.items())}
            if found := {name: places for name, places in found.items() if len(places)}:
                out[bucket] = found
        if not out:
            raise DataError(f"no sample is in a state of the balance {dict(self.balance or {})}")
        return out

    @cached_property
    def _permuted(self) -> Callable[[int, str, int, int], Ints]:
        """Permutations; kept are those of as many streams as there are, on this turn and the next."""
        return lru_cache(2 * sum(map(len, self.buckets.values())))(_permutation)

    @cached_property
    def _scheduled(self) -> Callable[[int], Schedule]:
        sizes = {bucket: sum(map(len, groups.values())) for bucket, groups in self.buckets.items()}
        return lru_cache(3)(partial(_schedule, sizes, self.global_batch, self.seed))

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

    def schedule(self, epoch: int) -> Schedule:
        """Return an epoch's batches as (bucket, number of the batch in the bucket's stream); may be empty."""
        return self._scheduled(epoch)

    def batch(self, epoch: int, cursor: int) -> tuple[Draw, ...]:
        """Return the `global_batch` draws of batch number `cursor` of an epoch; all are of one bucket."""
        bucket, number = self.schedule(epoch)[cursor]
        groups, (deal, before), draws = list(self.buckets[bucket].items()), self._deals[bucket], []
        for slot in range(number * self.global_batch, (number + 1) * self.global_batch):
            cycle, place = divmod(slot, len(deal))
            name, places = groups[group := int(deal[place])]
            turn, at = divmod(int(cycle * before[-1, group] + before[place, group]), len(places))
            drawn = places[self._permuted(len(places), f"{bucket}/{name}", turn, self.seed)[at]]
            draws.append(Draw(self.samples.name(int(drawn)), turn, bucket))
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
        digest = hashlib.sha256(b"([")
        for number, text in enumerate(self.samples.texts()):
            digest.update((", " * bool(number) + text).encode())
        digest.update(f"], {self.global_batch!r}, {shares!r})".encode())
        return digest.hexdigest()[:16]


def _schedule(sizes: Mapping[Bucket, int], global_batch: int, seed: int, epoch: int) -> Schedule:
    spans = [(epoch * n // global_batch, (epoch + 1) * n // global_batch) for n in sizes.values()]
    batches = narrow(np.repeat(np.arange(len(spans)), [stop - first for first, stop in spans]))
    # Batches of one bucket keep their order, so that its stream is read forwards; which bucket comes next is random.
    which = batches[np.random.default_rng(sample_seed(seed, "schedule", epoch)).permutation(len(batches))]
    number = np.zeros(len(which), np.int64)
    for i, (first, stop) in enumerate(spans):
        number[which == i] = np.arange(first, stop)
    return Schedule(list(sizes), which, narrow(number))


def spread(shares: Sequence[float], length: int) -> NDArray[np.int64]:
    """Deal `length` slots among parties in the ratio of their shares, as evenly as can be (largest remainder)."""
    exact = np.asarray(shares, np.float64) / float(np.sum(shares)) * length
    counts = np.floor(exact).astype(np.int64)
    for i in np.argsort(counts - exact, kind="stable")[: length - int(counts.sum())]:
        counts[i] += 1
    at = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n] or [np.zeros(0)])
    who = np.repeat(np.arange(len(counts)), counts)
    return who[np.argsort(at, kind="stable")]
