"""seal.json: the hashes of the files that no commit and no shard index vouches for, written by who holds the dataset.

It is marked as open while a command writes the dataset, so that a killed command is told from damage: the next one
takes what it finds for what was written. Costs no read of what is sealed, but where a command was killed, or an earlier
version of the program wrote the dataset: then those files are read once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypedDict

from curation.storage import digests
from curation.storage.checked import KEY, fault, with_hash
from curation.storage.head import Moving
from curation.storage.store import Store, StoreError
from curation.storage.writers import written

_heads: dict[str, Moving] = {}
"""of the datasets that this process writes, by root"""

FILE = "seal.json"


class Seal(TypedDict):
    """What the file holds."""

    open: bool
    files: dict[str, str]


def read_seal(store: Store) -> Seal | None:
    """Return the seal; None where there is none, or a damaged one."""
    try:
        data: Any = store.read_json(FILE)
    except StoreError:
        return None
    return (
        data if data is not None and fault(store.read(FILE)) is None and isinstance(data.get("files"), dict) else None
    )


@contextlib.contextmanager
def sealing(store: Store) -> Iterator[Moving | None]:
    """Write the seal when the block ends, however it ends, and move the head; None inside another such block."""
    if not written.begin(store.root):
        yield None
        return
    head = _heads[store.root] = Moving(store)
    try:
        before = read_seal(store)
        whole = before is not None and not before["open"]
        there = before is not None or _is_dataset(store)
        files = before["files"] if before is not None and whole else _found(store) if there else {}
        if there:
            head.begin()
            _write(store, files, still_open=True)
        failed = True
        try:
            yield head
            failed = False
        finally:
            if there or _is_dataset(store):
                head.end(_write(store, files, still_open=False), failed=failed)
    finally:
        _heads.pop(store.root, None)
        written.end(store.root)


def settle(store: Store) -> None:
    """Bring the open seal up to date, inside the block: it then names no file that was deleted; nor does the head."""
    seal = read_seal(store)
    if seal is not None:
        _write(store, seal["files"], still_open=True)
    if store.root in _heads:
        _heads[store.root].forget()


def sealed_files(store: Store) -> Iterator[str]:
    """Yield the names of all files that a seal is about, by a look at folders that do not grow with the sources."""
    yield from (n for n in store.top() if written.sealed(n))
    yield from (n for n in store.names("code") if written.sealed(n))
    yield from (n for n in ("shards/index.json",) if store.exists(n))
    for folder in store.directories("tables"):
        yield from (n for n in store.top(folder) if written.sealed(n))
        given = written.sealed(f"{folder}/bucket=00/x.parquet")
        for bucket in store.directories(folder):
            names = store.names(bucket) if given else store.compacted.files(bucket)
            yield from (n for n in names if written.sealed(n))


def _is_dataset(store: Store) -> bool:
    return store.exists("dataset.json")


def _found(store: Store) -> dict[str, str]:
    return {name: digests.file_digest(store, name) for name in sealed_files(store)}


def _write(store: Store, files: dict[str, str], *, still_open: bool) -> dict[str, str]:
    now = {**files, **written.so_far(store.root)}
    known = {name: digest for name, digest in now.items() if digest is not None}
    value = with_hash({"open": still_open, "files": known})
    store.write_json(FILE, value)
    return known


__all__ = ["FILE", "KEY", "Seal", "read_seal", "sealed_files", "sealing", "settle"]
