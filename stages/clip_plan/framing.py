"""Rectangles, and what a person crop is to look like: margins around the face and aspect. Pure."""

from __future__ import annotations

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

    The plain framing shows head, neck and shoulders: a still face is 29 % of the crop's height. Half body has more room
    below: the face is 20 % then, 100 px of 512. The least margins leave the hair and the chin's outline in.
    """

    aspect: float = 1.0
    above: float = 0.9
    below: float = 1.6
    below_body: float = 3.1
    beside: float = 0.9
    least_above: float = 0.35
    least_below: float = 0.06
    least_beside: float = 0.15
    max_speed: float = 0.8
    max_zoom: float = 0.5


@dataclass(frozen=True, slots=True)
class Crop:
    """A still crop in whole pixels."""

    x: int
    y: int
    w: int
    h: int


def face_union(boxes_xywh: FloatArray) -> Rect:
    """Return the rectangle around all positions [n, 4] (x, y, w, h) of one face; n must be at least 1."""
    if len(boxes_xywh) == 0:
        raise ValueError("no face box: the person is never seen in this stretch")
    low = boxes_xywh[:, :2].min(axis=0)
    high = (boxes_xywh[:, :2] + boxes_xywh[:, 2:]).max(axis=0)
    return Rect(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
