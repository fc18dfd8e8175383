"""One pointer to a dataset's state: readers see all of its tables as of one version, whatever a command is doing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from table_rows import row

from curation import Dataset
from curation.engine.run import locked
from curation.storage.head import FILE, FOLDER, kept, read_head
from curation.storage.seal import sealing, settle
from curation.storage.store import Store, StoreError, table_file
from curation.storage.writers import written
from schemas import tables as t

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(params=["disk", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out") if request.param == "disk" else f"s3://{request.getfixturevalue('bucket')}/out")


def write(store: Store, version: int) -> None:
    """Write two tables that belong together."""
    store.write_json("dataset.json", {"format": 1})
    write_errors(store, version)
    decided = t.DECISIONS.from_rows([row(t.DECISIONS, unit_id=f"{version}")])
    store.write_table(table_file(t.DECISIONS), t.DECISIONS, decided)


def write_errors(store: Store, version: int) -> None:
    """Write the first of them."""
    store.write_table(table_file(t.ERRORS), t.ERRORS, t.ERRORS.from_rows([row(t.ERRORS, unit_id=f"{version}")]))


def seen(uri: str) -> tuple[str, str]:
    """Return what a process that does not write sees."""
    root, heard = Store(uri).root, dict(written._written)
    written._written.pop(root, None)
    try:
        dataset = Dataset(uri)
        ((unit, decided),) = dataset.query("SELECT e.unit_id, d.unit_id FROM errors e, decisions d").fetchall()
        assert dataset.table(t.ERRORS)["unit_id"].to_pylist() == [unit]
        return unit, decided
    finally:
        written._written.update(heard)


def test_readers_see_one_version_until_the_next_is_whole(store: Store) -> None:
    with locked(store):
        write(store, 1)
    assert seen(store.uri) == ("1", "1")
    with locked(store):
        write_errors(store, 2)
        assert seen(store.uri) == ("1", "1")
        write(store, 2)
        assert seen(store.uri) == ("1", "1")
    head = read_head(store)
    assert seen(store.uri) == ("2", "2") and head is not None and (head["version"], head["open"]) == (2, False)
    assert len(store.top(FOLDER)) == 4  # of two versions
    with locked(store):
        write(store, 3)
    assert len(store.top(FOLDER)) == 4 and seen(store.uri) == ("3", "3")


def test_what_failed_or_was_killed_half_way_is_not_seen(store: Store) -> None:
    with locked(store):
        write(store, 1)
    with pytest.raises(ZeroDivisionError), locked(store):
        write_errors(store, 2)
        raise ZeroDivisionError
    assert seen(store.uri) == ("1", "1")
    with locked(store):
        write(store, 2)
    assert seen(store.uri) == ("2", "2")


def test_a_dataset_without_a_head_is_read_as_it_lies(store: Store) -> None:
    write(store, 1)
    assert read_head(store) is None and seen(store.uri) == ("1", "1")
    with locked(store):
        write(store, 2)
    assert seen(store.uri) == ("2", "2") and read_head(store) is not None


def test_only_who_wrote_the_head_moves_it(store: Store) -> None:
    """One that holds the dataset no longer, and does not know, comes to its end."""
    with locked(store):
        write(store, 1)
    with pytest.raises(StoreError, match=r"is written no more: another command has moved head\.json"), sealing(store):
        heard, me = written._written.pop(store.root), store.root
        with sealing(store):
            write(store, 2)
        written._written[me] = heard
        before = store.read(FILE)
    assert store.read(FILE) == before and seen(store.uri) == ("2", "2")
    written.allow(store.root)


def test_a_copy_of_the_folder_and_an_edit_by_hand_are_seen(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    with locked(store):
        write(store, 1)
    held = json.loads(store.read(FILE))["tables"][table_file(t.ERRORS)]
    assert store.local_path(table_file(t.ERRORS)).samefile(store.local_path(kept(held)))  # a link, which takes no room
    copy = shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert seen(str(copy)) == ("1", "1")
    write(Store(str(copy)), 5)
    assert seen(str(copy)) == ("5", "5")


def test_a_table_that_somebody_deleted_does_not_stop_the_command_that_goes_on(store: Store) -> None:
    with locked(store):
        write(store, 1)
    gone = table_file(t.DECISIONS)
    for forgets in (False, True):
        store.delete(gone)
        with sealing(store):
            if forgets:
                settle(store)
        head = read_head(store)
        assert head is not None and not head["open"]
        # What was kept under another name is there still, until that is forgotten too.
        assert (gone in head["tables"]) is (not forgets) and table_file(t.ERRORS) in head["tables"]
