"""Columns of a large manifest once on a machine: the first process to ask gathers them into files, all map these.

A rank that held thirty million samples by itself would take as much as all ranks of a machine take together so. Files
lie in a folder of `OPENLPM_CACHE` (`~/.cache/openlpm`), named after a hash of the manifest's bytes, of the condition
and of what is gathered: a dataset that changed, or another selection, has other files. They are written under a lock
that ends with its process, and get their name when they are whole and on the disk. Pages that are mapped count once,
and the system may take them back. Where the folder cannot be written, each process holds its own, and says so.
Entries that nobody opened for a month are removed when another is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from lpm_train.data.table.manifest import Manifest
from lpm_train.data.table.samples import BATCH, COLUMNS, Gathering, Samples, Words
from lpm_train.data.table.spilled import Texts, TextsWriter
from schemas.files.model_files import cache_folder
from schemas.files.places import replacing
from schemas.tables.output import MANIFEST

WORTH = 200_000
"""Rows of a manifest from which on its columns are shared; fewer are some twenty megabytes."""
_FORMAT = 1
_ROWS, _CAPTIONS, _BLOCKS, _META = "rows.arrow", "captions", "blocks.npy", "meta.json"
_UNUSED_S = 30 * 86400.0
_log = logging.getLogger(__name__)


class Entry:
    """The files of one selection of one manifest."""

    def __init__(self, manifest: Manifest, where: str | None) -> None:
        """Name it; nothing is made."""
        made = (_FORMAT, BATCH, COLUMNS, MANIFEST.column_names, manifest.digest(), where)
        key = hashlib.sha256(repr(made).encode()).hexdigest()[:32]
        self._manifest, self._where, self._path = manifest, where, folder() / key

    def samples(self) -> Samples:
        """Map the files, and gather them before where there are none.

        Raises:
            OSError: the folder cannot be written or read.
            DataError: as `Gathering` does.
        """
        if (found := self._mapped()) is not None:
            return found
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if (found := self._mapped()) is None:
                self._make()
                found = self._mapped()
        if found is None:
            raise OSError(f"{self._path} is not what was written there")
        return found

    def remembered(self, name: str, make: Callable[[], str]) -> str:
        """Return a text that is a function of the manifest and the condition; made by one process, kept for others."""
        file = self._path / name
        with contextlib.suppress(OSError):
            return file.read_text()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(self._locked())
                return file.read_text()
            text = make()
            with contextlib.suppress(OSError), replacing(file) as out:
                out.write(text.encode())
            return text

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        with self._path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("another process reads the manifest for this machine: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self) -> None:
        """Gather into a folder that gets its name in the end; the lock is held."""
        part = self._path.with_suffix(".part")
        for left in (part, self._path, *self._unused()):  # of a process that died, damaged, or of no use any more
            if left.exists():
                shutil.rmtree(left)
        part.mkdir()
        try:
            captions = TextsWriter(part / _CAPTIONS)
            gathering = Gathering(self._manifest, self._where, captions)
            with (part / _ROWS).open("wb") as file:
                with pa.ipc.new_file(file, gathering.schema) as writer:
                    for batch in gathering.batches():
                        writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            texts = captions.done()
            with (part / _BLOCKS).open("wb") as file:
                np.save(file, np.stack([texts.ends, texts.lengths]))
                file.flush()
                os.fsync(file.fileno())
            sizes = {n: (part / n).stat().st_size for n in (_ROWS, _CAPTIONS, _BLOCKS)}
            with replacing(part / _META) as meta:
                meta.write(json.dumps({"sizes": sizes, "words": asdict(gathering.words)}).encode())
            part.rename(self._path)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _mapped(self) -> Samples | None:
        """Look into the files; None where they are not there, or not whole."""
        try:
            meta = json.loads((self._path / _META).read_bytes())
            if any((self._path / n).stat().st_size != size for n, size in meta["sizes"].items()):
                return None
            with contextlib.suppress(OSError):
                os.utime(self._path)
            reader = pa.ipc.open_file(pa.memory_map(str(self._path / _ROWS)))
            ends, lengths = np.load(self._path / _BLOCKS, mmap_mode="r")
            captions = Texts(os.open(self._path / _CAPTIONS, os.O_RDONLY), ends, lengths)
        except (FileNotFoundError, ValueError, KeyError):  # ArrowInvalid is a ValueError
            return None
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        return Samples(batches, Words(**meta["words"]), captions)

    def _unused(self) -> list[Path]:
        """Return entries, whole or begun, that nobody opened for long."""
        others = [p for p in self._path.parent.iterdir() if p.is_dir() and p != self._path]
        return [p for p in others if time.time() - p.stat().st_mtime > _UNUSED_S]


def folder() -> Path:
    """Return the folder of all entries."""
    return cache_folder("manifests")


def opened(manifest: Manifest, where: str | None) -> tuple[Samples, Entry | None]:
    """Return the columns of the rows for which a condition holds, shared on this machine where that is worth it.

    Raises:
        DataError: as `Gathering` does.
    """
    if len(manifest) < WORTH or os.name != "posix":
        return Samples.held(manifest, where), None
    entry = Entry(manifest, where)
    try:
        return entry.samples(), entry
    except OSError as e:
        _log.warning(
            "lpm: the manifest's columns cannot be shared on this machine (%s), so each process holds its own: free "
            "some room in %s, or name another folder by OPENLPM_CACHE", e, folder(),
        )  # fmt: skip
    return Samples.held(manifest, where), None
