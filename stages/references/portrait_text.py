"""How much of a portrait is under burnt-in text, and which part of it is not: where the portrait lay in the picture,
against the layout's boxes.

The layout is measured once a second, subtitles change in between, and the detector misses some of their words; so the
text of the measurements on both sides of a portrait counts, and where it must be clean, that of some seconds around it:
captions come back in one place. Pure; microseconds a portrait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.tables.scan import LayoutRow
from stages.clip_plan.framing import Rect
from stages.face_series import BOX, Series

SIDE, DOWN = 2.2, 0.6
"""A portrait's side in longer sides of the face box, and how far down the box its centre lies (see the scan)."""
AROUND = 100
"""Grid points (4 s) to both sides: a sentence of captions."""


def portrait_rect(faces: Series, row: int, size: tuple[int, int]) -> Rect | None:
    """Return a portrait's place in the picture as shares of it, from its face's row; None without a row."""
    if BOX[0] not in faces or row >= len(faces):
        return None
    x, y, w, h = (float(faces[c][row]) for c in BOX)
    half = SIDE * max(w, h) / 2
    cx, cy = x + w / 2, y + DOWN * h
    width, height = size
    return Rect(
        max(0.0, cx - half) / width,
        max(0.0, cy - half) / height,
        min(float(width), cx + half) / width,
        min(float(height), cy + half) / height,
    )


def face_rect(faces: Series, row: int, size: tuple[int, int]) -> Rect | None:
    """Return the face of a portrait in the picture as shares of it; None without a row."""
    if BOX[0] not in faces or row >= len(faces):
        return None
    x, y, w, h = (float(faces[c][row]) for c in BOX)
    width, height = size
    return Rect(x / width, y / height, (x + w) / width, (y + h) / height)


def text_share(layout: Sequence[LayoutRow], k: int, rect: Rect | None, around: int = 0) -> float | None:
    """Return the largest share of a rectangle that text covers next to grid point `k`; None if unknown.

    What counts are the measurements on both sides, and all within `around` grid points.
    """
    if rect is None or not layout or rect.x1 <= rect.x0 or rect.y1 <= rect.y0:
        return None
    return max(_covered(boxes, rect) for boxes in _near(layout, k, around))


def clear_part(layout: Sequence[LayoutRow], k: int, rect: Rect, face: Rect, around: int = 0) -> Rect | None:
    """Return the part of a rectangle that no text of `text_share` reaches and that shows the whole head.

    Each side is drawn in until the text on it is out. None where there is no text, or where it leaves too little.
    """
    x0, y0, x1, y1 = rect.x0, rect.y0, rect.x1, rect.y1
    for boxes in _near(layout, k, around):
        for left, top, right, bottom in boxes.tolist():
            if left >= x1 or right <= x0 or top >= y1 or bottom <= y0:
                continue
            room = {"y1": top - face.y1, "y0": face.y0 - bottom, "x0": face.x0 - right, "x1": left - face.x1}
            side = max(room, key=lambda s: room[s] / (face.h if s[0] == "y" else face.w))
            if side == "y1":
                y1 = top
            elif side == "y0":
                y0 = bottom
            elif side == "x0":
                x0 = right
            else:
                x1 = left
    part = Rect(x0, y0, x1, y1)
    head = Rect(face.x0 - 0.2 * face.w, face.y0 - 0.3 * face.h, face.x1 + 0.2 * face.w, face.y1 + 0.1 * face.h)
    whole = x0 <= max(head.x0, rect.x0) and y0 <= max(head.y0, rect.y0)
    whole &= x1 >= min(head.x1, rect.x1) and y1 >= min(head.y1, rect.y1)
    return part if whole and part != rect else None


def _near(layout: Sequence[LayoutRow], k: int, around: int) -> list[np.ndarray[Any, Any]]:
    """Return the text boxes [N, 4] of the measurements on both sides of a grid point and within `around` of it."""
    before = max((r.k for r in layout if r.k <= k), default=None)
    after = min((r.k for r in layout if r.k >= k), default=None)
    near = [r for r in layout if r.k in (before, after) or abs(r.k - k) <= around]
    return [np.reshape(r.text_boxes, (-1, 4)) for r in near]


def _covered(boxes: np.ndarray[Any, Any], rect: Rect) -> float:
    """Return the share of a rectangle under boxes; overlapping ones count twice, up to the whole."""
    area = (rect.x1 - rect.x0) * (rect.y1 - rect.y0)
    wide = np.minimum(boxes[:, 2], rect.x1) - np.maximum(boxes[:, 0], rect.x0)
    high = np.minimum(boxes[:, 3], rect.y1) - np.maximum(boxes[:, 1], rect.y0)
    return float(min(1.0, (np.maximum(wide, 0.0) * np.maximum(high, 0.0)).sum() / area))
