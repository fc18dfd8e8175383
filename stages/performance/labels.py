"""Human labels over captions: fields that a person gave, on the clip that shows the same stretch of the same person."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from schemas.samples.caption import PerformanceCaption
from schemas.tables.labels import CaptionLabelRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval, union_s

NEAR = 0.15
"""A face whose median centre lies within this share of the picture is at the label's place."""


def labels_of(segment: SegmentRow, track: TrackRow, labels: Iterable[CaptionLabelRow]) -> list[CaptionLabelRow]:
    """Return the labels on a clip, oldest first: the same face, and more than half of the common time."""
    own = Interval(segment.start_s, segment.end_s)

    def about(x: CaptionLabelRow) -> bool:
        span = Interval(x.start_s, x.end_s)
        near = math.hypot(x.center_x - track.center_x, x.center_y - track.center_y) <= NEAR
        return near and own.overlap_s(span) > union_s([own, span]) / 2

    return sorted((x for x in labels if about(x)), key=lambda x: (x.labelled_at, x.label_id))


def with_labels(caption: PerformanceCaption, labels: Sequence[CaptionLabelRow]) -> tuple[PerformanceCaption, list[str]]:
    """Return a caption with the labels' fields, and a sentence for each that it cannot have (any more)."""
    unfit = []
    for x in labels:
        values = {**caption.model_dump(), x.field: json.loads(x.value)}
        try:
            caption = PerformanceCaption.model_validate(values)
        except ValidationError as e:
            why = e.errors()[0]["msg"].removeprefix("Value error, ")
            unfit.append(f"{x.author} gave {x.field} as {x.value}, which does not fit: {why}")
    if labels and len(unfit) < len(labels):
        caption = caption.model_copy(update={"annotator": f"{caption.annotator}+human_label"})
    return caption, unfit
