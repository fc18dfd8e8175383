"""Bodies in a picture, by the networks of MediaPipe's pose landmarker (BlazePose).

The steps are those of MediaPipe's task (Apache-2.0) on single pictures, written anew over the bare networks; on 198
crops of real footage it finds the same bodies, half of the points within 0.003 px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from annotators.face.blaze import Blaze, BlazeReader, Region
from annotators.models.pruning import without_output
from annotators.models.sampler import Sampler, give
from annotators.models.tflite import TfliteNetwork
from annotators.models.weights import resolve
from annotators.protocols import FloatArray, Image

DETECTOR, LANDMARKS = "pose_detection.tflite", "pose_landmark_full.tflite"

_BODIES = Blaze(224, ((8, 2), (16, 2), (32, 6)), n_points=4, points=(0, 1), min_overlap=0.5)
"""The two points are the hips' middle and one as far up as the body reaches."""
_INPUT_PX = 256
_ENLARGED = 1.25
_MASK = 2
"""Number of the landmark network's output that is the person's mask; nobody reads it."""
_POINTS = 33
_VALUES = 5
"""Numbers told of a point: x, y, z, logit of its visibility, logit of its presence."""

# A point is moved to the middle of its heat: cells of a side, cells looked at on each side, heat below which it stays.
_CELLS, _MIN_HEAT = 64, 0.5
_WINDOW = np.arange(-3, 4)


@dataclass(frozen=True, eq=False)
class Pose:
    """A body: `points` [33, 2] in pixels, the rest as in `protocols_body.Body`."""

    points: FloatArray
    visibility: FloatArray
    world: FloatArray


@dataclass(frozen=True, slots=True)
class Near:
    """Only bodies are looked at closely whose head lies within `reach` of a point, all in pixels."""

    x: float
    y: float
    reach: float


class PoseLandmarker:
    """Finds bodies with at least `min_score` in [0, 1]. One thread at a time."""

    def __init__(self, min_score: float) -> None:
        """Load the networks. Raises WeightsNotFound."""
        self._detector = TfliteNetwork(resolve(DETECTOR).read_bytes())
        self._landmarks = TfliteNetwork(without_output(resolve(LANDMARKS).read_bytes(), _MASK))
        self._min_score = min_score
        self._reader = BlazeReader(min_score, _BODIES)
        self._small, self._close = Sampler(_BODIES.input_px, black=True), Sampler(_INPUT_PX)

    def poses(self, rgb: Image, at_most: int, near: Near | None = None) -> list[Pose]:
        """Return the bodies of a picture, those that the detector is surest of first."""
        found = []
        for head, region in self._regions(rgb, at_most):
            if near is None or math.hypot(head[0] - near.x, head[1] - near.y) <= near.reach:
                found.append(self._pose(rgb, region))
        return [pose for pose in found if pose is not None]

    def close(self) -> None:
        """Release the networks; they cannot be used afterwards."""
        self._detector.close()
        self._landmarks.close()

    def _regions(self, rgb: Image, at_most: int) -> list[tuple[tuple[float, float], Region]]:
        """Return the middles of heads, and where their bodies are looked at closely."""
        height, width = rgb.shape[:2]
        side = max(width, height)
        give(
            self._small.of(rgb, Region(width / 2, height / 2, side, side, 0.0).to_picture()),
            self._detector.input(),
            signed=True,
        )
        regressors, logits = self._detector.run()
        scale, corner = side / _BODIES.input_px, ((width - side) / 2, (height - side) / 2)
        out = []
        for box in self._reader.boxes(regressors[0], logits[0, :, 0], at_most):
            corners = np.array(box).reshape(4, 2) * scale + corner
            head_x, head_y = corners[:2].mean(axis=0).tolist()
            out.append(((head_x, head_y), body_region(*corners[2:])))
        return out

    def _pose(self, rgb: Image, region: Region) -> Pose | None:
        """Return the body in a region of a picture, both in its pixels; None where the network sees none."""
        to_picture = region.to_picture()
        give(self._close.of(rgb, to_picture), self._landmarks.input())
        flat, score, *_, heat, world = self._landmarks.run()
        if float(score.item()) < self._min_score:
            return None
        told = flat.reshape(-1, _VALUES)[:_POINTS]
        at = refined(told[:, :2] / np.float32(_INPUT_PX), heat[0])
        points = (at @ to_picture[:, :2].T + to_picture[:, 2]).astype(np.float32)
        cos, sin = math.cos(region.angle), math.sin(region.angle)
        turn = np.array([(cos, sin, 0), (-sin, cos, 0), (0, 0, 1)], np.float32)
        metres = world.reshape(-1, 3)[:_POINTS] @ turn
        return Pose(points, _sigmoid(told[:, 3]), metres)


def body_region(hips: FloatArray, reach: FloatArray) -> Region:
    """Return the square about the middle of the hips (x, y), reaching beyond how far the body reaches up from it."""
    (x, y), (to_x, to_y) = hips.tolist(), reach.tolist()
    side = 2 * _ENLARGED * max(1.0, math.hypot(to_x - x, to_y - y))
    return Region(x, y, side, side, math.atan2(to_x - x, y - to_y))


def refined(at: FloatArray, heat: FloatArray) -> FloatArray:
    """Return points [n, 2], in shares of a side, moved to the middles of their heat; `heat` [64, 64, >= n] are logits.

    A point stays where it is when no cell about it is hot.
    """
    cell = (at * _CELLS).astype(np.int64)
    column, row = cell[:, :1] + _WINDOW, cell[:, 1:] + _WINDOW
    inside = ((row >= 0) & (row < _CELLS))[:, :, None] & ((column >= 0) & (column < _CELLS))[:, None, :]
    n = np.arange(len(at))[:, None, None]
    logits = heat[np.clip(row, 0, _CELLS - 1)[:, :, None], np.clip(column, 0, _CELLS - 1)[:, None, :], n]
    weights = np.where(inside, _sigmoid(logits), np.float32(0))
    known = (weights.max(axis=(1, 2)) >= _MIN_HEAT) & ((cell >= 0) & (cell < _CELLS)).all(axis=1)
    total = np.where(known, weights.sum(axis=(1, 2)), np.float32(1)) * _CELLS
    x = (weights.sum(axis=1) * column).sum(axis=1) / total
    y = (weights.sum(axis=2) * row).sum(axis=1) / total
    return np.where(known[:, None], np.stack([x, y], axis=1), at).astype(np.float32)


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
