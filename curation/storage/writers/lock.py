"""Who writes a dataset on a disk: a lock on its file `.lock`, which goes with the process that holds it.

A lock lasts as long as its process, stopped or not. Where somebody deletes the file, another command may take a new
one; so whoever holds the lock looks before each write whether the file is still the one that it locked.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO, TypedDict

from curation.storage.store import Store, StoreError
from curation.storage.writers import written

FILE = ".lock"


class LockedError(StoreError):
    """Another command is writing the dataset."""


@contextlib.contextmanager
def lock(store: Store, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a dataset in a directory.

    Raises:
        LockedError: somebody else holds it, and we do not `wait`.
        StoreError: the directory cannot be written.
    """
    path = store.local_path(FILE)
    handle = _locked(store, path, wait=wait)
    while not _same(handle, path):  # who held it was done with a file that is no more
        handle.close()
        handle = _locked(store, path, wait=wait)

    def still_mine() -> None:
        if not _same(handle, path):
            written.forbid(store.root, f"{FILE} was deleted or replaced, so another command may write it")

    with handle:
        written.guard(store.root, still_mine)
        try:
            yield
        finally:
            written.allow(store.root)


def _locked(store: Store, path: Path, *, wait: bool) -> TextIO:
    import fcntl  # not on every system

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
    except OSError as e:
        raise StoreError(f"cannot write to {store.uri}: {e.strerror}; choose a writable --out") from e
    for left in range(_ASKS, -1, -1):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            break
        except OSError as e:
            if not left:
                handle.close()
                raise LockedError(f"another run is writing {store.uri}; wait for it or choose another dataset") from e
            time.sleep(_ASK_S)  # it may be held by one who only asks whether it is held
    with contextlib.suppress(OSError):  # a full disk keeps nobody from asking
        os.truncate(handle.fileno(), 0)
        os.write(handle.fileno(), json.dumps(me()).encode())
    return handle


_ASKS, _ASK_S = 5, 0.02


def lock_holder(store: Store) -> str | None:
    """Return who holds the lock of a dataset in a directory; None where nobody does.

    Asks by taking it beside others who ask, for a moment, which who wants it alone waits for.
    """
    import fcntl

    try:
        with store.local_path(FILE).open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                try:
                    return who(json.loads(handle.read()))
                except ValueError:
                    return "another process"
    except OSError:
        pass
    return None


class Me(TypedDict):
    """What a process says of itself to others who want to write."""

    host: str
    pid: int
    since: str


def me() -> Me:
    """Return what is said of this process."""
    return {"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def who(facts: Mapping[str, object]) -> str:
    """Return what `me` said, in words."""
    return f"process {facts.get('pid')} on {facts.get('host')}, since {facts.get('since')}"


def _same(handle: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
