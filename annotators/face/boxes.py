"""Geometry of face boxes: overlap, merging, tiles, square crops. Pure functions, microseconds each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np

from annotators.protocols import Box, FaceBox, Image


def overlap(a: Box, b: Box) -> float:
    """Return the shared area over the smaller box's area, in [0, 1].

    Unlike intersection over union it is 1 for a box inside another, as two detectors' boxes of one face often are.
    """
    shared_w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    shared_h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    smaller = min(a.w * a.h, b.w * b.h)
    return shared_w * shared_h / smaller if shared_w > 0 and shared_h > 0 and smaller > 0 else 0.0


def merge(boxes: Iterable[FaceBox], max_overlap: float = 0.5) -> list[FaceBox]:
    """Keep one box a face: earlier boxes win over later ones that overlap them; return highest score first."""
    kept: list[FaceBox] = []
    for box in boxes:
        if all(overlap(box, other) <= max_overlap for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: -box.score)


def tile_grid(width: int, height: int, per_side: int, overlap_ratio: float = 0.25) -> list[tuple[int, ...]]:
    """Cut an image into `per_side` x `per_side` tiles (x, y, w, h) that overlap by a share of a tile's side.

    A face narrower than the overlap lies whole in at least one tile.
    """
    shares = per_side - (per_side - 1) * overlap_ratio
    tile_w, tile_h = min(width, round(width / shares)), min(height, round(height / shares))
    xs = [round(x) for x in np.linspace(0, width - tile_w, per_side)]
    ys = [round(y) for y in np.linspace(0, height - tile_h, per_side)]
    return [(x, y, tile_w, tile_h) for y in ys for x in xs]


def whole_in_tile(box: Box, tile: tuple[int, ...], image: tuple[int, int], overlap_ratio: float = 0.25) -> bool:
    """Say whether a box found in a tile is a whole face: narrower than the tiles' overlap and off inner edges.

    A face that an inner edge cuts lies whole in the neighbouring tile, and a larger one is found in the whole frame.
    `box` and `tile` (x, y, w, h) are in image pixels, `image` is (width, height).
    """
    x, y, w, h = tile
    if box.w > overlap_ratio * w or box.h > overlap_ratio * h:
        return False
    left_ok = x == 0 or box.x > x
    top_ok = y == 0 or box.y > y
    right_ok = x + w == image[0] or box.x + box.w < x + w
    bottom_ok = y + h == image[1] or box.y + box.h < y + h
    return left_ok and top_ok and right_ok and bottom_ok


def in_tiles(rgb: Image, per_side: int, detect: Callable[[Image], Iterable[FaceBox]]) -> list[FaceBox]:
    """Return the whole faces that `detect` finds in the tiles of a picture, in its pixels; none for one tile a side."""
    height, width = rgb.shape[:2]
    found = []
    for tile in tile_grid(width, height, per_side) if per_side > 1 else ():
        x, y, w, h = tile
        for box in detect(rgb[y : y + h, x : x + w]):
            moved = FaceBox(box.x + x, box.y + y, box.w, box.h, box.score)
            if whole_in_tile(moved, tile, (width, height)):
                found.append(moved)
    return found


def crop_box(face: Box, scale: float = 1.8) -> Box:
    """Return the square around a face's centre whose side is `scale` times the longer side of the face box."""
    side = scale * max(face.w, face.h)
    return Box(face.x + face.w / 2 - side / 2, face.y + face.h / 2 - side / 2, side, side)


def cut_square(rgb: Image, box: Box, size_px: int) -> Image:
    """Cut a square box out of an image, scaled to `size_px`; what lies outside the image is black.

    Bilinear when enlarging; when shrinking, the area of the box is averaged first so that detail does not alias.
    """
    factor = size_px / box.w
    # A rim around the box, so that the picture itself is interpolated at the crop's edges where there is one.
    rim = 1 + int(np.ceil(1 / factor))
    x0, y0 = max(int(np.floor(box.x)) - rim, 0), max(int(np.floor(box.y)) - rim, 0)
    right, bottom = int(np.ceil(box.x + box.w)) + rim, int(np.ceil(box.y + box.h)) + rim
    region = rgb[y0 : max(bottom, 0), x0 : max(right, 0)]
    if region.size == 0:
        return np.zeros((size_px, size_px, 3), np.uint8)
    if factor < 0.5:
        shrunk = cv2.resize(region, None, fx=2 * factor, fy=2 * factor, interpolation=cv2.INTER_AREA)
        fx, fy = shrunk.shape[1] / region.shape[1], shrunk.shape[0] / region.shape[0]
    else:
        shrunk, fx, fy = region, 1.0, 1.0
    sx, sy = factor / fx, factor / fy
    # Pixel centres: crop pixel c shows the image at box.x + (c + 0.5) / factor - 0.5.
    shift_x = (x0 + 0.5 / fx - 0.5 - box.x + 0.5) * factor - 0.5
    shift_y = (y0 + 0.5 / fy - 0.5 - box.y + 0.5) * factor - 0.5
    affine = np.array([[sx, 0, shift_x], [0, sy, shift_y]], np.float64)
    return np.asarray(cv2.warpAffine(shrunk, affine, (size_px, size_px), flags=cv2.INTER_LINEAR), np.uint8)
