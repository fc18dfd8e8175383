"""SHA-256 of a dataset's files; of a table that was gathered, of the bytes that its rows make as a file alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator

import pyarrow as pa

from curation.storage.compacted import Part
from curation.storage.store import Store, is_part, parquet_bytes
from schemas.tables import TABLES

_BLOCK = 1 << 20


def sha256(store: Store, name: str) -> str:
    """Return the hash of a file's bytes; of a compacted part, of the bytes that its rows make as a file.

    Raises FileNotFoundError.
    """
    try:
        return file_digest(store, name)
    except FileNotFoundError:
        part = store.compacted.find(name) if is_part(name) else None
        if part is None:
            raise
        ((_, digest),) = _part_digests(store, [part])
        return digest


def recorded(store: Store, name: str) -> str | None:
    """Return the hash of a table's file, or the one that it had when it was gathered; None where it is gone."""
    try:
        return hashlib.sha256(store.read(name)).hexdigest()
    except FileNotFoundError:
        part = store.compacted.find(name)
        return None if part is None else part.sha256


def digests(store: Store, names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each name with its `sha256`, or None where there is no such file; a compact file is opened once."""
    gathered: list[Part] = []
    for folder, mine in itertools.groupby(sorted(names), lambda n: n.rpartition("/")[0]):
        there = store.tables(folder) if is_part(f"{folder}/") else {}
        for name in mine:
            part = there.get(name)
            if part is not None:
                gathered.append(part)
                continue
            try:
                yield name, file_digest(store, name)
            except FileNotFoundError:
                yield name, None
    yield from _part_digests(store, sorted(gathered, key=lambda p: (p.file, p.groups)))


def file_digest(store: Store, name: str) -> str:
    """Return the hash of a file's bytes, whatever it is. Raises FileNotFoundError."""
    digest = hashlib.sha256()
    with store.filesystem().open_input_file(store.path(name)) as f:
        while block := f.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _part_digests(store: Store, parts: Iterable[Part]) -> Iterator[tuple[str, str]]:
    """Yield the hash of each part's rows as a file; all empty ones of a table are the same, and most are empty."""
    for name, group in itertools.groupby(parts, lambda p: p.name.split("/")[1]):
        mine, empty = list(group), dict[pa.Schema, str]()
        for part, rows in zip(mine, store.compacted.read_each(mine, TABLES[name].schema), strict=True):
            known = None if rows.num_rows else empty.get(rows.schema)
            digest = known or hashlib.sha256(parquet_bytes(rows)).hexdigest()
            if not rows.num_rows:
                empty[rows.schema] = digest
            yield part.name, digest
