"""Texts of a great many samples, out of memory: compressed in blocks into a file.

Captions are the one column of a manifest that is long and read a row at a time in no order. Parquet gives them a row
group at a time, an object store a request at a time; thirty million of them fill more memory than a trainer has. On a
disk they take a third of their letters and are read in some ten microseconds. The file lies beside the columns that a
machine's processes share (`shared.py`), or has no name, in the directory that TMPDIR names: that one is gone with the
process, however it ends.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lpm_train.data.table.columns import Ints, joined, narrow
from lpm_train.storage import DataError

_BLOCK = 64
"""Texts of a block: one is read by unpacking all of them, some ten kilobytes."""
_KEPT = 64
"""Blocks kept unpacked: neighbours are read one after another where all rows are gone through."""
_CODEC: Any = pa.Codec("zstd")
_WRITTEN = 1 << 22  # bytes written at once


class Texts:
    """Texts by their number; written once by `TextsWriter`. Safe to read from several threads."""

    def __init__(self, file: int, ends: Ints, lengths: Ints) -> None:
        """Take over an open file.

        Args:
            file: descriptor; closed with this object.
            ends: where each block ends in it, bytes.
            lengths: of each block unpacked, bytes.
        """
        self._file, self.ends, self.lengths = file, ends, lengths
        self.block = lru_cache(_KEPT)(self._block)
        weakref.finalize(self, os.close, file)

    def __getitem__(self, at: int) -> str:
        letters, ends = self.block(at // _BLOCK)
        return letters[ends[at % _BLOCK] : ends[at % _BLOCK + 1]].decode()

    def _block(self, number: int) -> tuple[bytes, list[int]]:
        """Return the letters of a block, and where each text of it ends, the one before the first with them."""
        start, end = int(self.ends[number - 1]) if number else 0, int(self.ends[number])
        packed, letters = os.pread(self._file, end - start, start), int(self.lengths[number])
        raw = _CODEC.decompress(packed, letters, asbytes=True)
        n = int.from_bytes(raw[:4], "little")
        return raw[4 * (n + 2) :], np.frombuffer(raw, np.int32, n + 1, 4).tolist()


class TextsWriter:
    """Takes texts in order and gives them back as `Texts`."""

    def __init__(self, kept: Path | None = None) -> None:
        """Write into a new file that is kept, or into one without a name."""
        self._kept = kept
        with tempfile.TemporaryFile() if kept is None else kept.open("x+b") as file:
            self._file = os.dup(file.fileno())
        self._close = weakref.finalize(self, os.close, self._file)
        self._waiting: Any = pa.array([], pa.string())
        self._ends, self._lengths, self._end = list[Ints](), list[Ints](), 0

    def add(self, texts: Any) -> None:
        """Add further texts.

        Raises:
            DataError: there is no room for them; OSError where the file is one that is kept.
        """
        waiting = pa.concat_arrays([self._waiting, texts.cast(pa.string())])
        whole = len(waiting) // _BLOCK * _BLOCK
        self._write(waiting.slice(0, whole))
        self._waiting = pa.concat_arrays([waiting.slice(whole)])

    def _write(self, texts: Any) -> None:
        """Write texts as blocks: their number, their offsets, and their letters."""
        if not len(texts):
            return
        _, offsets_buffer, letters = texts.buffers()
        offsets = np.frombuffer(memoryview(offsets_buffer or bytes(4)), np.int32)[texts.offset :][: len(texts) + 1]
        all_letters, out, ends, lengths = memoryview(letters or b""), bytearray(), [], []
        for start in range(0, len(texts), _BLOCK):
            mine = offsets[start : start + _BLOCK + 1]
            head = np.concatenate([[len(mine) - 1], mine - mine[0]]).astype(np.int32).tobytes()
            raw = head + all_letters[mine[0] : mine[-1]]
            out += _CODEC.compress(raw, asbytes=True)
            lengths.append(len(raw))
            ends.append(self._end + len(out))
            if len(out) >= _WRITTEN or start + _BLOCK >= len(texts):
                self._put(out)
                out.clear()
        self._ends.append(narrow(np.array(ends)))
        self._lengths.append(narrow(np.array(lengths)))

    def _put(self, data: bytearray) -> None:
        view = memoryview(bytes(data))
        try:
            while view:
                n = os.write(self._file, view)
                view, self._end = view[n:], self._end + n
        except OSError as e:
            if self._kept is not None:
                raise
            raise DataError(
                f"no room for the samples' captions in {tempfile.gettempdir()} ({e}): name another directory by TMPDIR"
            ) from e

    def done(self) -> Texts:
        """Return the texts; nothing can be added any more."""
        self._write(self._waiting)
        self._close.detach()
        if self._kept is not None:
            os.fsync(self._file)
        return Texts(self._file, joined(self._ends), joined(self._lengths))
