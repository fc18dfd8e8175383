"""Bring a source's file to this machine: local paths as they are, remote URIs through fsspec into a small cache.

A worker treats one source after another, so the cache keeps the last few files only. The content hash is checked
after a fetch: bytes that changed under a registered name are an error of that item, not silently other data.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path

import pyarrow.fs as pafs

from schemas.places import local_path, with_endpoint

_KEEP = 4


class SourceChangedError(ValueError):
    """The file behind a registered path is not the one that was registered."""

    code = "source_changed"


class MediaCache:
    """Local copies of remote sources, a few at a time; removed when the worker ends."""

    def __init__(self) -> None:
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
            return file
        if source_id not in self._files:
            self._files[source_id] = self._fetch(path, source_id)
            while len(self._files) > _KEEP:
                self._files.pop(next(iter(self._files))).unlink(missing_ok=True)
        return self._files[source_id]

    def _fetch(self, uri: str, source_id: str) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="openlpm-media-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        fs, remote = pafs.FileSystem.from_uri(with_endpoint(uri))
        target = self._directory / f"{source_id}{Path(remote).suffix[:8]}"
        digest = hashlib.sha256()
        with fs.open_input_stream(remote) as src, target.open("wb") as dst:
            while block := src.read(1 << 20):
                digest.update(block)
                dst.write(block)
        if digest.hexdigest()[:16] != source_id:
            target.unlink()
            raise SourceChangedError(f"{uri} changed since it was registered; run again to register the new bytes")
        return target
