"""Mend what verification found, from what is intact: nothing is measured here, and nothing that a person gave is lost.

A damaged table or clip goes with the commit that vouches for it, so the next run does that step again and gets the same
bytes. A damaged shard, sidecar or manifest goes, and packing writes it again from the clips. Of a damaged file that
small tables were gathered in, what is intact becomes small files again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from curation.dataset import FORMAT_VERSION, Dataset, DatasetError, check_format
from curation.decisions import progress
from curation.publish.errors import ReplayedError
from curation.storage.store import Store, StoreError, parquet_bytes, table_file
from curation.verify import Problem, certify
from curation.verify.files import unreadable
from curation.verify.finding import Mend
from schemas import tables as t

_PASSES = 5
"""What was hidden behind damage shows when that is gone: so often is looked again."""


@dataclass(slots=True)
class Repair:
    """What was done, and what is left."""

    withdrawn: list[str] = field(default_factory=list)
    """commits, whose steps the next run does again"""
    deleted: list[str] = field(default_factory=list)
    packing: bool = False
    """shards, manifest or ledger are to be written again"""
    left: list[Problem] = field(default_factory=list)
    """what a person has to see to"""


def ours(store: Store) -> bool:
    """Tell whether dataset.json is there and whole. Raises DatasetError for another format: not ours to mend."""
    try:
        info = store.read_json("dataset.json")
    except StoreError:
        return False
    if not isinstance(info, dict) or not isinstance(info.get("format"), int):
        return False
    check_format(store.uri, info)
    return True


class _Unread(Dataset):
    """A dataset that says neither its format nor its workflow; tables of its own stages are unknown."""

    def __init__(self, path: str) -> None:
        self.store, self.info = Store(path), None


def opened(path: str) -> Dataset:
    """Open a dataset to certify or to mend it; that its dataset.json or workflow.json is damaged is then a finding.

    Raises:
        DatasetError: there is no dataset, or one of another format.
    """
    try:
        return Dataset(path)
    except (DatasetError, StoreError):
        store = Store(path)
        whole = ours(store) or not store.exists("dataset.json")  # `ours` raises where it is of another format
        if (whole and "workflow.json" not in unreadable(store)) or not store.directories("commits"):
            raise
    except (AttributeError, KeyError, TypeError, ValueError):  # of the tables that workflow.json declares, one is none
        pass
    return _Unread(path)


def check_not_replayed(store: Store) -> None:
    """Raise ReplayedError for what a recipe was followed into: nothing in it says what its samples must be.

    It is told by what it holds: a manifest, and nothing that was measured. Of a damaged dataset more is left.
    """
    if store.exists("workflow.json") or store.directories("commits") or store.directories("tables"):
        return
    if store.exists("dataset.json") and store.exists(table_file(t.MANIFEST)):
        raise ReplayedError(
            f"{store.uri} was made by `lpm recipe replay`: it holds shards and their manifest, and no measurement or "
            "commit to certify them by. The recipe does that: `lpm recipe replay RECIPE SOURCES --out ANOTHER` makes "
            "the shards again and compares each with its SHA-256, which recipe.json has under `shards`; `sha256sum` "
            "tells those of the shards that are here"
        )


def packable(store: Store) -> bool:
    """Tell whether the workflow is known, by which a mended dataset is packed again."""
    return "workflow.json" not in unreadable(store)


def marked(store: Store) -> bool:
    """Write dataset.json again where it is gone or damaged and the rest says that this is a dataset."""
    if ours(store) or not store.exists("workflow.json") or not store.directories("commits"):
        return False
    store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    return True


def repair(dataset: Dataset, say: Callable[[str], None] = lambda _: None) -> Repair:
    """Mend a dataset that the caller holds the lock of; `say` is told each thing that is done."""
    done = Repair()
    progress.forget(dataset.store)
    for _ in range(_PASSES):
        found = certify(dataset, media=False)
        done.left = [p for p in found.problems if not p.mends]
        mends = list(dict.fromkeys(m for p in found.problems for m in p.mends))
        if not any([_mend(dataset.store, m, done, say) for m in _ordered(mends)]):
            break
    return done


def _ordered(mends: Iterable[Mend]) -> list[Mend]:
    """Put files that hold many tables first: what is intact in them counts afterwards."""
    return sorted(mends, key=lambda m: "/compact/" not in m.file)


def _mend(store: Store, mend: Mend, done: Repair, say: Callable[[str], None]) -> bool:
    """Do one thing; say whether anything changed."""
    name = mend.file
    if mend.how in ("pack", "decide"):
        done.packing = True
    if "/compact/" in name:
        saved = _taken_out(store, name)
        store.delete_file(name)
        say(f"{name} is deleted; {saved} intact tables that were in it are files again")
    elif not store.exists(name):
        return False
    elif mend.how == "withdraw":
        store.delete_file(name)
        done.withdrawn.append(name)
        say(f"{name} is withdrawn: its step is to be done again")
        return True
    else:
        store.delete(name)
        say(f"{name} is deleted{': packing writes it again' if mend.how == 'pack' else ''}")
    done.deleted.append(name)
    return True


def _taken_out(store: Store, file: str) -> int:
    """Write the intact tables of a gathered file as files of their own; return how many."""
    table = t.TABLES.get(file.split("/")[1])
    if table is None:
        return 0
    saved = 0
    try:
        parts = store.compacted.parts(file)
    except Exception:  # nothing in it can be told from anything else
        return 0
    for part in parts:
        try:
            data = parquet_bytes(store.compacted.read(part, table.schema))
        except Exception:  # this one is damaged: its step is done again
            continue
        if hashlib.sha256(data).hexdigest() == part.sha256 and part.name.startswith(f"tables/{table.name}/bucket="):
            live = store.compacted.find(part.name)
            if live is not None and live.file == file and part.name not in store.top(part.name.rpartition("/")[0]):
                store.write(part.name, data)
                saved += 1
    return saved
