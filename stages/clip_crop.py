"""The crop of one segment from the measured faces and layout, as packing cuts it and captions describe it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from curation.stage import StageSettings
from schemas.time import Interval, grid_range
from stages.face_series import Columns, between, boxes
from stages.packing_bounds import person_bounds
from stages.packing_crop import Crop, CropShape, Rect, face_union, person_crop

Row = Mapping[str, Any]


class CropSettings(StageSettings):
    """The person crop; captions describe the same picture when `performance` and `packing` agree in these."""

    aspect: float = Field(1.0, gt=0.2, lt=5, description="width / height of the person crop: 1 square, 0.75 upright")
    margin_above: float = Field(0.9, ge=0, description="room above the face box, in face heights")
    margin_below: float = Field(1.6, ge=0, description="room below the face box, in face heights")
    margin_beside: float = Field(0.9, ge=0, description="room at each side of the face box, in face widths")

    @property
    def shape(self) -> CropShape:
        """The settings as geometry."""
        return CropShape(self.aspect, self.margin_above, self.margin_below, self.margin_beside)


def clip_bounds(
    segment: Row, faces: Mapping[str, Columns], layout: Sequence[Row], size: tuple[int, int]
) -> tuple[Rect, Rect]:
    """Return (rectangle around the person's face over the segment, where the crop may lie) in pixels.

    Raises ValueError when the person has no face box inside the segment.
    """
    ks = grid_range(Interval(segment["start_s"], segment["end_s"]))
    track = segment["track_id"]
    mine = boxes(between(faces[track], ks)) if track in faces else np.zeros((0, 4))
    if not len(mine):
        raise ValueError(f"segment {segment['segment_id']} has no face box of {track}")
    near = [r for r in layout if ks.start <= r["k"] < ks.stop]
    if not near and layout:  # shorter than the measuring interval
        near = [min(layout, key=lambda r: (abs(r["k"] - (ks.start + ks.stop) / 2), r["k"]))]
    face = face_union(mine)
    return face, person_bounds(near, face, *size)


def clip_crop(
    segment: Row, faces: Mapping[str, Columns], layout: Sequence[Row], size: tuple[int, int], shape: CropShape
) -> Crop:
    """Return the person crop of a segment in a picture of `size` (width, height).

    `faces` are the tracks' series (k, x, y, w, h) of the whole source; `layout` its LAYOUT rows. Raises ValueError
    when the person has no face box inside the segment.
    """
    _, bounds = clip_bounds(segment, faces, layout, size)
    ks = grid_range(Interval(segment["start_s"], segment["end_s"]))
    seen = {track: boxes(between(series, ks)) for track, series in faces.items()}
    mine = seen.pop(segment["track_id"])
    others = [face_union(b) for _, b in sorted(seen.items()) if len(b)]
    visible = [other.within(bounds) for other in others if other.meets(bounds)]
    return person_crop(mine, visible, bounds, shape)
