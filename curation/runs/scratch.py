"""Folders for what processes leave behind, which go with the last process that holds them, however it ends.

A process that is killed removes nothing; so each folder has a file that its holders lock, and who makes a folder
removes those beside it that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "openlpm-"
_HELD = "held"


class Scratch:
    """A temporary folder; `kind` is part of its name, for people.

    Attributes:
        path: where it is.
        fd: of the locked file; a process that inherits it holds the folder, too.
    """

    def __init__(self, kind: str) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
        begun = self.path / f"{_HELD}.new"
        self.fd = os.open(begun, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        begun.rename(self.path / _HELD)  # under its name it is locked from the first

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.fd)


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Yield a temporary folder that is removed afterwards."""
    made = Scratch(kind)
    try:
        yield made.path
    finally:
        made.remove()


def sweep() -> list[Path]:
    """Remove the folders whose holders are gone, and return them; those of other users stay."""
    gone = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            held = os.open(folder / _HELD, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it is held
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder)
            finally:
                os.close(held)
    return gone
