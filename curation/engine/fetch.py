"""Bring a source's file to this machine: local paths as they are, remote URIs through fsspec into a small cache.

A worker treats one source after another, so the cache keeps the last few files only. Bytes that changed under a
registered name are an error of that item, not silently other data: a fetched file is hashed as it comes, and stays as
it came; a local one is held against the size and time that were registered, before a stage reads it and after, and
hashed where these differ.
"""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.runs.scratch import Scratch
from curation.storage.registry import parts
from curation.storage.store import Store, table_file
from schemas.files.places import local_path, open_object
from schemas.tables import INPUTS
from schemas.tables.registry import InputRow

_KEEP = 4

_Stat = tuple[int, int]
"""Bytes, and nanoseconds of the last change."""


class SourceChangedError(ValueError):
    """The file behind a registered path is not the one that was registered."""

    code = "source_changed"


def changed(path: str) -> SourceChangedError:
    """Return the error that says so of a file."""
    return SourceChangedError(
        f"{path.rsplit('/', 1)[-1]} changed since it was registered, so nothing more of it is kept; when it is "
        "complete, name it to `lpm run` again, which takes it in as it is then"
    )


def _stat(file: Path) -> _Stat:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


class MediaCache:
    """Local copies of remote sources, a few at a time; removed when the worker ends."""

    def __init__(self, store: Store) -> None:
        """Begin, for the sources that are registered in a store."""
        self._store = store
        self._seen: dict[str, tuple[str, _Stat]] = {}
        self._files: dict[str, Path] = {}
        self._directory: Path | None = None

    def local(self, path: str, source_id: str) -> Path:
        """Return a local path for a source.

        Raises:
            FileNotFoundError: the file is gone.
            SourceChangedError: a fetched file's bytes are not those that were registered.
        """
        file = local_path(path)
        if file is not None:
            if not file.is_file():
                raise FileNotFoundError(
                    f"{path.rsplit('/', 1)[-1]} is no longer where it was registered; run with its new path"
                )
            self.confirm(path, source_id)
            return file
        if source_id not in self._files:
            self._files[source_id] = self._fetch(path, source_id)
            while len(self._files) > _KEEP:
                self._files.pop(next(iter(self._files))).unlink(missing_ok=True)
        return self._files[source_id]

    def confirm(self, path: str, source_id: str) -> None:
        """Make sure that a local file is still the one that was registered; costs a hash where it was written since.

        Raises:
            FileNotFoundError: the file is gone.
            SourceChangedError: its bytes are others.
        """
        file = local_path(path)
        if file is None or self._seen.get(path) == (source_id, now := _stat(file)):
            return
        registered = self._registered(path, source_id)
        if registered is not None and registered != now and not _sha256(file).startswith(source_id):
            raise changed(path)
        while len(self._seen) >= _KEEP:
            self._seen.pop(next(iter(self._seen)))
        self._seen[path] = source_id, now

    def _registered(self, path: str, source_id: str) -> _Stat | None:
        """Return the size and time of a file as it was registered; None where it is not registered under that id."""
        columns = [InputRow.source_id.name, InputRow.bytes.name, InputRow.modified_ns.name]
        rows: list[dict[str, Any]] = []
        for name in (table_file(INPUTS), *parts(self._store)):
            with (
                contextlib.suppress(FileNotFoundError),
                self._store.filesystem().open_input_file(self._store.path(name)) as f,
            ):
                rows = pq.read_table(f, columns=columns, filters=[("path", "==", path)]).to_pylist() or rows
        return next(((r["bytes"], r["modified_ns"]) for r in rows if r["source_id"] == source_id), None)

    def _fetch(self, uri: str, source_id: str) -> Path:
        if self._directory is None:
            made = Scratch("media")
            self._directory = made.path
            weakref.finalize(self, made.remove)
        fs, remote = open_object(uri)
        target = self._directory / f"{source_id}{Path(remote).suffix[:8]}"
        digest = hashlib.sha256()
        with fs.open_input_stream(remote) as src, target.open("wb") as dst:
            while block := src.read(1 << 20):
                digest.update(block)
                dst.write(block)
        if digest.hexdigest()[:16] != source_id:
            target.unlink()
            raise changed(uri)
        return target
