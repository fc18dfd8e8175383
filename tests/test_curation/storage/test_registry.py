"""The registry of inputs only grows: what was added is there at once, and two writers take nothing from each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_rows import row

from curation import Dataset
from curation.engine.register import expand, register
from curation.storage import registry
from curation.storage.compaction import tidy
from curation.storage.seal import sealing
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.tables.registry import InputRow

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def files(folder: Path, *names: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name in (n for n in names if not (folder / n).exists()):
        (folder / name).write_text(f"of {name}")
    return [str(folder / name) for name in names]


def names(store: Store) -> list[str]:
    return sorted(InputRow.name.values(registry.read_registry(store)))


def test_what_is_added_is_a_part_until_it_is_gathered(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    store.write_json("dataset.json", {"format": 1})
    register(store, expand(files(tmp_path / "in", "a.mp4", "b.mp4")))
    tidy(store)
    table = store.read(table_file(t.INPUTS))
    whole = register(store, expand(files(tmp_path / "in", "c.mp4")))
    register(store, expand(files(tmp_path / "in", "a.mp4")))  # known: no part
    assert len(registry.parts(store)) == 1 and store.read(table_file(t.INPUTS)) == table
    dataset = Dataset(store.uri)
    assert dataset.table(t.INPUTS).equals(whole) and registry.read_registry(store).equals(whole)
    assert dataset.query("SELECT name FROM inputs ORDER BY 1").fetchall() == [("a.mp4",), ("b.mp4",), ("c.mp4",)]
    (tmp_path / "in" / "a.mp4").write_text("other bytes")
    register(store, expand([str(tmp_path / "in" / "a.mp4")]))
    assert len(registry.parts(store)) == 2 and len(names(store)) == 3
    assert dataset.query("SELECT count(DISTINCT source_id), count(*) FROM inputs").fetchall() == [(3, 3)]
    before = registry.read_registry(store)
    tidy(store)
    assert not registry.parts(store) and registry.read_registry(store).equals(before)
    assert store.read_table(table_file(t.INPUTS), t.INPUTS).equals(before)


def test_of_two_that_add_and_gather_at_once_nothing_is_lost(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has read the table when the other replaces it: it is refused by the store, and looks again."""
    one, other = Store(f"s3://{bucket}/both"), Store(f"s3://{bucket}/both")

    def added(store: Store, name: str) -> None:
        registry.add(store, t.INPUTS.from_rows([row(t.INPUTS, path=f"/{name}", name=name, source_id=name * 16)]))

    added(one, "a")
    registry.gather(one)
    added(one, "b")
    read, late = registry._read, [True]

    def slowly(store: Store, parts: list[str]) -> object:
        rows = read(store, parts)
        if store is one and late.pop():
            late.append(False)
            added(other, "c")
            registry.gather(other)
        return rows

    monkeypatch.setattr(registry, "_read", slowly)
    registry.gather(one)
    assert names(other) == ["a", "b", "c"] and not registry.parts(other)


def test_a_run_leaves_one_table_whatever_was_added_when(tmp_path: Path) -> None:
    both, apart = Store(str(tmp_path / "both")), Store(str(tmp_path / "apart"))
    named = files(tmp_path / "in", "a.mp4", "b.mp4")
    for store, groups in ((both, [named]), (apart, [named[1:], named[:1]])):
        store.write_json("dataset.json", {"format": 1})
        for group in groups:
            with sealing(store):
                register(store, expand(group))
                registry.gather(store)
    assert both.read(table_file(t.INPUTS)) == apart.read(table_file(t.INPUTS))
