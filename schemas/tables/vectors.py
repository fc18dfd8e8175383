"""Tables of vectors that pictures and words share: for search, near duplicates and scores. Empty without a model."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.packed import SCORES
from schemas.row import Row
from schemas.table import Table


class ClipVectorRow(Row):
    """What a segment's clip shows, as one vector."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    vector: Column[list[float]] = c.reals("mean direction of some of its pictures' vectors, of length 1")
    n_frames: Column[int] = c.index("pictures that were embedded")
    annotator: Column[str] = c.text("the model; vectors of equal names alone may be compared")


CLIP_VECTORS = Table(ClipVectorRow, "clip_vectors", (ClipVectorRow.segment_id,))


class ClipScoreRow(Row):
    """What a segment's vector says."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    aesthetic: Column[float | None] = c.real(
        "how pleasing the picture is, on the head's own scale; null = no head is chosen", null=True, packed=SCORES
    )
    caption_similarity: Column[float | None] = c.real(
        "cosine between the clip's vector and its caption's, the model's own scale; null = no caption",
        "-1 to 1",
        null=True,
        packed=SCORES,
    )
    annotator: Column[str] = c.text("the model, and the head where there is one")


CLIP_SCORES = Table(ClipScoreRow, "clip_scores", (ClipScoreRow.segment_id,))


class PortraitVectorRow(Row):
    """What a portrait shows, as one vector: a reference image is the portrait of its track and grid index."""

    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    k: Column[int] = c.grid_index()
    vector: Column[list[float]] = c.reals("vector of the portrait, or of its part that is free of text, of length 1")
    annotator: Column[str] = c.text("the model; vectors of equal names alone may be compared")


PORTRAIT_VECTORS = Table(PortraitVectorRow, "portrait_vectors", (PortraitVectorRow.track_id, PortraitVectorRow.k))


class NearClipRow(Row):
    """Which clip of another source shows nearly the same."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    near_clip: Column[str | None] = c.text(
        "the most similar segment among those of other sources with a smaller id; null = there is none", null=True
    )
    near_clip_similarity: Column[float | None] = c.real(
        "cosine between the two vectors, the model's own scale; null likewise", "-1 to 1", null=True
    )


NEAR_CLIPS = Table(NearClipRow, "near_clips", (NearClipRow.segment_id,), grain="dataset")
