"""What a stage gets to read, backed by the store: tables of its item, filtered to the units that are alive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import WorkItem
from curation.storage.store import Store, table_file
from schemas.table import Table
from schemas.tables import IDENTITY_DECISIONS, LABEL_TABLES


class StoreInputs:
    """Inputs of one item. `keep` maps id columns to the ids that are alive; `sources` is for dataset stages.

    Tables in `whole` are not narrowed to what is alive: a stage's own memory.
    """

    def __init__(
        self,
        store: Store,
        item: WorkItem,
        media: Callable[[], Path],
        *,
        keep: Mapping[str, frozenset[str]] | None = None,
        sources: tuple[tuple[str, int], ...] = (),
        whole: Collection[Table] = (),
    ) -> None:
        self._store, self._item, self._media = store, item, media
        self.opened = False
        """the source's file was asked for"""
        self._keep = dict(keep or {})
        self._sources = sources
        # What people said may name a track that is gone, and is matched by time and place.
        self._whole = {*LABEL_TABLES, IDENTITY_DECISIONS, *whole}
        self.saved: dict[str, str] = {}
        """files that the stage wrote itself -> SHA-256"""

    @property
    def media(self) -> Path:
        """Local path of the source's file."""
        self.opened = True
        return self._media()

    def read(self, table: Table) -> pa.Table:
        """Return a table of the item; empty when the stage that writes it had nothing to do."""
        parts = list(self.parts(table))
        return pa.concat_tables(parts) if parts else table.empty()

    def parts(self, table: Table) -> Iterator[pa.Table]:
        """Yield a table part by part: windows in order, or sources in order for a dataset stage."""
        for name in self._files(table):
            try:
                part = self._store.read_table(name, table)
            except FileNotFoundError:
                continue
            yield part if table in self._whole else self._alive(part)

    def save(self, file: str, data: bytes) -> None:
        """Write a binary file of this item at once."""
        self.saved[file] = self._store.write(file, data)

    def _files(self, table: Table) -> Iterator[str]:
        if table.grain == "dataset":
            yield table_file(table)
            return
        sources = self._sources or ((self._item.source_id, self._item.n_windows),)
        for source_id, n_windows in sources:
            if table.grain == "window":
                yield from (table_file(table, source_id, w) for w in range(n_windows))
            else:
                yield table_file(table, source_id)

    def _alive(self, part: pa.Table) -> pa.Table:
        for column, ids in self._keep.items():
            if column in part.column_names:
                part = part.filter(pc.is_in(part[column], pa.array(sorted(ids), pa.string())))
        return part
