"""Byte ranges of files under one root: a directory, s3:// (and what else Arrow opens), or any fsspec URL.

A trainer reads a few members of each sample out of large tars, so the one operation is "these bytes of that file",
callable from many threads at once: Arrow's `read_at` on files kept open. Locally that is a `pread`: no seek, no lock;
object stores answer one range request a call.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import IO

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

_MAX_OPEN = 256  # below common limits on descriptors


class DataError(RuntimeError):
    """The training data cannot be used as asked; says what to do."""


class Storage:
    """Read ranges of, and write whole, files under a root. Safe for use from several threads."""

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri).rstrip("/")
        self._fs, self._root = _open(self.uri)
        self.local = isinstance(self._fs, pafs.LocalFileSystem)
        self._file = lru_cache(_MAX_OPEN)(self._fs.open_input_file)

    def _path(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise DataError(f"unsafe path inside the dataset: {name!r}")
        return f"{self._root}/{name}"

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or `size` bytes from `offset`.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: the file ends before the range does.
        """
        file = self._file(self._path(name))
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
        infos = self._fs.get_file_info([self._path(n) for n in names])
        return {n: int(i.size) if i.type == pafs.FileType.File else -1 for n, i in zip(names, infos, strict=True)}

    def write(self, name: str, data: bytes | IO[bytes]) -> None:
        """Write a file from bytes or from an open file's start; it appears under its name whole or not at all."""
        path = self._path(name)
        folder, _, last = path.rpartition("/")
        part = f"{folder}/.tmp-{os.getpid()}-{last}" if self.local else path  # an object appears whole by itself
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        source.seek(0)
        if self.local:
            self._fs.create_dir(folder, recursive=True)
        with self._fs.open_output_stream(part) as f:
            shutil.copyfileobj(source, f, 1 << 22)
        if self.local:
            self._fs.move(part, path)
        self._file.cache_clear()  # an open file would still show what was replaced


def _open(uri: str) -> tuple[pafs.FileSystem, str]:
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        fs, root = pafs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid:  # a scheme that Arrow does not speak itself
        try:
            other, root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as e:
            raise DataError(f"cannot open {uri}: {e}") from e
        fs = pafs.PyFileSystem(pafs.FSSpecHandler(other))  # type: ignore[abstract]
    return fs, str(root).rstrip("/")
