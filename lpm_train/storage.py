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
from typing import IO

import pyarrow.fs as pafs

from schemas.places import inside, open_place, replacing

_MAX_OPEN = 256  # below common limits on descriptors


class DataError(RuntimeError):
    """The training data cannot be used as asked; says what to do."""


class Storage:
    """Read ranges of, and write whole, files under a root. Safe for use from several threads."""

    def __init__(self, uri: str | Path) -> None:
        """Open the root. Raises StoreError, as every method does for a name that leaves it."""
        self.uri = str(uri).rstrip("/")
        self._fs, self._root = open_place(self.uri)
        self.local = isinstance(self._fs, pafs.LocalFileSystem)
        self._file = lru_cache(_MAX_OPEN)(self._fs.open_input_file)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or `size` bytes from `offset`.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: the file ends before the range does.
        """
        file = self._file(inside(self._root, name))
        data = bytes(file.read_at(file.size() - offset if size is None else size, offset))  # type: ignore[call-arg]
        if size is not None and len(data) != size:
            raise DataError(
                f"{name} ends inside bytes [{offset}, {offset + size}): it is not the file its index was made of; "
                "restore it, or pack the dataset again"
            )
        return data

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the sizes of files in bytes, -1 for one that does not exist."""
        names = list(names)
        infos = self._fs.get_file_info([inside(self._root, n) for n in names])
        return {n: int(i.size) if i.type == pafs.FileType.File else -1 for n, i in zip(names, infos, strict=True)}

    def write(self, name: str, data: bytes | IO[bytes]) -> None:
        """Write a file from bytes or from an open file's start; it appears under its name whole or not at all."""
        path, source = inside(self._root, name), io.BytesIO(data) if isinstance(data, bytes) else data
        source.seek(0)
        # An object appears whole by itself.
        with replacing(Path(path)) if self.local else self._fs.open_output_stream(path) as f:
            shutil.copyfileobj(source, f, 1 << 22)
        self._file.cache_clear()  # an open file would still show what was replaced
