"""Search by vectors: the nearest first, near duplicates across sources, and what cannot be searched."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_case import packed, shown

from curation import search as finder
from curation.dataset import Dataset
from curation.search import Among, SearchError, Wanted, near_pairs, nearest_earlier

A, B = "a" * 16, "b" * 16
SAMPLES = {
    f"{A}-t0-0": shown(1, 0, 0, state="speak", caption="one", duration_s=2.0),
    f"{A}-t0-1": shown(1, 0.1, 0, state="listen", caption="two", duration_s=3.0),
    f"{B}-t0-0": shown(0, 1, 0, state="listen", caption="three", duration_s=4.0),
    f"{B}-t0-1": shown(1, 0.02, 0, state="idle", caption="four", duration_s=5.0),
    f"{B}-t0-2": {"state": "idle", "caption": "made before there was a model"},
}
RED = Wanted(np.array([1, 0, 0], np.float32), "colours")


def _ids(rows: object) -> list[str]:
    return rows["segment_id"].to_pylist()  # type: ignore[index, no-any-return]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return packed(tmp_path_factory.mktemp("search") / "it's", SAMPLES)


def test_the_nearest_come_first_and_samples_without_vectors_never(dataset: Dataset) -> None:
    rows = finder.nearest(dataset, RED, Among(), 10)
    assert _ids(rows) == [f"{A}-t0-0", f"{B}-t0-1", f"{A}-t0-1", f"{B}-t0-0"]
    similar = rows["similarity"].to_pylist()
    assert similar[0] == pytest.approx(1) and similar[-1] == pytest.approx(0, abs=1e-5)
    assert rows["caption"].to_pylist() == ["one", "four", "two", "three"]
    assert _ids(finder.nearest(dataset, RED, Among(), 2)) == [f"{A}-t0-0", f"{B}-t0-1"]
    assert finder.vector_model(dataset) == "colours"


def test_states_and_conditions_narrow_what_is_looked_through(dataset: Dataset) -> None:
    assert _ids(finder.nearest(dataset, RED, Among("listen"), 9)) == [f"{A}-t0-1", f"{B}-t0-0"]
    assert _ids(finder.nearest(dataset, RED, Among("listen", "duration_s > 3"), 9)) == [f"{B}-t0-0"]
    both = Among(None, "duration_s > 4 OR caption = 'two' -- a remark")
    assert _ids(finder.nearest(dataset, RED, both, 9)) == [f"{B}-t0-1", f"{A}-t0-1"]
    assert _ids(finder.nearest(dataset, RED, Among("speak' OR true --"), 9)) == []


@pytest.mark.parametrize(
    "where", ["no_such > 1", "duration_s >", "caption > 1 OR read_text('/etc/hostname') IS NOT NULL", "1; SELECT 2"]
)
def test_a_wrong_condition_is_a_sentence_and_reaches_no_other_file(dataset: Dataset, where: str) -> None:
    with pytest.raises(SearchError, match="the manifest cannot be searched by") as caught:
        finder.nearest(dataset, RED, Among(where=where), 1)
    assert "\n" not in str(caught.value)


def test_a_sample_finds_its_like_but_not_itself(dataset: Dataset) -> None:
    rows = finder.nearest(dataset, finder.like(dataset, f"{A}-t0-1"), Among(), 2)
    assert _ids(rows) == [f"{B}-t0-1", f"{A}-t0-0"]
    for sample, said in ((f"{B}-t0-2", "has no vector"), ("x' OR true --", "there is no sample")):
        with pytest.raises(SearchError, match=said):
            finder.like(dataset, sample)


def test_references_are_found_once_whatever_the_samples_that_they_stand_beside(tmp_path: Path) -> None:
    red, blue = (shown(*c)["vector"] for c in ((1, 0, 0), (0, 0, 1)))

    def sample(i: str, *vectors: list[float] | None) -> dict[str, object]:
        names = ["ref.jpg", "ref_view_1.jpg"][: len(vectors)]
        return {**shown(0, 1, 0), "identity_id": "p", "reference_names": names, "reference_vectors": list(vectors)}

    ids = [f"{A}-t0-0", f"{A}-t0-1", f"{B}-t0-0"]
    samples = {ids[0]: sample(ids[0], blue, red), ids[1]: sample(ids[1], red), ids[2]: sample(ids[2], None)}
    dataset = packed(tmp_path / "d", {**samples, f"{B}-t0-9": shown(0, 1, 0)})
    rows = finder.nearest_references(dataset, RED, Among(), 9).to_pylist()
    assert [(r["member"], r["n_samples"]) for r in rows] == [
        (f"{ids[0]}.ref_view_1.jpg", 2),
        (f"{ids[0]}.ref.jpg", 1),
    ]
    assert [r["similarity"] for r in rows] == pytest.approx([1, 0], abs=1e-4)


def test_near_duplicates_are_of_different_sources(dataset: Dataset) -> None:
    rows = finder.near_duplicates(dataset, 0.99, Among(), 9).to_pylist()
    pairs = [(f"{A}-t0-0", f"{B}-t0-1"), (f"{A}-t0-1", f"{B}-t0-1")]
    assert [(r["segment_id"], r["other_id"]) for r in rows] == pairs
    assert rows[0]["similarity"] > rows[1]["similarity"] > 0.99
    assert finder.near_duplicates(dataset, 0.99, Among(), 1).num_rows == 1
    assert finder.near_duplicates(dataset, 0.99, Among("listen"), 9).num_rows == 0


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 30), st.integers(1, 4), st.floats(-1, 1), st.integers(1, 12), st.integers(1, 7), st.integers(0, 99)
)
def test_pairs_are_those_of_a_comparison_one_by_one(
    n: int, n_groups: int, above: float, limit: int, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 3)).round(1).astype(np.float32)
    groups = rng.integers(0, n_groups, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "BLOCK", block)
        found = near_pairs(vectors, groups, above, limit)
    every = [
        (float(vectors[i] @ vectors[j]), i, j) for i in range(n) for j in range(i + 1, n) if groups[i] != groups[j]
    ]
    wanted = sorted((s for s, _, _ in every if s >= above + 1e-5), reverse=True)[:limit]
    assert [s for s, _, _ in found if s >= above + 1e-5] == pytest.approx(wanted, abs=1e-5)
    assert len({(i, j) for _, i, j in found}) == len(found) <= limit
    assert all(i < j and groups[i] != groups[j] and s >= above for s, i, j in found)


def test_vectors_of_two_models_are_never_compared(tmp_path: Path) -> None:
    mixed = packed(tmp_path / "d", {f"{A}-t0-0": shown(1, 0, 0), f"{B}-t0-0": shown(1, 0, 0, model="other")})
    assert _ids(finder.nearest(mixed, RED, Among(), 9)) == [f"{A}-t0-0"]
    with pytest.raises(SearchError, match=r"vectors of several models \(1 by colours, 1 by other\)"):
        finder.near_duplicates(mixed, 0.5, Among(), 9)


def test_a_dataset_without_vectors_says_what_to_do(tmp_path: Path) -> None:
    bare = packed(tmp_path / "d", {f"{A}-t0-0": {}})
    old = tmp_path / "old"
    shutil.copytree(tmp_path / "d", old)
    file = old / "manifest.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["vector", "vector_model", "reference_vectors"]), file)
    (tmp_path / "empty").mkdir()
    shutil.copyfile(old / "dataset.json", tmp_path / "empty" / "dataset.json")
    for dataset in (bare, Dataset(old), Dataset(tmp_path / "empty")):
        with pytest.raises(SearchError, match="has a vector: put the stage clip_vectors into its workflow"):
            finder.vector_model(dataset)
        assert finder.nearest(dataset, RED, Among(), 9).num_rows == 0


def test_a_copy_is_searched_like_the_original(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.store.uri, tmp_path / "copy")
    found = [finder.nearest(d, RED, Among(), 9).to_pylist() for d in (dataset, Dataset(tmp_path / "copy"))]
    assert found[0] == found[1] and found[0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 25), st.integers(1, 4), st.integers(1, 7), st.integers(0, 99))
def test_the_nearest_before_each_is_that_of_a_comparison_one_by_one(
    n: int, n_groups: int, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, groups = rng.standard_normal((n, 3)).astype(np.float32), rng.integers(0, n_groups, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "BLOCK", block)
        place, best = nearest_earlier(vectors, groups)
    for i in range(n):
        before = {j: float(vectors[i] @ vectors[j]) for j in range(i) if groups[j] != groups[i]}
        assert (place[i] == -1) == (not before)
        if before:
            assert (
                best[i]
                == pytest.approx(max(before.values()), abs=1e-5)
                == pytest.approx(before[int(place[i])], abs=1e-5)
            )
