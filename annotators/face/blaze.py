"""BlazeFace's answers read: anchors, boxes, suppression, and the turned rectangles in which landmarks are looked for.

The algorithm is that of MediaPipe's face detector graph (Apache-2.0) with the short-range model, written anew; the same
numbers come out. About 0.1 ms a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.protocols import FloatArray

INPUT_PX = 128
"""Side of the picture that the detector reads."""

_STRIDES_AND_ANCHORS = ((8, 2), (16, 6))  # pixels between cells, anchors in each
_MIN_OVERLAP = 0.5
_ENLARGED = 1.5

# From middle and size of a box, and two eyes, to its left, top, right and bottom, and the eyes; four points are left.
_TO_CORNERS = np.eye(16, 8, dtype=np.float32)
_TO_CORNERS[:4, :4] = [(1, 0, 1, 0), (0, 1, 0, 1), (-0.5, 0, 0.5, 0), (0, -0.5, 0, 0.5)]


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle about a face: its centre, width and height in shares of a square picture's side, and its turn.

    The turn is in radians, clockwise as seen in the picture; the origin is the picture's top left corner.
    """

    x: float
    y: float
    w: float
    h: float
    angle: float

    def to_picture(self) -> npt.NDArray[np.float64]:
        """Return the affine map [2, 3] from the rectangle's own unit square, level, to the picture's."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        right, down = (cos * self.w, sin * self.w), (-sin * self.h, cos * self.h)
        left, top = self.x - (right[0] + down[0]) / 2, self.y - (right[1] + down[1]) / 2
        return np.array([(right[0], down[0], left), (right[1], down[1], top)])


class BlazeReader:
    """Reads the faces out of the detector's two outputs; `min_score` in [0, 1] is the lowest that counts."""

    def __init__(self, min_score: float) -> None:
        self._min_logit = _logit(min_score)
        self._anchors = np.tile(anchor_centres(), 4)

    def regions(self, regressors: FloatArray, logits: FloatArray, at_most: int) -> list[Region]:
        """Return where the faces are, the best first.

        `regressors` [896, 16] hold middle, size and six points (the eyes first) in pixels, all but the size from the
        anchor; `logits` [896] are the scores before the sigmoid. Boxes that share more than half of their union with
        the best one are averaged with it by their scores.
        """
        chosen = (logits >= self._min_logit).nonzero()[0]
        faces = regressors.take(chosen, axis=0) @ _TO_CORNERS + self._anchors.take(chosen, axis=0)
        scores = 1 / (1 + np.exp(-logits.take(chosen).astype(np.float64)))
        low, high = faces[:, :2], faces[:, 2:4]
        areas = _product(high - low)
        found: list[Region] = []
        while len(found) < at_most and scores.any():
            best = int(scores.argmax())
            sides = np.minimum(high, high[best]) - np.maximum(low, low[best])
            shared = _product(np.maximum(sides, 0))
            same = shared > _MIN_OVERLAP * (areas + areas[best] - shared)
            same[best] = True  # as it is, but for a box without an area
            weights = scores * same
            found.append(_region((weights @ faces / weights.sum()).tolist()))
            scores[same] = 0
        return found


def anchor_centres() -> FloatArray:
    """Return [896, 2]: x, y of the anchors in pixels, at the middles of the cells of two grids, row by row."""
    grids = []
    for stride, per_cell in _STRIDES_AND_ANCHORS:
        middles = (np.arange(INPUT_PX // stride, dtype=np.float32) + 0.5) * stride
        x, y = np.meshgrid(middles, middles)
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1).repeat(per_cell, axis=0))
    return np.concatenate(grids)


def _region(face: list[float]) -> Region:
    """Return the rectangle about a box and two eyes, enlarged, turned so that the line between the eyes lies level."""
    left, top, right, bottom, eye_x, eye_y, other_x, other_y = (value / INPUT_PX for value in face)
    w, h = _ENLARGED * (right - left), _ENLARGED * (bottom - top)
    return Region((left + right) / 2, (top + bottom) / 2, w, h, math.atan2(other_y - eye_y, other_x - eye_x))


def _product(sides: FloatArray) -> FloatArray:
    product: FloatArray = sides[:, 0] * sides[:, 1]
    return product


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.log(score / (1 - score)) if score < 1 else math.inf
