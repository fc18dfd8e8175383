"""head.json: the one pointer to a dataset's state. It has a version, and is moved as a whole, or not at all.

The tables that a dataset has once (manifest, decisions, people, ...) are written in place, one after the other, while
a command works. Each of them is also kept under a name that says its content, `state/<sha256>.parquet` (on a disk a
second link to the same file), and the head says which of those belong together. A command that ends adds the new ones
and then moves the head: readers see all tables of one version, or all of the next; never some of each, and nothing of a
command that is under way, failed or was killed. On object storage the head is replaced only where it is as this command
wrote it when it began, so whoever was overtaken moves nothing. The tables of the version before are kept, for who still
reads them.

The registry of inputs is not among them: it only grows, and what is under way is told by it. A dataset without a head
is read as it lies. Costs two small writes a command, and a copy within the store for each such table that changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypedDict, cast

from curation.storage.checked import fault, json_bytes, with_hash
from curation.storage.store import FATAL, Store, StoreError, table_file
from curation.storage.writers import written
from schemas.files.places import link
from schemas.tables import FORGOTTEN, INPUTS, TABLES

FILE = "head.json"
FOLDER = "state"
LIVE = {f"tables/{table.name}/dataset.parquet" for table in (INPUTS, FORGOTTEN)}
"""Tables that are read as they lie."""
_TRIES = 5


class Counted(TypedDict):
    """A balance of the ledger."""

    unit: str
    total: int
    total_s: float
    counts: dict[str, int]
    seconds: dict[str, float]


class Ended(TypedDict):
    """What the last run came to, where it left nothing to do and nobody has written anything since."""

    key: str
    """of the workflow with its models, the policy and the inputs"""
    balances: list[Counted]


class Head(TypedDict):
    """What the file holds."""

    version: int
    """how often it was moved"""
    token: int
    """of the command that wrote it; grows"""
    open: bool
    """a command is at work, or was killed"""
    tables: dict[str, str]
    """SHA-256 of each table as of this version, by its own name"""
    ended: Ended | None


def empty() -> Head:
    """Return the head of a dataset that has none."""
    return Head(version=0, token=0, open=False, tables={}, ended=None)


def read_head(store: Store) -> Head | None:
    """Return the head; None where there is none, or a damaged one."""
    try:
        return _parsed(store.read(FILE))
    except FileNotFoundError:
        return None


def kept(digest: str) -> str:
    """Return the name under which a table of that content is kept."""
    return f"{FOLDER}/{digest}.parquet"


def held(store: Store) -> dict[str, str] | None:
    """Return the files of the tables as of the head, by the tables' own names; None = they are to be read as they lie.

    Whoever writes the dataset reads what it writes.
    """
    if written.listening(store.root) or (head := read_head(store)) is None or not head["tables"]:
        return None
    if not store.local:
        return {name: kept(digest) for name, digest in head["tables"].items()}
    files = {name: kept(digest) for name, digest in head["tables"].items()}
    if head["open"]:
        return {name: file if store.exists(file) else name for name, file in files.items()}
    # Where a copy of the folder or an edit by hand has parted the two, what lies there is what is meant.
    whole = {table_file(table) for table in TABLES.values() if table.grain == "dataset"}
    there = [name for name in sorted(files.keys() | whole) if store.exists(name)]
    return {name: files[name] if name in files and _linked(store, name, files[name]) else name for name in there}


class Moving:
    """The head while a command holds the dataset: `begin`, and `end` with the tables that there are then."""

    def __init__(self, store: Store) -> None:
        self._store, self._tag, self._mine = store, "", empty()
        self.ended: Ended | None = None
        """to be said by the head that follows"""
        self.before: Ended | None = None
        """what the last command left, where it came to its end"""

    def begin(self) -> None:
        """Read the head, and say that a command is at work. Raises StoreError."""
        for _ in range(_TRIES):
            head = self._read()
            self.before = None if head["open"] else head["ended"]
            self._mine = {**head, "open": True, "token": head["token"] + 1, "ended": None}
            if self._written():
                return
        raise StoreError(f"{FILE} of {self._store.uri} is written by somebody else; run the same command again")

    def forget(self) -> None:
        """Keep nothing of any version: readers see the tables as they lie, until the end."""
        self._mine["tables"] = {}
        self._move()
        for name in self._store.top(FOLDER):
            self._store.delete_file(name)

    def end(self, files: Mapping[str, str], *, failed: bool) -> None:
        """Move the head to the tables among some files with their hashes; where the command failed, only a first one.

        Raises StoreError where that is not allowed.
        """
        former = self._mine["tables"]
        now = {n: digest for n, digest in files.items() if _is_kept(n)}
        if failed and former and now != former:
            return
        for name, digest in list(now.items()):
            try:
                _keep(self._store, name, kept(digest), there=former.get(name) == digest)
            except StoreError:
                if self._store.exists(name):
                    raise
                if not self._store.exists(kept(digest)):  # somebody deleted it: the seal tells, not this command's end
                    del now[name]
        moved = self._mine["version"] + (now != former)
        self._mine |= {"version": moved, "tables": now, "open": False, "ended": self.ended}
        self._move()
        if now != former:
            known = {kept(digest) for digest in (*former.values(), *now.values())}
            for name in self._store.top(FOLDER):
                if name not in known:
                    self._store.delete_file(name)

    def _read(self) -> Head:
        if self._store.local:
            return read_head(self._store) or empty()
        found = self._store.conditional().read(FILE)
        self._tag = "" if found is None else found[1]
        return (None if found is None else _parsed(found[0])) or empty()

    def _move(self) -> None:
        overtaken = self._store.local and (read_head(self._store) or self._mine)["token"] > self._mine["token"]
        if overtaken or not self._written():
            written.forbid(self._store.root, f"another command has moved {FILE} meanwhile")
            self._store.check()

    def _written(self) -> bool:
        """Write the head where it is as it was read; say whether it was."""
        data = json_bytes(with_hash(dict(self._mine)))
        self._store.check()
        if self._store.local:
            self._store.write(FILE, data)
            return True
        tag = self._store.conditional().write(FILE, data, self._tag)
        self._tag = tag or ""
        return tag is not None


def _linked(store: Store, name: str, other: str) -> bool:
    """Say whether two names are of one file of a local store."""
    try:
        return store.local_path(name).samefile(store.local_path(other))
    except FileNotFoundError:
        return False


def _keep(store: Store, name: str, to: str, *, there: bool) -> None:
    """Keep a table's content under another name too, however often its own is replaced; `there`: that was done.

    On a disk it is a second link to the file, where the file system has them; in an object store a copy within it.
    """
    store.check()
    try:
        if not store.local and not there:
            if store.uri.startswith("s3://"):
                store.conditional().copy(name, to)
            else:
                store.filesystem().copy_file(store.path(name), store.path(to))
        elif store.local and not _linked(store, name, to):
            link(store.local_path(name), store.local_path(to))
    except OSError as e:
        raise StoreError(f"cannot write {store.path(to)}: {FATAL.get(e.errno or 0, str(e))}") from e


def _is_kept(name: str) -> bool:
    return name == "manifest.parquet" or (name.endswith("/dataset.parquet") and name not in LIVE)


def _parsed(data: bytes) -> Head | None:
    if fault(data) is not None:
        return None
    found = json.loads(data)
    known = empty().keys()
    return cast(Head, {key: found[key] for key in known}) if found.keys() >= known else None
