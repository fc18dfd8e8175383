"""One hash of many rows of a manifest: all values of its declared columns, in order of the samples' ids.

What fits one Arrow record batch (no column of more than 2 GiB of letters) is hashed as that batch would be written,
whatever the file's row groups are: runs that stopped on such data find their hash again. The batch is never made:
its columns are read and hashed one after the other, since a batch's body is its columns' bodies in a row, and its head
tells their lengths alone. More is hashed in pieces of so many rows, each as Arrow writes it, in one pass.

Costs what reading all columns costs: some ten microseconds of CPU a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lpm_train.data.table.manifest import PIECE, Manifest, Positions, rechunked
from schemas.tables.output import MANIFEST, ManifestRow

_MOST_LETTERS = 2**31 - 1
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream
_REPEATED = ManifestRow.annotators.name
"""Kilobytes a row, and the same in nearly all rows."""
_LONG = (ManifestRow.members.name, _REPEATED, ManifestRow.member_sha256.name)
"""Columns of many letters: looked at first, and not kept, when it is asked whether all fit."""


def hash_rows(manifest: Manifest, rows: Positions | None, order: Positions | None) -> str:
    """Hash rows of a manifest; how its file is divided into row groups does not count.

    Args:
        manifest: where from.
        rows: which; None: all.
        order: their numbers (among `rows`) sorted by id; None: they are sorted in the file.
    """
    names = [c.name for c in MANIFEST.columns if c.name in manifest.schema.names]
    digest = hashlib.sha256("\x1f".join(names).encode())
    if not _as_batch(manifest, names, rows, order, digest.update):
        _in_pieces(manifest, names, rows, digest.update)
    return digest.hexdigest()


def _as_batch(
    manifest: Manifest, names: Sequence[str], rows: Positions | None, order: Positions | None,
    update: Callable[[Any], None],
) -> bool:  # fmt: skip
    """Hash the rows as one record batch; False, and nothing hashed, where they do not fit into one."""
    if not all(_fits(manifest, n, rows) for n in _LONG if n in names):
        return False
    shapes: dict[str, Any] = {}
    for name in names:
        column = _column(manifest, name, rows, order)
        if column is None:
            return False
        shapes[name] = _hollow(column)
        del column
    schema = pa.schema([manifest.schema.field(n) for n in names])
    batch = pa.RecordBatch.from_arrays([shapes[n] for n in names], schema=schema)
    update(schema.serialize())
    update(_head(batch))
    for name in names:
        column = _column(manifest, name, rows, order)
        _body(pa.RecordBatch.from_arrays([column], schema=pa.schema([schema.field(name)])), update)
        del column
    update(_END)
    return True


def _fits(manifest: Manifest, name: str, rows: Positions | None) -> bool:
    """Tell whether a column's letters fit, without keeping them."""
    total = 0
    for piece in manifest.pieces([name], rows, coded=[name] if name == _REPEATED else []):
        for chunk in piece.column(0).chunks:
            total += max(_letters(chunk), default=0)
        if total > _MOST_LETTERS:
            return False
    return True


def _column(manifest: Manifest, name: str, rows: Positions | None, order: Positions | None) -> Any:
    """Return a column as one array, sorted; None of one with too many letters for that."""
    chunks, letters = list[Any](), np.zeros(0, np.int64)
    for piece in manifest.pieces([name], rows):
        chunk = piece.column(0).combine_chunks()
        chunks.append(chunk)
        mine = np.array(_letters(chunk), np.int64)
        letters = mine + letters if len(letters) else mine
        if len(letters) and letters.max() > _MOST_LETTERS:
            return None
    whole = pa.concat_arrays(chunks)
    chunks.clear()
    # Taken also where the order is right: what stands in the place of a null is then 0.
    return whole.take(pa.array(np.arange(len(whole)) if order is None else order))


def _letters(array: Any) -> list[int]:
    """Return the bytes of letters in each array of strings that an array is made of."""
    kind = array.type
    if pa.types.is_struct(kind):
        return [n for i in range(kind.num_fields) for n in _letters(array.field(i))]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _letters(array.flatten())
    if pa.types.is_dictionary(kind):
        lengths: Any = pc.binary_length(array.dictionary)
        return [int(pc.sum(lengths.take(array.indices)).as_py() or 0)]
    if _of_letters(kind):
        return [int(pc.sum(pc.binary_length(array)).as_py() or 0)]
    return []


def _hollow(array: Any) -> Any:
    """Return an array of the same lengths that holds nothing: its zeros take no memory until they are looked at."""
    kind, n, nulls = array.type, len(array), array.null_count
    if pa.types.is_null(kind):
        return array
    valid = _zeros(-(-n // 8)) if nulls else None
    if pa.types.is_struct(kind):
        children = [_hollow(array.field(i)) for i in range(kind.num_fields)]
        return pa.Array.from_buffers(kind, n, [valid], nulls, children=children)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values, ends = _hollow(array.flatten()), _ends(n, len(array.flatten()), pa.types.is_large_list(kind))
        return pa.Array.from_buffers(kind, n, [valid, ends], nulls, children=[values])
    if _of_letters(kind):
        letters = _letters(array)[0]
        ends = _ends(n, letters, pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))
        return pa.Array.from_buffers(kind, n, [valid, ends, _zeros(letters)], nulls)
    return pa.Array.from_buffers(kind, n, [valid, _zeros(-(-n * kind.bit_width // 8))], nulls)


def _of_letters(kind: pa.DataType) -> bool:
    t = pa.types
    return t.is_string(kind) or t.is_binary(kind) or t.is_large_string(kind) or t.is_large_binary(kind)


def _zeros(size: int) -> pa.Buffer:
    nothing: Any = np.zeros(size, np.uint8)
    return pa.py_buffer(nothing)


def _ends(n: int, last: int, large: bool) -> pa.Buffer:
    """Return the offsets of n values, of which the last one has all there is."""
    ends: Any = np.zeros(n + 1, np.int64 if large else np.int32)
    ends[-1] = last
    return pa.py_buffer(ends)


@dataclass
class _Sink:
    """A file that takes an Arrow stream of one record batch apart into its head and its body."""

    skip: int  # bytes of the schema before the batch
    body: Callable[[Any], None]
    head: bytes = b""
    closed: bool = False

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        view = memoryview(data).cast("B")
        size, view, self.skip = len(view), view[self.skip :], max(0, self.skip - len(view))
        while len(view) and (need := self._need() - len(self.head)):
            self.head, view = self.head + bytes(view[:need]), view[need:]
        if len(view):
            self.body(view)
        return size

    def _need(self) -> int:
        return 8 + int.from_bytes(self.head[4:8], "little") if len(self.head) >= 8 else 8

    def flush(self) -> None:
        """Do nothing: what is written is used at once."""


def _parted(batch: pa.RecordBatch, body: Callable[[Any], None]) -> _Sink:
    sink = _Sink(len(batch.schema.serialize()), body)
    file: Any = sink
    writer = pa.ipc.new_stream(pa.PythonFile(file, mode="w"), batch.schema)
    writer.write_batch(batch)
    sink.body = lambda _: None  # what follows is the end of a stream that nobody wants
    writer.close()
    return sink


def _head(batch: pa.RecordBatch) -> bytes:
    return _parted(batch, lambda _: None).head


def _body(batch: pa.RecordBatch, update: Callable[[Any], None]) -> None:
    _parted(batch, update)


def _in_pieces(
    manifest: Manifest, names: Sequence[str], rows: Positions | None, update: Callable[[Any], None]
) -> None:  # fmt: skip
    """Hash rows in the order of the file, so many at a time."""
    for piece in rechunked(manifest.pieces(names, rows, coded=[_REPEATED]), PIECE):
        for name in names:
            column = _first_use(piece[name]) if name == _REPEATED else piece[name].combine_chunks()
            batch, sink = pa.RecordBatch.from_arrays([column], [name]), pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            update(sink.getvalue())


def _first_use(column: Any) -> Any:
    """Return coded strings whose dictionary holds what is used, in the order in which it first is."""
    coded = column.unify_dictionaries().combine_chunks()
    if coded.null_count:
        return coded.cast(pa.string())
    used, first, codes = np.unique(coded.indices.to_numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return pa.DictionaryArray.from_arrays(np.argsort(order)[codes].astype(np.int32), coded.dictionary.take(used[order]))
