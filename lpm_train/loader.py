"""The endless stream of one rank's batches, with a state of two integers.

Threads decode (reading and decoding release the interpreter lock) and futures are taken in order, so there is no worker
state: what comes next depends on (seed, epoch, cursor) alone. A run resumes in the middle of an epoch, on any number of
ranks or workers, as long as the global batch is the same. Data that changed in between is refused.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from lpm_train.batch import Batch, DropRates
from lpm_train.codec import latent_frames, latent_size
from lpm_train.make import Encoders, Maker, Parts
from lpm_train.order import Bucket, Order
from lpm_train.precompute import Precomputed
from lpm_train.sampling import Sampling, choose_bucket
from lpm_train.shards import Shards
from lpm_train.storage import DataError
from schemas.time import PACKED_AUDIO_HZ


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What is loaded and in what order. All of it but `workers` and `prefetch` decides what batches hold."""

    # (video frames, height, width) that clips are cut to; clips shorter than all are left out.
    buckets: Sequence[Bucket] = ((64, 256, 256),)
    where: str | None = None  # SQL condition over the manifest's columns
    global_batch: int = 8  # samples in a step over all ranks
    seed: int = 0
    # Share of each state in what is drawn; None: as they come, every sample once an epoch.
    balance: Mapping[str, float] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    drop: DropRates | None = None  # condition dropout; None: none
    precomputed: str | None = None  # name of the precomputed set to use; None: decode and encode on the fly
    workers: int = 4
    prefetch: int = 2  # steps that are prepared ahead


class Loader:
    """A `BatchSource` over packed shards."""

    def __init__(
        self, root: str | Path, config: LoaderConfig, encoders: Encoders | None = None, *, rank: int = 0,
        world_size: int = 1,
    ) -> None:  # fmt: skip
        """Open a dataset.

        Raises:
            DataError: nothing is left to load, the global batch does not divide among ranks, or precomputed parts
                do not fit.
        """
        if config.global_batch % world_size or not 0 <= rank < world_size:
            raise DataError(f"a global batch of {config.global_batch} does not divide among {world_size} ranks")
        encoders = encoders or Encoders()
        self.config, self.encoders, self.rank, self.world_size = config, encoders, rank, world_size
        for bucket in config.buckets:  # a bucket that the codec cannot hold is found before the first batch
            latent_frames(encoders.codec, bucket[0]), latent_size(encoders.codec, *bucket[1:])
        self.shards = Shards(root, config.where)
        self.fingerprint = self.shards.fingerprint  # taken at the start; a missing shard is found here
        self.order = Order(self._cut(), config.global_batch, config.seed, config.balance)
        quiet = silence(encoders)
        self.maker = Maker(self.shards, encoders, self._parts(), config.sampling, config.seed, config.drop, quiet)
        self._pool = ThreadPoolExecutor(max(1, config.workers), thread_name_prefix="loader")
        self._ahead: deque[tuple[tuple[int, int], list[Future[Batch]]]] = deque()
        self._next = self.order.normal(0, 0)

    def _cut(self) -> dict[str, tuple[Bucket, str]]:
        columns, out = [self.shards.column(n) for n in ("n_frames", "width", "height", "state")], {}
        for sample_id, n_frames, width, height, state in zip(self.shards.ids, *columns, strict=True):
            if (bucket := choose_bucket(n_frames, width, height, self.config.buckets)) is not None:
                out[sample_id] = (bucket, state)
        if not out:
            raise DataError(
                f"all {len(self.shards)} samples are shorter than every bucket of {list(self.config.buckets)} "
                f"(the longest has {max(columns[0])} frames): use shorter buckets"
            )
        return out

    def _parts(self) -> Parts:
        if self.config.precomputed is not None:
            return Precomputed(self.shards, self.config.precomputed, self.encoders, self.order.samples)
        t = self.encoders.codec.stride[0]
        return Parts(self.shards, self.encoders, -(-self.config.sampling.hop_frames // t) * t)

    @property
    def summary(self) -> dict[str, Any]:
        """Say what is loaded: samples by state, samples by bucket, and how many clips were too short."""
        buckets, states = zip(*self.order.samples.values(), strict=True)
        return {
            "samples": len(self.order.samples),
            "too_short": len(self.shards) - len(self.order.samples),
            "states": dict(sorted(Counter(states).items())),
            "buckets": {"x".join(map(str, b)): n for b, n in sorted(Counter(buckets).items())},
        }

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Give this rank's rows of the next global batch."""
        rows = self.config.global_batch // self.world_size
        while len(self._ahead) < max(1, self.config.prefetch):
            place = self.order.normal(*_after(self._ahead[-1][0]) if self._ahead else self._next)
            draws = self.order.batch(*place)[self.rank * rows : (self.rank + 1) * rows]
            self._ahead.append((place, [self._pool.submit(self._make, d) for d in draws]))
        place, futures = self._ahead[0]
        batch = Batch.cat([f.result() for f in futures])
        self._ahead.popleft()
        self._next = self.order.normal(*_after(place))
        return batch

    def _make(self, draw: Any) -> Batch:
        try:
            return self.maker(draw)
        except DataError as e:
            raise DataError(f"sample {draw.sample_id}: {e}") from e

    def state(self) -> dict[str, Any]:
        """Say where the stream stands: what the next batch will be. The same on every rank."""
        fingerprint = {"data": self.fingerprint, "order": self.order.fingerprint}
        return {"epoch": self._next[0], "cursor": self._next[1], "seed": self.config.seed, "fingerprint": fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Raises:
            DataError: the data, the selection, the global batch or the seed are not those of the state.
        """
        if state["fingerprint"]["data"] != self.fingerprint:
            raise DataError(
                "the dataset is not the one this run was training on (its manifest, the --where clause, or a shard's "
                "size changed): restore it, or start a new run on the new data"
            )
        if (state["fingerprint"]["order"], state["seed"]) != (self.order.fingerprint, self.config.seed):
            raise DataError(
                "buckets, balance, global batch or seed are not those of the interrupted run, so its place in the data "
                "has no meaning here: use the same settings (ranks and workers may change), or start a new run"
            )
        for future in (f for _, futures in self._ahead for f in futures):
            future.cancel()
        self._ahead.clear()
        self._next = self.order.normal(int(state["epoch"]), int(state["cursor"]))

    def close(self) -> None:
        """Stop the workers."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _after(place: tuple[int, int]) -> tuple[int, int]:
    return place[0], place[1] + 1


def silence(encoders: Encoders) -> torch.Tensor:
    """Return the features of a step of silence, [A]: the middle one of a second of it."""
    features = encoders.audio(torch.zeros(PACKED_AUDIO_HZ), PACKED_AUDIO_HZ)
    return features[len(features) // 2].float()
