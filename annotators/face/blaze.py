"""Blaze detectors' answers read: anchors, boxes, suppression, and the turned rectangles about faces.

The algorithm is that of MediaPipe's detector graphs (Apache-2.0), written anew; the same numbers come out. Of faces it
is the short-range model; the detectors of bodies and palms differ by the numbers in `Blaze`. About 0.1 ms a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.protocols import FloatArray

INPUT_PX = 128
"""Side of the picture that the detector reads."""

_ENLARGED = 1.5
_SIDES_AN_OCTAVE, _MIDDLES_A_SIDE, _TURNS_A_RADIAN = 32, 128, 64


@dataclass(frozen=True, slots=True)
class Blaze:
    """A detector: side of its picture, grids of anchors, what it tells of each, and what is read of that."""

    input_px: int
    grids: tuple[tuple[int, int], ...]
    """pixels between the cells of a grid, anchors in each of them"""
    n_points: int
    """points told of each box, after its middle and size"""
    points: tuple[int, int]
    """the two of them that are read"""
    min_overlap: float
    """boxes that share more than this of their union are one"""

    def to_corners(self) -> FloatArray:
        """Return [4 + 2 * n_points, 8]: from middle, size and points to left, top, right, bottom and two points."""
        out = np.zeros((4 + 2 * self.n_points, 8), np.float32)
        out[:4, :4] = [(1, 0, 1, 0), (0, 1, 0, 1), (-0.5, 0, 0.5, 0), (0, -0.5, 0, 0.5)]
        for column, point in zip((4, 6), self.points, strict=True):
            out[4 + 2 * point, column] = out[5 + 2 * point, column + 1] = 1
        return out


FACES = Blaze(INPUT_PX, ((8, 2), (16, 6)), n_points=6, points=(0, 1), min_overlap=0.5)
"""The short-range face detector; the two points are the eyes."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle: its centre, width and height, in pixels or in shares of a square picture's side, and its turn.

    The turn is in radians, clockwise as seen in the picture; the origin is the picture's top left corner.
    """

    x: float
    y: float
    w: float
    h: float
    angle: float

    def on_grid(self) -> Region:
        """Return the nearest square of a grid of places, sizes and turns; its unit must be the pixel.

        What differs by rounding is mostly the same then. The steps are small against how a detector's regions lie.
        """
        angle = round(self.angle * _TURNS_A_RADIAN) / _TURNS_A_RADIAN
        side = 2 ** (round(math.log2(max(self.w, self.h)) * _SIDES_AN_OCTAVE) / _SIDES_AN_OCTAVE)
        step = side / _MIDDLES_A_SIDE
        return Region(round(self.x / step) * step, round(self.y / step) * step, side, side, angle)

    def to_picture(self) -> npt.NDArray[np.float64]:
        """Return the affine map [2, 3] from the rectangle's own unit square, level, to the picture's."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        right, down = (cos * self.w, sin * self.w), (-sin * self.h, cos * self.h)
        left, top = self.x - (right[0] + down[0]) / 2, self.y - (right[1] + down[1]) / 2
        return np.array([(right[0], down[0], left), (right[1], down[1], top)])


class BlazeReader:
    """Reads a detector's two outputs; `min_score` in [0, 1] is the lowest that counts."""

    def __init__(self, min_score: float, blaze: Blaze = FACES) -> None:
        self._min_logit = _logit(min_score)
        self._min_overlap = blaze.min_overlap
        self._to_corners = blaze.to_corners()
        self._anchors = np.tile(anchor_centres(blaze), 4)

    def regions(self, regressors: FloatArray, logits: FloatArray, at_most: int) -> list[Region]:
        """Return where faces are looked at closely, in shares of the picture's side, the best first."""
        return [_region(box) for box in self.boxes(regressors, logits, at_most)]

    def boxes(self, regressors: FloatArray, logits: FloatArray, at_most: int) -> list[list[float]]:
        """Return (left, top, right, bottom, x, y, x, y) of boxes and two points, in pixels, the best first.

        `regressors` [anchors, 4 + 2 * n_points] hold middle, size and points in pixels, all but the size from the
        anchor; `logits` [anchors] are the scores before the sigmoid. Boxes that overlap the best one are averaged
        with it by their scores.
        """
        chosen = (logits >= self._min_logit).nonzero()[0]
        boxes = regressors.take(chosen, axis=0) @ self._to_corners + self._anchors.take(chosen, axis=0)
        scores = 1 / (1 + np.exp(-logits.take(chosen).astype(np.float64)))
        low, high = boxes[:, :2], boxes[:, 2:4]
        areas = _product(high - low)
        found: list[list[float]] = []
        while len(found) < at_most and scores.any():
            best = int(scores.argmax())
            sides = np.minimum(high, high[best]) - np.maximum(low, low[best])
            shared = _product(np.maximum(sides, 0))
            same = shared > self._min_overlap * (areas + areas[best] - shared)
            same[best] = True  # as it is, but for a box without an area
            weights = scores * same
            found.append((weights @ boxes / weights.sum()).tolist())
            scores[same] = 0
        return found


def anchor_centres(blaze: Blaze = FACES) -> FloatArray:
    """Return [anchors, 2]: x, y of the anchors in pixels, at the middles of the cells of the grids, row by row."""
    grids = []
    for stride, per_cell in blaze.grids:
        middles = (np.arange(blaze.input_px // stride, dtype=np.float32) + 0.5) * stride
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
