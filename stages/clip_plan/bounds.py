"""Where a person's crop may lie: the picture without bars, and inside the panel or inset that shows the person.

The layout is measured every two seconds or so and may waver; a border counts when at least half of a clip's
measurements have it. Pure; microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from schemas.tables.scan import LayoutRow
from stages.clip_plan.framing import Rect

_SAME = 0.03
"""Borders of two measurements that lie this near (share of the picture) are one border."""


def person_bounds(layout: Sequence[LayoutRow], face: Rect, width: int, height: int) -> Rect:
    """Return the rectangle in pixels that the crop of `face` must not leave.

    Args:
        layout: LAYOUT rows of the clip's time; none = the whole picture.
        face: rectangle around the face's positions, pixels.
        width, height: of the displayed picture, pixels.
    """
    picture = Rect(0, 0, width, height)
    if not layout:
        return picture
    left, top = median(r.bar_left for r in layout) * width, median(r.bar_top for r in layout) * height
    right = width - median(r.bar_right for r in layout) * width
    bottom = height - median(r.bar_bottom for r in layout) * height
    bounds = picture if left >= right or top >= bottom else Rect(left, top, right, bottom)
    x, y = (face.x0 + face.x1) / 2, (face.y0 + face.y1) / 2
    for measured in ([r.panel_boxes for r in layout], [r.inset_boxes for r in layout]):
        box = _agreed([_holding(boxes, x / width, y / height) for boxes in measured])
        if box is not None:
            frame = Rect(box[0] * width, box[1] * height, box[2] * width, box[3] * height)
            bounds = bounds.within(frame) if bounds.meets(frame) else bounds
    # A border that cuts through the face is no border of the picture that shows it.
    return bounds if bounds.meets(face) else picture


def _holding(flat: Sequence[float], x: float, y: float) -> tuple[float, ...] | None:
    """Return the box (x0, y0, x1, y1) of a flattened list that holds a point, or None."""
    for box in zip(*[iter(flat)] * 4, strict=True):
        if box[0] <= x < box[2] and box[1] <= y < box[3]:
            return box
    return None


def _agreed(boxes: Iterable[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    """Return the box (edge by edge median) that at least half of the measurements have, or None."""
    found = list(boxes)
    for box in found:
        if box is None:
            continue
        like = [b for b in found if b is not None and max(abs(p - q) for p, q in zip(b, box, strict=True)) <= _SAME]
        if 2 * len(like) >= len(found):
            return tuple(median(edge) for edge in zip(*like, strict=True))
    return None
