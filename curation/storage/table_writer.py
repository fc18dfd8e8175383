"""Write a table larger than memory: rows come in order of key, piece by piece; the file is as if written whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.storage.store import ROW_GROUP, Store
from schemas.table import Table, TableError

Append = Callable[[pa.Table], None]


@contextlib.contextmanager
def writing(store: Store, name: str, table: Table) -> Iterator[Append]:
    """Yield a function that appends rows, sorted by key; the file appears when the block ends without error.

    Raises:
        TableError: rows that are not in order of the table's key, or a key that repeats.
    """
    waiting: list[pa.Table] = []
    last: pa.Table | None = None
    with (
        store.open_output(name) as sink,
        pq.ParquetWriter(cast(IO[bytes], sink), table.described, compression="zstd", compression_level=3) as writer,
    ):

        def write(rows: pa.Table) -> None:
            writer.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP)

        def append(rows: pa.Table) -> None:
            nonlocal last, waiting
            if not rows.num_rows:
                return
            rows = rows.select(list(table.column_names)).cast(table.schema)
            keys = rows.select(list(table.key))
            _in_order(table, keys if last is None else pa.concat_tables([last, keys]))
            last = keys.slice(keys.num_rows - 1)
            pending = pa.concat_tables([*waiting, rows])
            full = pending.num_rows // ROW_GROUP * ROW_GROUP
            for at in range(0, full, ROW_GROUP):
                write(pending.slice(at, ROW_GROUP))
            waiting = [pending.slice(full)]

        yield append
        left = pa.concat_tables([table.empty(), *waiting])
        if left.num_rows or last is None:
            write(left)


def _in_order(table: Table, keys: pa.Table) -> None:
    if keys.num_rows < 2:
        return
    above: Any = pa.array([False] * (keys.num_rows - 1))
    for name in reversed(table.key):
        column = keys[name].combine_chunks()
        a, b = column.slice(0, len(column) - 1), column.slice(1)
        above = pc.or_(pc.greater(b, a), pc.and_(pc.equal(a, b), above))
    if not pc.all(above).as_py():
        raise TableError(f"table {table.name}: rows are not in order of {table.key}, or a key repeats")
