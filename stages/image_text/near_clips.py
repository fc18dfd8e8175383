"""Stage `near_clips`: for each clip the most similar one of another source that comes before it, by their vectors.

So a rule on its similarity keeps the first of clips that show the same and drops the later ones. Every clip is compared
with every other: memory is 2 KB a clip of 512 numbers, and time grows with the square (`benchmarks/search.py`).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from curation.search import nearest_earlier
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import CLIP_VECTORS, NEAR_CLIPS
from schemas.tables.vectors import ClipVectorRow, NearClipRow


class NearClips:
    """Stage: compare the clips of all live sources."""

    name: ClassVar[str] = "near_clips"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (CLIP_VECTORS,)
    writes: ClassVar[tuple[Table, ...]] = (NEAR_CLIPS,)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = StageSettings

    def __init__(self, settings: StageSettings) -> None:
        """There is nothing to set."""

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Compare all clips that have a vector."""
        rows = inputs.read(CLIP_VECTORS).sort_by(ClipVectorRow.segment_id.name)
        ids, sources = ClipVectorRow.segment_id.values(rows), ClipVectorRow.source_id.values(rows)
        flat = [np.asarray(values, np.float32) for values in ClipVectorRow.vector.array(rows)]
        vectors = np.stack(flat) if flat else np.zeros((0, 1), np.float32)
        _, groups = np.unique(np.asarray(sources, str), return_inverse=True)
        place, similarity = nearest_earlier(vectors, groups)
        found = zip(ids, sources, place.tolist(), similarity.tolist(), strict=True)
        return Outputs(
            {
                NEAR_CLIPS: NEAR_CLIPS.from_rows(
                    NearClipRow(
                        segment_id=segment,
                        source_id=source,
                        near_clip=ids[at] if at >= 0 else None,
                        near_clip_similarity=alike if at >= 0 else None,
                    )
                    for segment, source, at, alike in found
                )
            }
        )
