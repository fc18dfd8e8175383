"""Overlaid text without the features of faces. Pure; a millisecond a minute.

Eyes, brows and mouths look like lines of text to a text detector, and on a person who listens at rest they hold as
still as overlaid text does. Text across a face is wider than its features are.
"""

from __future__ import annotations

import pandas as pd

from annotators.overlay import covered
from annotators.panels import Region

FEATURE_WIDTH = 0.5
"""A box inside a face and narrower than this share of it is one of its features. Eyes measured 0.17-0.3 of the box."""


def without_features(layout: pd.DataFrame, faces: pd.DataFrame, width: int, height: int) -> pd.DataFrame:
    """Return LAYOUT rows with `text_boxes` and `text_area` less what lies on the features of a face.

    Args:
        layout: LAYOUT rows.
        faces: FACE_FRAMES rows; boxes in pixels.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    texts = layout["text_boxes"].map(len) > 0 if len(layout) else pd.Series(dtype=bool)
    if not texts.any() or not len(faces):
        return layout
    near = dict(iter(faces[faces["k"].isin(layout.loc[texts, "k"])].groupby("k")))
    boxes, areas = layout["text_boxes"].tolist(), layout["text_area"].tolist()
    for i, (k, flat) in enumerate(zip(layout["k"], boxes, strict=True)):
        if not len(flat) or k not in near:
            continue
        found = [Region(flat[j], flat[j + 1], flat[j + 2], flat[j + 3], 1.0) for j in range(0, len(flat), 4)]
        columns = (near[k]["x"] / width, near[k]["y"] / height, near[k]["w"] / width, near[k]["h"] / height)
        kept = [r for r in found if not any(_feature(r, *face) for face in zip(*columns, strict=True))]
        if len(kept) < len(found):
            boxes[i] = [v for r in kept for v in (r.x0, r.y0, r.x1, r.y1)]
            areas[i] = covered(tuple(kept))
    return layout.assign(text_boxes=boxes, text_area=areas)


def _feature(box: Region, x: float, y: float, w: float, h: float) -> bool:
    inside = x <= box.x0 and box.x1 <= x + w and y <= box.y0 and box.y1 <= y + h
    return inside and box.x1 - box.x0 < FEATURE_WIDTH * w
