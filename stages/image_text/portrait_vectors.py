"""Stage `portrait_vectors`: each embedded portrait of a live track, as one vector.

References are chosen among these portraits across the whole dataset, so a reference's vector is the one of its track
and grid index, and it is of the same part of the portrait. One batch a track; without a model the table stays empty.
"""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar

from annotators.imagetext.embedder import ImageTextEmbedder
from annotators.parts import Part, part
from annotators.shipped import IMAGE_TEXT_EMBEDDERS
from curation.media.encode import decode_jpeg, jpeg_part
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import FACE_EMBEDDINGS, PORTRAIT_VECTORS, PORTRAITS, TRACKLETS
from schemas.tables.people import FaceEmbeddingRow
from schemas.tables.vectors import PortraitVectorRow
from stages.face_series import tracklets_of
from stages.references.embedding import portrait_images


class PortraitVectorsSettings(StageSettings):
    """Which model."""

    embedder: Part[ImageTextEmbedder | None] = part(
        IMAGE_TEXT_EMBEDDERS,
        "vectors of pictures and words, as in `clip_vectors`",
        auto=("open_clip", "none"),
        by_default="none",
        shared="image_text",
    )


class PortraitVectors:
    """Stage: embed what may become a reference image."""

    name: ClassVar[str] = "portrait_vectors"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (FACE_EMBEDDINGS, TRACKLETS, PORTRAITS)
    writes: ClassVar[tuple[Table, ...]] = (PORTRAIT_VECTORS,)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = PortraitVectorsSettings

    def __init__(self, settings: PortraitVectorsSettings) -> None:
        """Load the model. Raises PartNotInstalledError, WeightsNotFound, WeightsMismatch."""
        self._embedder = settings.embedder.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Embed the portraits of the item's tracks; a track without any has no row."""
        embedder = self._embedder
        if embedder is None or not item.units:
            return Outputs({t: t.empty() for t in self.writes})
        portraits: dict[str, dict[int, list[float]]] = defaultdict(dict)
        rows = inputs.read(FACE_EMBEDDINGS).select([c.name for c in _PORTRAIT])
        for row in FACE_EMBEDDINGS.rows(rows):
            portraits[row.track_id][row.k] = row.part_xywh
        live = set(item.units)
        track_of = {k: v for k, v in tracklets_of(inputs.read(TRACKLETS)).items() if v in live}
        wanted = {track: set(found) for track, found in portraits.items() if track in live}
        images = portrait_images(inputs, track_of, wanted)

        def measure(track: str) -> Rows:
            shown = sorted(portraits[track].items())
            pictures = [decode_jpeg(jpeg_part(images[track, k].image, part)) for k, part in shown]
            vectors = embedder.pictures(pictures)
            return {
                PORTRAIT_VECTORS: [
                    PortraitVectorRow(
                        track_id=track, source_id=item.source_id, k=k, vector=vector.tolist(), annotator=embedder.name
                    )
                    for (k, _), vector in zip(shown, vectors, strict=True)
                ]
            }

        return each_unit(item.units, measure)


_PORTRAIT = (FaceEmbeddingRow.track_id, FaceEmbeddingRow.k, FaceEmbeddingRow.part_xywh)
