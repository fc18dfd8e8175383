"""What a process has just read and written of small files, so that it asks the store for each only once.

A step asks for the same commits and tables as the one before it; on an object store every question is one to three
requests. Inside a `Store.recalling` block nobody else may write what is asked for, and files keep their exact bytes.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

SMALL_BYTES = 256 * 1024
"""Larger files are read again each time."""

_MOST_BYTES = 64 * 2**20
"""Held at once; what is beyond it is read again."""


class Recalled:
    """Bytes of small files, names that are absent, and listings of compact files, by relative name."""

    def __init__(self, listing: bool) -> None:
        self.listing = listing
        """Ask which files exist a folder at a time: for who goes through many of one folder."""
        self.files: dict[str, set[str]] = {}
        """folder -> the names of its files, where they were listed"""
        self._bytes: dict[str, bytes | None] = {}
        self._held = 0
        self.folders: dict[str, list[str]] = {}
        """bucket's folder -> its compact files"""
        self.ahead: dict[tuple[str, tuple[str, ...]], dict[Any, pa.Table]] = {}
        """folder of compact files and columns -> the parts that were read last, and a few that follow them"""

    def __contains__(self, name: str) -> bool:
        return name in self._bytes

    def get(self, name: str) -> bytes | None:
        """Return a file's bytes, None where there is no such file. Raises KeyError for a name that is not known."""
        return self._bytes[name]

    def put(self, name: str, data: bytes | None) -> None:
        """Take down a file's content, None where there is none."""
        self.drop(name)
        if data is not None and (folder := name.rpartition("/")[0]) in self.files:
            self.files[folder].add(name)
        if data is not None and len(data) > SMALL_BYTES:
            return
        if self._held > _MOST_BYTES:
            self._bytes.clear()
            self._held = 0
        self._bytes[name] = data
        self._held += len(data or b"")

    def drop(self, name: str) -> None:
        """Know nothing of a file any more."""
        self._held -= len(self._bytes.pop(name, None) or b"")
        self.files.get(name.rpartition("/")[0], set()).discard(name)
