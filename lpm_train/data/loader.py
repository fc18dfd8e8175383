"""The endless stream of one rank's batches, with a state of two integers.

Threads decode (reading and decoding release the interpreter lock) and futures are taken in order, so there is no worker
state: what comes next depends on (seed, epoch, cursor) alone. A run resumes in the middle of an epoch, on any number of
ranks or workers, as long as the global batch is the same. Data that changed in between is refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Self, TypeVar

import torch

from lpm_train.batch import Batch, Conditioned
from lpm_train.config import Data
from lpm_train.data.cut import Cut
from lpm_train.data.make import Encoders, Maker, Parts, cut
from lpm_train.data.order import Draw, Order
from lpm_train.data.precomputed import Precomputed
from lpm_train.data.shards import Shards
from lpm_train.data.sizes import Rule, fit, refusal
from lpm_train.data.table.columns import Coded
from lpm_train.encoders.codec import latent_frames, latent_size
from lpm_train.storage import DataError
from schemas.time import PACKED_AUDIO_HZ

S = TypeVar("S", bound=Conditioned)


class Feed(Generic[S]):
    """A `BatchSource` over packed shards, in an order, made by a maker: those that a loader's own class gives it."""

    order: Order
    maker: Callable[[Draw], S]

    def __init__(self, data: Data, encoders: Encoders, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        """Open the dataset `data.root`; `seed` is that of order and sampling.

        Raises:
            DataError: nothing is left to load, clips do not fit the sizes, the global batch does not divide among
                ranks, or precomputed parts do not fit.
        """
        if data.batch % world_size or not 0 <= rank < world_size:
            raise DataError(f"a global batch of {data.batch} does not divide among {world_size} ranks")
        self.data, self.encoders, self.seed, self.rank, self.world_size = data, encoders, seed, rank, world_size
        for frames, height, width in data.sizes:  # what the codec cannot hold is found before the first batch
            latent_frames(encoders.codec, frames), latent_size(encoders.codec, height, width)
        self.shards = Shards(data.root, data.where or None)
        self.fingerprint = self.shards.fingerprint  # taken at the start; a missing shard is found here
        self.clips = self._cut()
        self._pool = ThreadPoolExecutor(max(1, data.workers), thread_name_prefix="loader")
        self._ahead: deque[tuple[tuple[int, int], list[Future[S]]]] = deque()
        self._next = (0, 0)

    def _cut(self) -> Cut:
        rule, sizes = Rule.of(self.data), self.data.sizes
        self.fit = fit(self.shards.shapes(), sizes, rule)
        if self.fit.misfits and (self.data.misfits == "refuse" or not self.fit.fitting):
            raise DataError(refusal(self.fit, rule))
        out = cut(self.shards, sizes, rule)
        if not out:
            raise DataError(
                f"all {len(self.shards)} samples are shorter than every bucket of {list(self.data.sizes)} "
                f"(the longest has {self.shards.numbers('n_frames').max()} frames): use shorter buckets"
            )
        return out

    def _parts(self) -> Parts:
        if self.data.precomputed:
            timed = self.data.prompts == "timed"
            return Precomputed(self.shards, self.data.precomputed, self.encoders, self.clips, timed)
        t = self.encoders.codec.stride[0]
        return Parts(self.shards, self.encoders, -(-self.data.hop_frames // t) * t)

    def __iter__(self) -> Iterator[S]:
        return self

    def __next__(self) -> S:
        """Give this rank's rows of the next global batch."""
        rows = self.data.batch // self.world_size
        while len(self._ahead) < max(1, self.data.prefetch):
            place = self.order.normal(*(_after(self._ahead[-1][0]) if self._ahead else self._next))
            draws = self.order.batch(*place)[self.rank * rows : (self.rank + 1) * rows]
            self._ahead.append((place, [self._pool.submit(self._make, d) for d in draws]))
        place, futures = self._ahead[0]
        made = [f.result() for f in futures]
        batch = type(made[0]).cat(made)
        self._ahead.popleft()
        self._next = self.order.normal(*_after(place))
        return batch

    def _make(self, draw: Draw) -> S:
        try:
            return self.maker(draw)
        except DataError as e:
            raise DataError(f"sample {draw.sample_id}: {e}") from e

    def state(self) -> dict[str, Any]:
        """Say where the stream stands: what the next batch will be. The same on every rank."""
        self._next = self.order.normal(*self._next)
        made = {"data": self.fingerprint, "order": self.order.fingerprint, "encoders": self.encoders.provenance}
        return {"epoch": self._next[0], "cursor": self._next[1], "seed": self.seed, "fingerprint": made}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Raises:
            DataError: the data, the selection, the encoders, the global batch or the seed are not those of the state.
        """
        if state["fingerprint"]["data"] != self.fingerprint:
            raise DataError(
                "the dataset is not the one this run was training on (its manifest, the --where clause, or a shard's "
                "size changed): restore it, or start a new run on the new data"
            )
        before = state["fingerprint"].get("encoders", self.encoders.provenance)  # not in checkpoints of older versions
        if other := [part for part, made in self.encoders.provenance.items() if before[part] != made]:
            raise DataError(
                f"the {' and the '.join(other)} of this run was another when it was interrupted (its class, a setting "
                "or its weights changed under the same name): bring it back, or start a new run"
            )
        if (state["fingerprint"]["order"], state["seed"]) != (self.order.fingerprint, self.seed):
            raise DataError(
                "buckets, balance, rollout, global batch or seed are not those of the interrupted run, so its place in "
                "the data has no meaning here: use the same settings (ranks and workers may change), or start a new run"
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


class Loader(Feed[Batch]):
    """Clips: one batch after another, each of one size."""

    maker: Maker

    def __init__(self, data: Data, encoders: Encoders, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        """Open the dataset `data.root`. Raises as `Feed` does."""
        super().__init__(data, encoders, seed=seed, rank=rank, world_size=world_size)
        self.order = Order(self.clips, data.batch, seed, data.balance or None)
        self.maker = Maker(self.shards, encoders, self._parts(), data, seed, silence(encoders))

    @property
    def summary(self) -> dict[str, Any]:
        """Say what is loaded: samples by state, samples by bucket, and clips that are too short or fit no size."""
        samples = self.order.samples
        sizes = Coded(["x".join(map(str, size)) for size in samples.sizes], samples.size)
        return {
            "samples": len(samples),
            "too_short": self.fit.too_short,
            "misfits": self.fit.misfits,
            "states": samples.state.counts(),
            "buckets": sizes.counts(),
        }


def _after(place: tuple[int, int]) -> tuple[int, int]:
    return place[0], place[1] + 1


def silence(encoders: Encoders) -> torch.Tensor:
    """Return the features of a step of silence, [A]: the middle one of a second of it."""
    features = encoders.audio(torch.zeros(PACKED_AUDIO_HZ), PACKED_AUDIO_HZ)
    return features[len(features) // 2].float()
