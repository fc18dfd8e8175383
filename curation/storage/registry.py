"""The registry of inputs: a table of all, and beside it what was added since, in parts that are never written again.

A command that takes in files writes one small part with the rows that are new or other than before; a later row of a
path stands for the earlier one. `gather` puts the parts into the table and deletes them: before the stages of the whole
dataset, and by `lpm compact`. On object storage the table is replaced only where it is as it was read, and a part's
name says its content, so of two writers neither takes away what the other has added.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

from curation.storage.store import Store, StoreError, parquet_bytes, table_file
from schemas import tables as t
from schemas.tables.registry import InputRow

_FOLDER = f"tables/{t.INPUTS.name}"
_PART = f"{_FOLDER}/added-"
_TRIES = 5


def parts(store: Store) -> list[str]:
    """Return the names of the parts, in the order in which they were added."""
    return [n for n in store.top(_FOLDER) if n.startswith(_PART)]


def read_registry(store: Store) -> pa.Table:
    """Return the INPUTS table with all that was added, by path; empty for a new dataset."""
    return _read(store, parts(store))


def add(store: Store, rows: pa.Table) -> None:
    """Add rows to the registry, each in place of an earlier one of its path. Costs a small write."""
    if not rows.num_rows:
        return
    number = 1 + max((int(n.removeprefix(_PART).partition("-")[0]) for n in parts(store)), default=0)
    digest = hashlib.sha256(parquet_bytes(rows)).hexdigest()[:16]
    store.write_table(f"{_PART}{number:06d}-{digest}.parquet", t.INPUTS, rows)


def gather(store: Store) -> None:
    """Put what was added into the table. Raises StoreError where others do the like all the time."""
    for _ in range(_TRIES):
        tag, added = store.tag(table_file(t.INPUTS)), parts(store)
        if not added:
            return
        rows = t.INPUTS.validated(_read(store, added)).cast(t.INPUTS.described)
        if store.swap(table_file(t.INPUTS), parquet_bytes(rows), tag):
            for name in added:
                store.delete_file(name)
            return
    raise StoreError(f"the inputs of {store.uri} are written by somebody else; run the same command again")


def replace(store: Store, rows: pa.Table) -> None:
    """Let the registry be these rows and no other: for who takes some out."""
    gather(store)
    store.write_table(table_file(t.INPUTS), t.INPUTS, rows)


def _read(store: Store, added: list[str]) -> pa.Table:
    try:
        rows = store.read_table(table_file(t.INPUTS), t.INPUTS)
    except FileNotFoundError:
        rows = t.INPUTS.empty()
    if not added:
        return rows
    read = []
    for name in added:
        with store.filesystem().open_input_file(store.path(name)) as f:
            read.append(pq.read_table(f))
    rows = pa.concat_tables([r.cast(t.INPUTS.schema) for r in (rows, *read)])
    last = {path: at for at, path in enumerate(InputRow.path.values(rows))}
    return t.INPUTS.validated(rows.take(sorted(last.values())))
