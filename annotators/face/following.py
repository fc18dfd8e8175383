"""Where a face is looked at closely next, from its landmarks in the picture before. About 0.4 ms.

As in MediaPipe's tracking graph (Apache-2.0) the region is a square about the landmarks, enlarged, turned so that the
eyes lie level; but only as large as the detector's regions are, so that a face looks alike whether it was followed or
found. It is snapped to a grid: landmarks that differ by rounding, of another processor or version, then mostly lead to
the very same region, where they would else lead to others and grow apart; and a face that holds still is looked at from
one place.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from annotators.face.blaze import Region
from annotators.protocols import FloatArray, Image

_ENLARGED = 1.37
"""Side of the region over the longer side of the landmarks' rectangle: the median of the detector's regions, over 204
faces of six conversations. With MediaPipe's 1.5 meshes are 2.5 % higher, mouths and eyes a little less open."""
_RIGHT_EYE, _LEFT_EYE = 33, 263
"""Outer corners."""


def next_region(points: FloatArray) -> Region:
    """Return the region, in the picture's pixels, where a face with landmarks `points` [478, 2 or 3] is looked for."""
    xy = points[:, :2].astype(np.float64)
    across = xy[_LEFT_EYE] - xy[_RIGHT_EYE]
    angle = math.atan2(across[1], across[0])
    cos, sin = math.cos(angle), math.sin(angle)
    level = np.array(((cos, -sin), (sin, cos)))
    low, high = (xy @ level).min(axis=0), (xy @ level).max(axis=0)
    side = _ENLARGED * max(1.0, float((high - low).max()))
    x, y = (level @ ((low + high) / 2)).tolist()
    return Region(x, y, side, side, angle).on_grid()


def cut_region(rgb: Image, region: Region, size_px: int) -> Image | None:
    """Return a region of a picture, level, as [size_px, size_px, 3]; None where it lies beyond the picture.

    Bilinear; when shrinking to less than half, areas are averaged first so that detail does not alias. Beyond the
    picture its edges go on.
    """
    height, width = rgb.shape[:2]
    reach = 0.75 * max(region.w, region.h) + 2  # half a diagonal, and what is interpolated with
    x0, y0 = max(0, math.floor(region.x - reach)), max(0, math.floor(region.y - reach))
    x1, y1 = min(width, math.ceil(region.x + reach)), min(height, math.ceil(region.y + reach))
    if x1 <= x0 or y1 <= y0:
        return None
    part, shrink = rgb[y0:y1, x0:x1], 2 * size_px / max(region.w, region.h)
    fx = fy = 1.0
    if shrink < 1:
        part = np.asarray(cv2.resize(part, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)
        fx, fy = part.shape[1] / (x1 - x0), part.shape[0] / (y1 - y0)
    to_part = region.to_picture()
    to_part[:, :2] /= size_px
    to_part[:, 2] -= (x0, y0)
    to_part *= np.array([[fx], [fy]])
    to_part[:, 2] += to_part[:, :2].sum(axis=1) / 2 - 0.5  # from middle of pixel to middle of pixel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(part, to_part, (size_px, size_px), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)
