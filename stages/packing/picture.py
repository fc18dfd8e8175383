"""Cut one picture out of another and scale it: whole pixels for a still crop, parts of pixels for one that moves. Pure.

A crop that moves in whole pixels trembles; one that is cut between pixels does not. Costs 1 to 2 ms at 512 x 512.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def cropped(rgb: Picture, xywh: tuple[float, float, float, float], size: tuple[int, int], exact: bool) -> Picture:
    """Return the part x, y, w, h (pixels) of a picture [H, W, 3], scaled to `size` (width, height).

    `exact` cuts between pixels; without it the nearest whole pixels inside the picture are taken.
    """
    height, width = rgb.shape[:2]
    x, y, w, h = xywh
    smaller = size[0] < w or size[1] < h
    if not exact:
        w_px, h_px = min(max(1, round(w)), width), min(max(1, round(h)), height)
        x_px, y_px = min(max(0, round(x)), width - w_px), min(max(0, round(y)), height - h_px)
        part = np.ascontiguousarray(rgb[y_px : y_px + h_px, x_px : x_px + w_px])
        return _resized(part, size, smaller)
    scale_x, scale_y = size[0] / w, size[1] / h
    if smaller:
        # Averaged down first: a warp alone would skip pixels. The rest of the way is less than a pixel.
        rgb = _resized(rgb, (max(1, round(width * scale_x)), max(1, round(height * scale_y))), True)
        x, scale_x = x * rgb.shape[1] / width, size[0] / (w * rgb.shape[1] / width)
        y, scale_y = y * rgb.shape[0] / height, size[1] / (h * rgb.shape[0] / height)
    # Pixel centres: the middle of output pixel i shows x + (i + 0.5) / scale - 0.5.
    to_source = np.array([[1 / scale_x, 0, x + 0.5 / scale_x - 0.5], [0, 1 / scale_y, y + 0.5 / scale_y - 0.5]])
    method = (cv2.INTER_LINEAR if smaller else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(rgb, to_source, size, flags=method, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _resized(part: Picture, size: tuple[int, int], smaller: bool) -> Picture:
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, size, interpolation=method), np.uint8)
