"""What is too large to be read whole is certified part by part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_toy import made

from curation import Dataset
from curation.verify import certify
from curation.verify.part import Part


@given(
    st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1), st.floats(0.01, 1.0), st.floats(0.01, 1.0),
    st.integers(0, 3),
)  # fmt: skip
def test_a_larger_share_holds_a_smaller_one_and_both_hold_something(
    names: set[str], a: float, b: float, seed: int
) -> None:
    small, large = sorted((a, b))
    some, more = (Part(share, seed).of("x", sorted(names)) for share in (small, large))
    assert 1 <= len(some) <= len(more) and set(some) <= set(more) <= names
    assert Part(1.0, seed).of("x", sorted(names)) == sorted(names)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("part")
    return made(root / "in", root / "out")


def test_a_part_of_a_whole_dataset_is_whole_and_has_no_root(whole: Path) -> None:
    part = Part(0.1)
    found = certify(Dataset(str(whole)), media=False, part=part)
    assert found.problems == [] and found.root is None
    assert set(part.looked) == {"groups of sources", "slices of tables", "shards"}
    assert part.looked["groups of sources"][0] < part.looked["groups of sources"][1]


@pytest.mark.parametrize("seed", range(4))
def test_a_part_counts_shards_and_takes_each_with_its_sidecar(whole: Path, tmp_path: Path, seed: int) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    for file in out.glob("shards/*.*"):
        if file.suffix in (".tar", ".parquet"):
            file.write_bytes(file.read_bytes() + b"x")
    part = Part(0.5, seed)
    said = "\n".join(p.what for p in certify(Dataset(str(out)), media=False, part=part).problems)
    shards = sorted(f.name for f in out.glob("shards/*.tar"))
    drawn = [name for name in shards if f"shards/{name} changed" in said]
    assert part.looked["shards"] == (len(drawn), len(shards)) == (1, 2)
    assert [n for n in shards if f"shards/{n[:-4]}.parquet changed" in said] == drawn


def test_damage_is_found_by_the_parts_that_hold_it_and_by_no_other(whole: Path) -> None:
    (table, *_) = sorted(whole.glob("tables/*/bucket=*/*.parquet"))
    kept = table.read_bytes()
    table.write_bytes(kept[:-1] + b"x")
    try:
        said = {}
        for seed in range(20):
            part = Part(0.3, seed)
            problems = certify(Dataset(str(whole)), media=False, packed=False, part=part).problems
            said[seed] = [p.what for p in problems if table.name in p.what]
        assert 0 < sum(map(bool, said.values())) < 20
        everything = certify(Dataset(str(whole)), media=False, packed=False, part=Part(1.0)).problems
        assert any(table.name in p.what for p in everything)
    finally:
        table.write_bytes(kept)
