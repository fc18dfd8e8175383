"""The person crop of a clip: head and shoulders around one face, still for the whole clip. Pure geometry.

The crop holds the face in all its positions, stays inside the picture (and inside the person's panel, clear of black
bars), keeps half-way from other people's faces where that leaves room, and has the wanted aspect unless the face
itself does not fit. Microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle in pixels with edges x0 < x1, y0 < y1; continuous coordinates, 0 = left edge of the first pixel."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def w(self) -> float:
        """Width in pixels."""
        return self.x1 - self.x0

    @property
    def h(self) -> float:
        """Height in pixels."""
        return self.y1 - self.y0

    def holds(self, other: Rect) -> bool:
        """Say whether `other` lies inside, up to rounding."""
        return (
            self.x0 <= other.x0 + 1e-6
            and self.y0 <= other.y0 + 1e-6
            and self.x1 >= other.x1 - 1e-6
            and self.y1 >= other.y1 - 1e-6
        )

    def meets(self, other: Rect) -> bool:
        """Say whether the two share any area."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def within(self, other: Rect) -> Rect:
        """Return the common part; raise ValueError when there is none."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"{self} and {other} share no area")
        return Rect(x0, y0, x1, y1)


@dataclass(frozen=True, slots=True)
class CropShape:
    """What a person crop looks like; margins are in sizes of the face box (forehead to chin).

    The defaults show head, neck and shoulders: a still face is 29 % of the crop's height.
    """

    aspect: float = 1.0
    above: float = 0.9
    below: float = 1.6
    beside: float = 0.9


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop in whole pixels, and how many other people's faces it could not leave out."""

    x: int
    y: int
    w: int
    h: int
    other_faces: int


def face_union(boxes_xywh: FloatArray) -> Rect:
    """Return the rectangle around all positions [n, 4] (x, y, w, h) of one face; n must be at least 1."""
    if len(boxes_xywh) == 0:
        raise ValueError("no face box: the person is never seen in this stretch")
    low = boxes_xywh[:, :2].min(axis=0)
    high = (boxes_xywh[:, :2] + boxes_xywh[:, 2:]).max(axis=0)
    return Rect(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def person_crop(boxes_xywh: FloatArray, others: Sequence[Rect], bounds: Rect, shape: CropShape) -> Crop:
    """Return the crop of one person.

    Args:
        boxes_xywh: the person's face boxes over the clip [n, 4], pixels.
        others: for each other person seen during the clip, the rectangle around their face.
        bounds: where the crop may lie: the picture without bars, or the person's panel.
        shape: margins and aspect.

    Raises:
        ValueError: no face box, or the face lies outside `bounds`.
    """
    face = face_union(boxes_xywh).within(bounds)
    width, height = (float(v) for v in np.median(boxes_xywh[:, 2:], axis=0))
    want = _with_aspect(face, width, height, shape)
    room = _room(face, others, bounds)
    for allowed, aspect in ((room, shape.aspect), (bounds, shape.aspect), (bounds, None)):
        crop = _fit(want, face, allowed, aspect, shape)
        if crop is not None:
            whole = _whole(crop, bounds)
            hit = sum(other.meets(Rect(whole.x, whole.y, whole.x + whole.w, whole.y + whole.h)) for other in others)
            return Crop(whole.x, whole.y, whole.w, whole.h, hit)
    raise AssertionError("the face lies inside the bounds, so the last attempt fits")


def output_size(crop_w: int, crop_h: int, short_side_px: int, max_upscale: float) -> tuple[int, int]:
    """Return the encoded width and height: even, the shorter side `short_side_px` unless that enlarges too much."""
    scale = min(short_side_px / min(crop_w, crop_h), max_upscale)
    return max(2, 2 * round(crop_w * scale / 2)), max(2, 2 * round(crop_h * scale / 2))


def _with_aspect(face: Rect, width: float, height: float, shape: CropShape) -> tuple[float, float]:
    """Return the wanted (width, height): margins around the face's whole motion, then grown to the aspect."""
    w = face.w + 2 * shape.beside * width
    h = face.h + (shape.above + shape.below) * height
    return max(w, h * shape.aspect), max(h, w / shape.aspect)


def _room(face: Rect, others: Sequence[Rect], bounds: Rect) -> Rect:
    """Return `bounds` cut half-way to each other face, along the axis on which the two are further apart."""
    x0, y0, x1, y1 = bounds.x0, bounds.y0, bounds.x1, bounds.y1
    for other in others:
        gap_x = max(face.x0 - other.x1, other.x0 - face.x1)
        gap_y = max(face.y0 - other.y1, other.y0 - face.y1)
        if max(gap_x, gap_y) < 0:
            continue  # the faces cross: no straight line parts them
        if gap_x >= gap_y:
            if other.x1 <= face.x0:
                x0 = max(x0, (other.x1 + face.x0) / 2)
            else:
                x1 = min(x1, (face.x1 + other.x0) / 2)
        elif other.y1 <= face.y0:
            y0 = max(y0, (other.y1 + face.y0) / 2)
        else:
            y1 = min(y1, (face.y1 + other.y0) / 2)
    return Rect(x0, y0, x1, y1)


def _fit(want: tuple[float, float], face: Rect, allowed: Rect, aspect: float | None, shape: CropShape) -> Rect | None:
    """Return the largest crop up to `want` inside `allowed` that holds the face, or None."""
    w, h = min(want[0], allowed.w), min(want[1], allowed.h)
    ratio = shape.aspect if aspect is None else aspect
    w, h = min(w, h * ratio), min(h, w / ratio)
    if aspect is None:  # no more than the face needs: clips of one shape are easier to batch
        w, h = max(w, face.w), max(h, face.h)
    if w < face.w - 1e-6 or h < face.h - 1e-6:
        return None
    top = shape.above / (shape.above + shape.below)
    x0 = _place(face.x0 - (w - face.w) / 2, w, face.x0, face.x1, allowed.x0, allowed.x1)
    y0 = _place(face.y0 - top * (h - face.h), h, face.y0, face.y1, allowed.y0, allowed.y1)
    return Rect(x0, y0, x0 + w, y0 + h)


def _place(wish: float, size: float, face0: float, face1: float, low: float, high: float) -> float:
    """Return the start nearest to `wish` of a span that holds [face0, face1) and stays inside [low, high)."""
    return min(max(wish, low, face1 - size), high - size, face0)


def _whole(crop: Rect, bounds: Rect) -> Crop:
    """Round to whole pixels without leaving the (whole-pixel part of the) bounds."""
    left, top = int(np.ceil(bounds.x0 - 1e-6)), int(np.ceil(bounds.y0 - 1e-6))
    right, bottom = int(np.floor(bounds.x1 + 1e-6)), int(np.floor(bounds.y1 + 1e-6))
    w, h = min(round(crop.w), right - left), min(round(crop.h), bottom - top)
    x = min(max(round(crop.x0), left), right - w)
    y = min(max(round(crop.y0), top), bottom - h)
    return Crop(x, y, w, h, 0)
