"""The vectors of samples and of their references, as columns of the manifest.

Joined by DuckDB, shard by shard: no vector becomes Python objects. A dataset without vectors costs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import pyarrow as pa

from curation.dataset import Dataset
from schemas.tables import CLIP_VECTORS, MANIFEST, PORTRAIT_VECTORS
from schemas.tables.output import ManifestRow

Reference = tuple[str, str, int]
"""Source, track and grid index of a reference image."""

_JOINED = """
SELECT shard.* REPLACE (c.vector AS vector, c.annotator AS vector_model, r.vectors AS reference_vectors)
FROM shard LEFT JOIN clip_vectors c ON c.segment_id = shard.segment_id
LEFT JOIN (
    SELECT segment_id, list(p.vector ORDER BY n) AS vectors
    FROM shown LEFT JOIN portrait_vectors p ON p.track_id = shown.track_id AND p.k = shown.k
    GROUP BY segment_id HAVING count(p.vector) > 0
) r ON r.segment_id = shard.segment_id
ORDER BY shard.segment_id
"""


class SampleVectors:
    """The vectors of a dataset's clips and portraits."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.there = any(dataset.files(t) for t in (CLIP_VECTORS, PORTRAIT_VECTORS))

    def filled(self, rows: pa.Table, references: Mapping[str, Sequence[Reference]]) -> pa.Table:
        """Return rows of MANIFEST with their vectors, where there are any.

        `references` are those of each sample, in the order of their names.
        """
        if not self.there:
            return rows
        shown = [(i, n, track, k) for i, refs in references.items() for n, (_, track, k) in enumerate(refs)]
        sources = {source for refs in references.values() for source, _, _ in refs}
        sources |= set(ManifestRow.source_id.values(rows))
        columns = ("segment_id", "n", "track_id", "k")
        kinds = (pa.string(), pa.int32(), pa.string(), pa.int32())
        named = {c: pa.array([row[i] for row in shown], kinds[i]) for i, c in enumerate(columns)}
        tables = (CLIP_VECTORS, PORTRAIT_VECTORS)
        with contextlib.closing(self._dataset.connect(tables=tables, sources=sources)) as con:
            con.register("shard", rows)
            con.register("shown", pa.table(named))
            joined: pa.Table = con.sql(_JOINED).to_arrow_table()
        return joined.cast(MANIFEST.schema)
