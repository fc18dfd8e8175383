"""Run stages on one file in memory, without a store: for developing a stage, notebooks and tests.

No resume, no policy, no errors kept: what a stage raises comes straight to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from curation.stage import Outputs, Stage, WorkItem
from schemas.table import Table
from schemas.time import windows
from schemas.units import UNITS


class MemoryInputs:
    """Inputs held in memory: a media path and tables as lists of parts (one a window)."""

    def __init__(self, media: Path, parts: dict[Table, list[pa.Table]]) -> None:
        self._media = media
        self._parts = parts
        self.files: dict[str, bytes] = {}
        """binary files that the stage saved"""

    @property
    def media(self) -> Path:
        """Local path of the source's file."""
        return self._media

    def read(self, table: Table) -> pa.Table:
        """Return all parts as one table, sorted by key."""
        parts = self._parts.get(table, [])
        return table.validated(pa.concat_tables(parts)) if parts else table.empty()

    def parts(self, table: Table) -> Iterator[pa.Table]:
        """Yield the table window by window."""
        yield from self._parts.get(table, [])

    def save(self, file: str, data: bytes) -> None:
        """Keep a binary file."""
        self.files[file] = data


def run_chain(
    media: Path,
    stages: Sequence[Stage],
    *,
    source_id: str = "0" * 16,
    duration_s: float = 0.0,
    window_s: float = 1e9,
    tables: dict[Table, list[pa.Table]] | None = None,
) -> dict[Table, list[pa.Table]]:
    """Run source- and window-stages in order on one file; return every table's parts.

    Gated stages get every unit of their gate's kind. `duration_s` and `window_s` cut the windows (seconds).
    """
    parts = dict(tables or {})
    for stage in stages:
        inputs = MemoryInputs(media, parts)
        items = [WorkItem(source_id)]
        if stage.grain == "window":
            spans = windows(duration_s, window_s)
            items = [WorkItem(source_id, w, i, len(spans)) for i, w in enumerate(spans)]
        elif stage.gate is not None:
            unit = UNITS[stage.gate]
            units = [str(u) for u in inputs.read(unit.table)[unit.id].to_pylist()]
            items = [WorkItem(source_id, units=tuple(units))]
        outputs: list[Outputs] = [stage.run(item, inputs) for item in items]
        for table in stage.writes:
            parts[table] = [o.tables.get(table, table.empty()) for o in outputs]
    return parts
