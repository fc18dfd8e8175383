"""What this process writes of a dataset while it holds it: the hash of every file that nothing else vouches for.

A commit holds the hashes of its tables and clips, the shards' index those of shards and sidecars. What is left is of
the dataset as a whole, what people gave, and files into which small ones were gathered; `curation.storage.seal` keeps
their hashes, as they were while the bytes went by.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import IO

from schemas.tables import AUDITS, IDENTITY_DECISIONS, LABEL_TABLES

_TOP = ("dataset.json", "workflow.json", "data-contract.md", "manifest.parquet", "shards/index.json")
"""Of all else, logs and what can be made again from the rest carry no promise; the rest has its hash elsewhere."""

_GIVEN = {table.name for table in (*LABEL_TABLES, AUDITS, IDENTITY_DECISIONS)}
"""Tables of sources that people write, so no commit vouches for them."""

_written: dict[str, dict[str, str | None]] = {}
_forbidden: dict[str, str] = {}
_guards: dict[str, Callable[[], None]] = {}


def sealed(name: str) -> bool:
    """Say whether the seal holds the hash of a file of that relative name."""
    if name in _TOP:
        return True
    head, _, rest = name.partition("/")
    if name.endswith(".gone"):
        return False
    if head == "tables":
        return "/bucket=" not in name or "/compact/" in name or rest.split("/")[0] in _GIVEN
    return head == "code"


def begin(root: str) -> bool:
    """Listen to what is written under a root from now on; False where somebody listens already."""
    if root in _written:
        return False
    _written[root] = {}
    return True


def forbid(root: str, why: str) -> None:
    """Let nothing be written under a root any more."""
    _forbidden[root] = why


def guard(root: str, look: Callable[[], None]) -> None:
    """Before every write under a root, look whether this process still holds it, and `forbid` where it does not."""
    _guards[root] = look


def allow(root: str) -> None:
    """Let it be written again, by whoever holds it."""
    _forbidden.pop(root, None)
    _guards.pop(root, None)


def look(root: str) -> str | None:
    """Say why nothing may be written under a root, as its guard finds it now; None where it may."""
    if root in _guards and root not in _forbidden:
        _guards[root]()
    return _forbidden.get(root)


def forbidden(root: str) -> str | None:
    """Say why nothing may be written under a root, as far as is known; None where it may."""
    return _forbidden.get(root)


def listening(root: str) -> bool:
    """Say whether this process writes the dataset."""
    return root in _written


def so_far(root: str) -> dict[str, str | None]:
    """Return the hashes of what was written so far; None stands for a file that was deleted."""
    return dict(_written.get(root, {}))


def end(root: str) -> None:
    """Listen no longer."""
    _written.pop(root, None)


def note(root: str, name: str, digest: str | None) -> None:
    """Take down that a file was written, or deleted."""
    heard = _written.get(root)
    if heard is not None and sealed(name):
        heard[name] = digest


class Hashing(io.RawIOBase):
    """A stream that hashes what goes through it."""

    def __init__(self, to: IO[bytes]) -> None:
        self._to, self._digest, self._at = to, hashlib.sha256(), 0

    def writable(self) -> bool:
        """It can be written."""
        return True

    def write(self, data: object, /) -> int:
        """Write and hash."""
        view = memoryview(data)  # type: ignore[arg-type]
        self._to.write(view)
        self._digest.update(view)
        self._at += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._at

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was written so far."""
        return self._digest.hexdigest()
