"""A store that holds small files in mind answers as one that asks each time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.storage.recalled import SMALL_BYTES
from curation.storage.store import Store

NAMES = [
    "commits/probe/bucket=ab/x.json", "commits/probe/bucket=ab/y.json", "tables/cuts/bucket=ab/x.parquet",
    "tables/cuts/bucket=ab/y.parquet", "tables/inputs/dataset.parquet", "runs/log.jsonl",
]  # fmt: skip
NAME = st.sampled_from(NAMES)
SIZES = st.sampled_from([0, 1, 1000, SMALL_BYTES, SMALL_BYTES + 1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAME, SIZES),
        *(st.tuples(st.just(what), NAME, st.just(0)) for what in ("read", "exists", "delete")),
    ),
    max_size=30,
)


def answer(store: Store, what: str, name: str, size: int) -> object:
    if what == "write":
        return store.write(name, bytes([size % 251]) * size)
    if what == "delete":
        return store.delete(name)
    try:
        return store.read(name) if what == "read" else store.exists(name)
    except FileNotFoundError:
        return None


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, listing=st.booleans())
def test_every_answer_is_that_of_the_files(steps: list[tuple[str, str, int]], listing: bool) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        plain, held = Store(one), Store(other)
        with held.recalling(listing=listing):
            for step in steps:
                assert answer(held, *step) == answer(plain, *step), step
        assert held.sizes("") == plain.sizes("")


def test_a_file_is_asked_for_once_inside_and_again_after(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with store.recalling():
        store.write(NAMES[0], b"first")
        assert store.read(NAMES[0]) == b"first"
        with pytest.raises(FileNotFoundError):
            store.read(NAMES[1])
        Path(store.path(NAMES[0])).write_bytes(b"by another")
        Path(store.path(NAMES[1])).write_bytes(b"by another")
        assert store.read(NAMES[0]) == b"first" and not store.exists(NAMES[1])
    assert store.read(NAMES[0]) == b"by another" and store.exists(NAMES[1])


def test_what_stands_for_a_content_is_equal_only_while_the_content_is(tmp_path: Path) -> None:
    store, name = Store(str(tmp_path)), NAMES[2]
    store.write(name, b"first")
    assert store.held(name) != store.held(name), "nothing is known of what is not held"
    with store.recalling():
        first, absent = store.held(name), store.held(NAMES[3])
        assert store.held(name) == first != absent and store.held(NAMES[3]) == absent
        store.write(name, b"second")
        assert store.held(name) != first
        store.write(name, b"first")
        assert store.held(name) == first
        store.write(name, b"x" * (SMALL_BYTES + 1))
        assert store.held(name) != store.held(name), "too large to be held"
