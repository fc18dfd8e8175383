"""Search a dataset for what is left of sources: file names, bytes, and every text that Parquet holds compressed.

Reads every file once, a few megabytes at a time; a Parquet file twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.storage.store import Store, table_file
from schemas import tables as t

_BLOCK = 1 << 22  # bytes read at once


@dataclass(frozen=True, slots=True)
class Proof:
    """What the search looked at, and the files in which it found something."""

    files: int
    bytes: int
    traces: tuple[str, ...]
    whole: bool = True
    """False: other sources wait for work, so the dataset's own stages did not run; the next run does that"""


def search(store: Store, source_ids: Sequence[str]) -> Proof:
    """Look for ids in the name and the bytes of every file, and in every text that Parquet files hold compressed.

    The FORGOTTEN table is left out: it is where the ids are kept on purpose.
    """
    needles, traces = [i.encode() for i in source_ids], []
    sizes = {n: s for n, s in store.sizes("").items() if n not in (table_file(t.FORGOTTEN), ".lock")}
    for name, size in sizes.items():
        found = any(i in name for i in source_ids) or _in_bytes(store, name, size, needles)
        if found or (name.endswith(".parquet") and in_columns(store, name, source_ids)):
            traces.append(name)
    return Proof(len(sizes), sum(sizes.values()), tuple(traces))


def _in_bytes(store: Store, name: str, size: int, needles: Sequence[bytes]) -> bool:
    overlap = max((len(n) for n in needles), default=1) - 1
    tail = b""
    for at in range(0, size, _BLOCK):
        block = tail + store.read(name, at, min(_BLOCK, size - at))
        if any(n in block for n in needles):
            return True
        tail = block[-overlap:] if overlap else b""
    return False


def in_columns(store: Store, name: str, source_ids: Sequence[str]) -> bool:
    """Say whether a text in a Parquet file, at any depth, holds one of the ids."""
    with store.filesystem().open_input_file(store.path(name)) as f:
        file = pq.ParquetFile(f)
        held = [field.name for field in file.schema_arrow if _has_text(field.type)]
        for i in range(file.num_row_groups):
            columns = file.read_row_group(i, columns=held).columns
            texts = (text for column in columns for chunk in column.chunks for text in _texts(chunk))
            if any(pc.any(pc.match_substring(text, needle)).as_py() for text in texts for needle in source_ids):
                return True
    return False


def _has_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or any(_has_text(kind.field(i).type) for i in range(kind.num_fields))


def _texts(array: Any) -> Iterator[Any]:
    """Yield the strings in an Arrow array of any nesting."""
    if pa.types.is_string(array.type):
        yield array
    elif pa.types.is_list(array.type):
        yield from _texts(array.flatten())
    elif pa.types.is_struct(array.type):
        for part in array.flatten():
            yield from _texts(part)
