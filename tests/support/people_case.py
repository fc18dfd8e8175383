"""A made dataset of faces, to run stage `identity` on over and over: sources come and go, people decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from table_rows import row

from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from schemas.table import Table
from stages.identity.identity import Identity, IdentitySettings

Row = dict[str, Any]
LASTS_S = 9.0


@dataclass
class Faces:
    """What cameras saw: for each source the faces in it, one a shot; equal seeds give equal faces."""

    seed: int = 0
    near: float = 0.3
    """Spread of faces in each of three dimensions: near the threshold, so that clusters are a close call."""
    n_tracks: int = 3
    people: dict[str, list[int]] | None = None
    """source -> who is in each of its shots; None = all faces at random"""
    first: int = 0
    """number of the first track of every source"""

    def tables(self, sources: Iterable[str]) -> dict[Table, list[pa.Table]]:
        """Return tracks, embeddings and kept segments."""
        tracks, embeddings, segments = [], [], []
        for source in sorted(sources):
            rng = np.random.default_rng([self.seed, int(source, 16) % 2**32])
            cast = self.people[source] if self.people is not None else [None] * self.n_tracks
            for n, who in enumerate(cast):
                face = rng.normal(0, self.near, 3) if who is None else self._person(who) + rng.normal(0, 0.05, 3)
                track, start = f"{source}-t{n + self.first:04d}", 10.0 * n
                time = {"start_s": start, "end_s": start + LASTS_S, "duration_s": LASTS_S}
                ids = {"track_id": track, "source_id": source, "shot_id": f"{source}-s{n:04d}"}
                tracks.append(row(t.TRACKS, **ids, **time, center_x=0.5, center_y=0.4))
                segments.append(row(t.SEGMENTS, segment_id=f"{track}-0", **ids, **time, state="speak"))
                seen = {"embedding": face, "quality": 0.8, "yaw_deg": 0.0, "annotator": "x"}
                embeddings.append(row(t.FACE_EMBEDDINGS, track_id=track, source_id=source, **seen))
        rows: dict[Any, Any] = {t.TRACKS: tracks, t.FACE_EMBEDDINGS: embeddings, t.SEGMENTS: segments}
        return {table: [table.from_rows(found)] for table, found in rows.items()}

    def _person(self, who: int) -> np.ndarray:
        return np.array([2.0 * who, 0.0, 0.0])


@dataclass
class Kept:
    """A dataset's own tables between runs."""

    tables: dict[Table, pa.Table] = field(default_factory=dict)

    def run(self, faces: Faces, sources: Iterable[str], **values: Any) -> Kept:
        """Run the stage on these sources; return the dataset after it. Rows of other sources are gone, as forgotten."""
        live = sorted(sources)
        parts = faces.tables(live)
        for table in t.REMEMBERED:
            rows = self.tables.get(table, table.empty())
            parts[table] = [rows.filter(pc.is_in(rows["source_id"], pa.array(live, pa.string())))]
        out = Identity(IdentitySettings(**values)).run(WorkItem(), MemoryInputs(Path("none"), parts)).tables
        return Kept({**self.tables, **out})

    def rows(self, table: Table) -> list[Row]:
        """Return a table's rows."""
        return [] if table not in self.tables else self.tables[table].to_pylist()

    def names(self) -> dict[str, str]:
        """Return the person of each track."""
        return {r["track_id"]: r["identity_id"] for r in self.rows(t.TRACK_IDENTITIES)}

    def splits(self) -> dict[str, str | None]:
        """Return the split of each source's clips."""
        return {r["source_id"]: None if r["withheld"] else r["split"] for r in self.rows(t.SPLITS)}

    def aliases(self) -> dict[str, str]:
        """Return former names and what they lead to."""
        return {r["alias"]: r["identity_id"] for r in self.rows(t.IDENTITY_ALIASES) if r["identity_id"]}
