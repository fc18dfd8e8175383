"""Overlaid text without the features of faces. Pure; a millisecond a minute.

Eyes, brows and mouths look like lines of text to a text detector, and on a person who listens at rest they hold as
still as overlaid text does. Text across a face is wider than its features are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from annotators.picture.overlay import covered
from annotators.picture.panels import Region
from schemas.tables.scan import FaceFrameRow, LayoutRow
from stages.face_series import BOX

if TYPE_CHECKING:
    import pandas as pd

_FEATURE_WIDTH = 0.5
"""A box inside a face and narrower than this share of it is one of its features. Eyes measured 0.17-0.3 of the box."""


def without_features(layout: pd.DataFrame, faces: pd.DataFrame, width: int, height: int) -> pd.DataFrame:
    """Return LAYOUT rows with `text_boxes` and `text_area` less what lies on the features of a face.

    Args:
        layout: LAYOUT rows.
        faces: FACE_FRAMES rows; boxes in pixels.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    if not len(layout) or not len(faces):
        return layout
    texts = LayoutRow.text_boxes.of(layout).map(len) > 0
    if not texts.any():
        return layout
    ks = LayoutRow.k.of(layout)
    boxes, areas = LayoutRow.text_boxes.of(layout).tolist(), LayoutRow.text_area.of(layout).tolist()
    near = dict(iter(faces[FaceFrameRow.k.of(faces).isin(ks[texts])].groupby(FaceFrameRow.k.name)))
    for i, (k, flat) in enumerate(zip(ks, boxes, strict=True)):
        if not len(flat) or k not in near:
            continue
        found = [Region(flat[j], flat[j + 1], flat[j + 2], flat[j + 3], 1.0) for j in range(0, len(flat), 4)]
        x, y, w, h = (column.of(near[k]) for column in BOX)
        there = list(zip(x / width, y / height, w / width, h / height, strict=True))
        kept = [r for r in found if not any(_feature(r, *face) for face in there)]
        if len(kept) < len(found):
            boxes[i] = [v for r in kept for v in (r.x0, r.y0, r.x1, r.y1)]
            areas[i] = covered(tuple(kept))
    out = layout.copy(deep=False)
    out[LayoutRow.text_boxes.name], out[LayoutRow.text_area.name] = boxes, areas
    return out


def _feature(box: Region, x: float, y: float, w: float, h: float) -> bool:
    inside = x <= box.x0 and box.x1 <= x + w and y <= box.y0 and box.y1 <= y + h
    return inside and box.x1 - box.x0 < _FEATURE_WIDTH * w
