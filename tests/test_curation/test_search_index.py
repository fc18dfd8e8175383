"""The index over samples' vectors: what it finds, when it is not used, and that it goes where the manifest goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import lpm
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_case import packed, shown

from curation import search as finder
from curation import search_index
from curation.dataset import Dataset
from curation.search import Among, SearchError, Wanted
from curation.storage import digests
from curation.storage.store import Store

N = 120


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rng = np.random.default_rng(0)
    samples = {
        f"{k:016d}-t0-0": shown(*rng.random(3).tolist(), state=("speak", "listen")[k % 2], caption=str(k))
        for k in range(N)
    }
    made = packed(tmp_path_factory.mktemp("index") / "d", samples)
    search_index.build(made)
    return made


def _wanted(vector: list[float]) -> Wanted:
    unit = np.asarray(vector, np.float32) + 1e-3
    return Wanted(unit / np.linalg.norm(unit), "colours")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.sampled_from([None, "speak"]))
def test_all_cells_together_are_the_exact_search(dataset: Dataset, vector: list[float], state: str | None) -> None:
    index = search_index.opened(dataset)
    assert index is not None and index.samples == N
    wanted, among = _wanted(vector), Among(state, "caption <> '7'")
    found = search_index.nearest(dataset, index, wanted, among, 10, probes=len(index.centres))
    assert found.equals(finder.nearest(dataset, wanted, among, 10))


def test_few_cells_find_most(dataset: Dataset) -> None:
    index = search_index.opened(dataset)
    assert index is not None and len(index.centres) == 10
    hits = []
    for k in range(20):
        wanted = finder.like(dataset, f"{k:016d}-t0-0")
        found = search_index.nearest(dataset, index, wanted, Among(), 5, probes=4)
        true = finder.nearest(dataset, wanted, Among(), 5)
        hits.append(len({*found["segment_id"].to_pylist()} & {*true["segment_id"].to_pylist()}) / 5)
        assert f"{k:016d}-t0-0" not in found["segment_id"].to_pylist()
    assert np.mean(hits) > 0.9


def test_the_same_samples_give_the_same_index(dataset: Dataset) -> None:
    before = digests.sha256(dataset.store, search_index.CELLS)
    search_index.build(dataset)
    assert digests.sha256(dataset.store, search_index.CELLS) == before


def test_an_index_of_another_manifest_is_not_used(tmp_path: Path) -> None:
    made = packed(tmp_path / "d", {f"{k:016d}-t0-0": shown(k / 9, 1 - k / 9, 0) for k in range(9)})
    search_index.build(made)
    file = tmp_path / "d" / "manifest.parquet"
    pq.write_table(pq.read_table(file).slice(0, 5), file)
    assert search_index.opened(Dataset(str(tmp_path / "d"))) is None
    search_index.drop(Store(str(tmp_path / "d")))
    assert not (tmp_path / "d" / search_index.CELLS).exists()


def test_a_wrong_condition_and_samples_without_vectors_are_sentences(dataset: Dataset, tmp_path: Path) -> None:
    index = search_index.opened(dataset)
    assert index is not None
    with pytest.raises(SearchError, match="cannot be searched by 'no_such"):
        search_index.nearest(dataset, index, _wanted([1, 0, 0]), Among(None, "no_such > 1"), 3)
    with pytest.raises(SearchError, match="has a vector"):
        search_index.build(packed(tmp_path / "none", {f"{0:016d}-t0-0": {"state": "idle"}}))


@pytest.mark.slow
def test_the_command_makes_it_and_says_where_it_looked(dataset: Dataset) -> None:
    root, one = dataset.store.uri, f"{3:016d}-t0-0"
    made = lpm("search", root, "--index")
    assert made.returncode == 0 and "120 samples in 10 cells" in made.stdout
    by_index = lpm("search", root, "--like", one, "--limit", "5", "--format", "csv")
    exact = lpm("search", root, "--like", one, "--limit", "5", "--format", "csv", "--exact")
    assert "10 of 10 cells" in by_index.stderr and not exact.stderr
    assert by_index.stdout == exact.stdout
