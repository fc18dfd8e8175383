"""The order of batches: every sample its turn, in any batch size, over any ranks, from any point."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_train.data.order import Draw, Order, spread
from lpm_train.storage import DataError

BUCKETS = [(16, 32, 32), (32, 32, 32), (16, 32, 48)]
STATES = ["speak", "listen", "idle", "both"]
samples = st.lists(st.tuples(st.sampled_from(BUCKETS), st.sampled_from(STATES)), min_size=1, max_size=60).map(
    lambda items: {f"s{i:03d}": item for i, item in enumerate(items)}
)


def walk(order: Order, batches: int, at: tuple[int, int] = (0, 0)) -> list[tuple[Draw, ...]]:
    out = []
    for _ in range(batches):
        at = order.normal(*at)
        out.append(order.batch(*at))
        at = (at[0], at[1] + 1)
    return out


@settings(max_examples=50, deadline=None)
@given(samples, st.integers(1, 9), st.integers(0, 99))
def test_no_id_is_ever_two_turns_ahead_of_another_of_its_bucket(items, global_batch: int, seed: int) -> None:
    order = Order(items, global_batch, seed)
    count = Counter(d.sample_id for b in walk(order, 40) for d in b)
    for bucket in {b for b, _ in items.values()}:
        turns = [count[i] for i, (b, _) in items.items() if b == bucket]
        assert max(turns) - min(turns) <= 1
    drawn = [(d.sample_id, d.turn) for b in walk(order, 40) for d in b]
    assert len(set(drawn)) == len(drawn), "a sample came twice with the same randomness"


@settings(max_examples=50, deadline=None)
@given(samples, st.integers(1, 9), st.integers(0, 99))
def test_a_batch_is_of_one_bucket_and_full(items, global_batch: int, seed: int) -> None:
    for batch in walk(Order(items, global_batch, seed), 12):
        assert len(batch) == global_batch
        assert {items[d.sample_id][0] for d in batch} == {d.bucket for d in batch} and len(
            {d.bucket for d in batch}
        ) == 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_every_id_exactly_once_an_epoch_over_ranks(world_size: int) -> None:
    order = Order({f"s{i:02d}": (BUCKETS[i // 24], "speak") for i in range(48)}, 12)
    for epoch in range(3):
        batches = [order.batch(epoch, k) for k in range(len(order.schedule(epoch)))]
        rows = 12 // world_size
        ranks = [[d.sample_id for b in batches for d in b[r * rows : (r + 1) * rows]] for r in range(world_size)]
        assert sorted(i for r in ranks for i in r) == sorted(order.samples)
        assert {d.turn for b in batches for d in b} == {epoch}


def test_epochs_and_seeds_differ_and_buckets_are_mixed() -> None:
    items = {f"s{i:02d}": (BUCKETS[i // 24], "speak") for i in range(48)}
    ids = [[d.sample_id for b in walk(Order(items, 4, seed), 12) for d in b] for seed in (0, 1, 0)]
    assert ids[0] == ids[2] != ids[1]
    order = Order(items, 4)
    assert [b for b, _ in order.schedule(0)] != sorted(b for b, _ in order.schedule(0))
    assert order.batch(0, 0) != order.batch(1, 0)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.integers(1, 1000))
def test_spread_is_even(shares: list[float], length: int) -> None:
    deal = spread(shares, length)
    want = np.asarray(shares) / sum(shares)
    assert len(deal) == length
    assert np.abs(np.bincount(deal, minlength=len(shares)) - want * length).max() <= 1


def test_balance_holds_in_every_batch_and_states_without_share_stay_out() -> None:
    items = {f"s{i:02d}": (BUCKETS[0], "speak" if i < 30 else "listen" if i < 38 else "idle") for i in range(40)}
    order = Order(items, 10, balance={"speak": 0.5, "listen": 0.5})
    for batch in walk(order, 10):
        assert Counter(items[d.sample_id][1] for d in batch) == {"speak": 5, "listen": 5}
    counts = Counter(d.sample_id for b in walk(order, 24) for d in b)
    assert {counts[f"s{i:02d}"] for i in range(30, 38)} == {15} and {counts[f"s{i:02d}"] for i in range(30)} == {4}


def test_nonsense_is_refused() -> None:
    one = {"a": (BUCKETS[0], "speak")}
    for bad, word in [
        (lambda: Order({}, 1), "no sample"),
        (lambda: Order(one, 0), "global_batch"),
        (lambda: Order(one, 1, balance={"speak": -1}), "shares"),
        (lambda: Order(one, 1, balance={"idle": 1}).buckets, "no sample is in a state"),
    ]:
        with pytest.raises(DataError, match=word):
            bad()


def test_more_batch_than_samples_repeats_samples_with_other_randomness() -> None:
    batch = Order({"a": (BUCKETS[0], "speak")}, 3).batch(*Order({"a": (BUCKETS[0], "speak")}, 3).normal(0, 0))
    assert [(d.sample_id, d.turn) for d in batch] == [("a", 0), ("a", 1), ("a", 2)]
