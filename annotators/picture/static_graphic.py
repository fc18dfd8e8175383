"""Overlaid graphics such as channel logos, by a heuristic: small drawn shapes that stand still near a corner.

Edges that keep place and direction over a shot are joined into compact shapes. A filmed background that rests has such
shapes too, so a shape counts as overlaid only with one of two further signs: it is far sharper than what lies around
it (graphics are drawn on top of the lens's blur), or it stands still while the whole margin of the picture moves.
Sharpness ratios measured on talking people: 5.3-34 for overlays, 3.0 at most for lamps, leaves, frames and chairs.
Misses: shapes on a busy resting background, faint watermarks, graphics away from the corners. A clock on a bare wall
is taken for a graphic, and so is drawn text near a corner. Cost: 6 ms a measurement.
"""

from __future__ import annotations

import cv2
import numpy as np

from annotators.picture.panels import Region
from annotators.protocols import FloatArray

NAME = "static-graphic-heuristic"
MIN_SAMPLES = 4
"""Pictures that must agree: fewer cannot tell standing still from chance."""

# Levels a pixel from which the mean gradient makes an edge pixel. A faint shape needs the lowest; where the scene has
# edges of its own that touch the shape, only a higher one parts the two.
_EDGES = (12.0, 25.0, 50.0)
_CONSTANT = 0.85  # share of the gradient that kept its direction
_JOIN_PX = 7
_SIZE = (0.02, 0.3)  # sides of a shape, shares of the picture
_CORNER_X, _CORNER_Y = 0.3, 0.25  # its centre lies within these shares of a corner's two edges
_BORDER = 0.004  # nearer to the picture's edge it is cut off, and rather part of the scene
_FILL = 0.25  # share of the box that the joined edges cover; twigs and folds cover less
_STRONG = 20.0  # median gradient of the shape's edges
_SHARPER = 4.5  # that median / 90th percentile of the gradient in the ring around
_MOVING = 0.5  # constant share of the margin's gradients below which the picture moves as a whole
_SHARPER_MOVING = 3.0


def graphics(strength: FloatArray, constant: FloatArray) -> list[Region]:
    """Return overlaid graphics, each scored 0-1 by how much sharper it is than its surroundings.

    `strength` [height, width] is the mean gradient magnitude of the shot's pictures in levels a pixel, `constant` the
    share of it (0-1) that kept its direction (see `ShotSamples.persistence`).
    """
    moving = _margin_constancy(strength, constant) < _MOVING
    least = _SHARPER_MOVING if moving else _SHARPER
    found = [shape for edge in _EDGES for shape in _shapes(strength, constant, edge, least)]
    kept: list[Region] = []
    for shape in sorted(found, key=lambda region: -region.score):
        if not any(shape.overlaps(other) for other in kept):
            kept.append(shape)
    return kept


def _shapes(strength: FloatArray, constant: FloatArray, edge: float, least_ratio: float) -> list[Region]:
    """Return the corner shapes made of edges above `edge` that are `least_ratio` times sharper than their ring."""
    height, width = strength.shape
    edges = ((strength > edge) & (constant > _CONSTANT)).astype(np.uint8)
    joined = cv2.morphologyEx(edges, cv2.MORPH_CLOSE, np.ones((_JOIN_PX, _JOIN_PX), np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    found = []
    for label, (x, y, w, h, area) in enumerate(boxes.tolist()):
        fits = _SIZE[0] <= w / width <= _SIZE[1] and _SIZE[0] <= h / height <= _SIZE[1]
        if label == 0 or not fits or area < _FILL * w * h or not _in_corner(x, y, w, h, width, height):
            continue
        box = (slice(y, y + h), slice(x, x + w))
        sharp = float(np.median(strength[box][(labels[box] == label) & (edges[box] > 0)]))
        ratio = sharp / max(_ring(strength, x, y, w, h), 1.0)
        if sharp >= _STRONG and ratio >= least_ratio:
            found.append(Region(x / width, y / height, (x + w) / width, (y + h) / height, 1.0 - 1.0 / ratio))
    return found


def _in_corner(x: int, y: int, w: int, h: int, width: int, height: int) -> bool:
    border = max(2, round(_BORDER * width))
    if x < border or y < border or x + w > width - border or y + h > height - border:
        return False
    from_side = min(x + w / 2, width - x - w / 2) / width
    from_end = min(y + h / 2, height - y - h / 2) / height
    return from_side < _CORNER_X and from_end < _CORNER_Y


def _ring(strength: FloatArray, x: int, y: int, w: int, h: int) -> float:
    """Return the 90th percentile of the gradient in the ring of 2 % of the width around a box."""
    height, width = strength.shape
    reach, gap = max(4, round(0.02 * width)), 2
    x0, y0, x1, y1 = max(0, x - reach), max(0, y - reach), min(width, x + w + reach), min(height, y + h + reach)
    outside = np.ones((y1 - y0, x1 - x0), bool)
    outside[max(0, y - y0 - gap) : y - y0 + h + gap, max(0, x - x0 - gap) : x - x0 + w + gap] = False
    return float(np.percentile(strength[y0:y1, x0:x1][outside], 90))


def _margin_constancy(strength: FloatArray, constant: FloatArray) -> float:
    """Return the gradient-weighted constant share over the outer 15 % of the picture, 1 where it is empty."""
    height, width = strength.shape
    margin = np.ones(strength.shape, bool)
    margin[round(0.15 * height) : round(0.85 * height), round(0.15 * width) : round(0.85 * width)] = False
    margin &= strength > _EDGES[0] / 2
    if margin.mean() < 0.02:
        return 1.0
    return float(np.average(constant[margin], weights=strength[margin]))
