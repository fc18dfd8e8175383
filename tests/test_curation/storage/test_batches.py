"""Batches of a bounded size: nothing lost, order kept, no run larger than it must be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from curation.storage.batches import batches


@given(st.lists(st.integers(0, 50)), st.integers(1, 60), st.integers(1, 6))
def test_batches_keep_order_and_bounds_and_are_as_full_as_may_be(sizes: list[int], most: int, most_items: int) -> None:
    runs = list(batches(((i, float(size)) for i, size in enumerate(sizes)), most, most_items))
    assert [i for run in runs for i in run] == list(range(len(sizes)))
    for run in runs:
        assert 1 <= len(run) <= most_items
        assert len(run) == 1 or sum(sizes[i] for i in run) <= most
    for run, after in pairwise(runs):
        assert len(run) == most_items or sum(sizes[i] for i in [*run, after[0]]) > most
