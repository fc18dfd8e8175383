"""Stage `clip_vectors`: what each live segment's clip shows, as one vector, and what that says.

The pictures are cut as they will be packed, so the stage may stand before `packing` and its scores may spare encoding.
Each clip's own time is decoded once more, and a few pictures of it are embedded in one batch: equal clips give equal
vectors, whatever is measured beside them. Without a model its tables stay empty and nothing is decoded.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from annotators.imagetext.embedder import ImageTextEmbedder, VectorScorer, mean_direction
from annotators.parts import Part, part
from annotators.protocols import FloatArray
from annotators.shipped import AESTHETIC_HEADS, IMAGE_TEXT_EMBEDDERS
from curation.stage import (
    Exchangeable,
    Gate,
    GateMode,
    Grain,
    Inputs,
    Outputs,
    Rows,
    StageSettings,
    WorkItem,
    each_unit,
)
from schemas.table import Table
from schemas.tables import CAPTIONS, CLIP_PLANS, CLIP_SCORES, CLIP_VECTORS, SEGMENTS
from schemas.tables.performance import CaptionRow
from schemas.tables.vectors import ClipScoreRow, ClipVectorRow
from stages.clip_plan.crop import plan_of
from stages.packing.stills import stills


class ClipVectorsSettings(StageSettings):
    """Which model looks at how many pictures."""

    embedder: Part[ImageTextEmbedder | None] = part(
        IMAGE_TEXT_EMBEDDERS,
        "vectors of pictures and words; open_clip: a CLIP model of your own (`model`: a directory in open_clip's form, "
        "or an architecture with `checkpoint`; `device`, `batch`)",
        auto=("open_clip", "none"),
        by_default="none",
        shared="image_text",
    )
    aesthetic: Part[VectorScorer | None] = part(
        AESTHETIC_HEADS,
        "with an embedder: scores the clip's vector; laion: a head of your own in LAION's form (`model`: a file)",
        auto=("laion", "none"),
        by_default="none",
    )
    n_frames: int = Field(4, ge=1, le=64, description="pictures a clip, evenly spread")

    def parts(self) -> dict[str, Exchangeable]:
        """Return the parts at work: without an embedder nothing is scored."""
        everything = super().parts()
        return everything if self.embedder.at_work else {"embedder": everything["embedder"]}


class ClipVectors:
    """Stage: embed the live segments' clips."""

    name: ClassVar[str] = "clip_vectors"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SEGMENTS, CLIP_PLANS, CAPTIONS)
    writes: ClassVar[tuple[Table, ...]] = (CLIP_VECTORS, CLIP_SCORES)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = ClipVectorsSettings

    def __init__(self, settings: ClipVectorsSettings) -> None:
        """Load model and head. Raises PartNotInstalledError, WeightsNotFound, WeightsMismatch."""
        self._n = settings.n_frames
        self._embedder = settings.embedder.build()
        self._aesthetic = None if self._embedder is None else settings.aesthetic.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Embed the item's segments; one that fails harms no other."""
        embedder = self._embedder
        if embedder is None or not item.units:
            return Outputs({t: t.empty() for t in self.writes})
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        plans = {r.segment_id: r for r in CLIP_PLANS.rows(inputs.read(CLIP_PLANS))}
        said = inputs.read(CAPTIONS)
        ids, texts = CaptionRow.segment_id.values(said), CaptionRow.caption.values(said)
        captions = dict(zip(ids, texts, strict=True))

        def measure(unit: str) -> Rows:
            plan, _ = plan_of(unit, plans)
            frames = stills(inputs.media, segments[unit], plan, self._n)
            vector = mean_direction(embedder.pictures([f.rgb for f in frames]))
            row = ClipVectorRow(
                segment_id=unit, source_id=item.source_id, vector=vector.tolist(), n_frames=len(frames),
                annotator=embedder.name,
            )  # fmt: skip
            return {CLIP_VECTORS: [row], CLIP_SCORES: [self._scores(row, vector, captions.get(unit, ""), embedder)]}

        return each_unit(item.units, measure)

    def _scores(
        self, row: ClipVectorRow, vector: FloatArray, caption: str, embedder: ImageTextEmbedder
    ) -> ClipScoreRow:
        head = self._aesthetic
        return ClipScoreRow(
            segment_id=row.segment_id,
            source_id=row.source_id,
            aesthetic=None if head is None else float(head.score(vector[None])[0]),
            caption_similarity=float(embedder.texts([caption])[0] @ vector) if caption else None,
            annotator=embedder.name if head is None else f"{embedder.name}+{head.name}",
        )
