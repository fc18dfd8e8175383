"""Byte ranges of files under one root: a directory, s3:// (and what else Arrow opens), or any fsspec URL.

A trainer reads a few members of each sample out of large tars, so the one operation is "these bytes of that file",
callable from many threads at once: Arrow's `read_at` on files kept open. Locally that is a `pread`: no seek, no lock;
object stores answer one range request a call.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow.fs as pafs

from schemas.files.places import inside, open_place, replacing

_MAX_OPEN = 256  # below common limits on descriptors


class DataError(RuntimeError):
    """The training data cannot be used as asked; says what to do."""


class Storage:
    """Read ranges of, and write whole, files under a root. Safe for use from several threads."""

    def __init__(self, uri: str | Path) -> None:
        """Open the root. Raises StoreError, as every method does for a name that leaves it."""
        self.uri = str(uri).rstrip("/")
        self.filesystem, self._root = open_place(self.uri)
        self.local = isinstance(self.filesystem, pafs.LocalFileSystem)
        self._file = lru_cache(_MAX_OPEN)(self.filesystem.open_input_file)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or `size` bytes from `offset`.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: the file ends before the range does.
        """
        file = self._file(self.path(name))
        data = bytes(file.read_at(file.size() - offset if size is None else size, offset))  # type: ignore[call-arg]
        if size is not None and len(data) != size:
            raise DataError(
                f"{name} ends inside bytes [{offset}, {offset + size}): it is not the file its index was made of; "
                "restore it, or pack the dataset again"
            )
        return data

    def open(self, name: str) -> Any:
        """Open a file to be read from any place, as Arrow's readers do. Raises FileNotFoundError."""
        return self.filesystem.open_input_file(self.path(name))

    def path(self, name: str) -> str:
        """Return what `filesystem` calls a file."""
        return inside(self._root, name)

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the sizes of files in bytes, -1 for one that does not exist."""
        names = list(names)
        infos = self.filesystem.get_file_info([self.path(n) for n in names])
        return {n: int(i.size) if i.type == pafs.FileType.File else -1 for n, i in zip(names, infos, strict=True)}

    def write(self, name: str, data: bytes | IO[bytes]) -> None:
        """Write a file from bytes or from an open file's start; it appears under its name whole or not at all."""
        path, source = self.path(name), io.BytesIO(data) if isinstance(data, bytes) else data
        source.seek(0)
        # An object appears whole by itself.
        with replacing(Path(path)) if self.local else self.filesystem.open_output_stream(path) as f:
            shutil.copyfileobj(source, f, 1 << 22)
        self._file.cache_clear()  # an open file would still show what was replaced
