"""Crops of a followed face: 112 px grey for active speaker detection, from boxes smoothed over time.

The reference takes a running median over 13 frames of the face box before cropping. The scan is one pass, so each
face keeps a generous grey patch a frame and cuts the final crop six frames later, when the median is known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from annotators.face.boxes import cut_square
from annotators.lips.active_speaker import asd_crop_box
from annotators.protocols import Box
from stages.scan.grid import Image

CROP_PX = 112
_HALF = 6  # frames to either side of the median
_MARGIN = 1.5  # the patch is this much wider than the crop, for the box to move in
_PATCH_PX = 168  # so that the final crop is about one patch pixel a pixel
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]


@dataclass(slots=True)
class _Waiting:
    row: int
    box: Box
    patch: Image
    where: Box


class CropQueue:
    """Turns one face's boxes and pictures into smoothed crops; results are (row, JPEG bytes)."""

    def __init__(self) -> None:
        self._items: deque[_Waiting] = deque()
        self._boxes: deque[Box] = deque(maxlen=2 * _HALF + 1)
        self.done: list[tuple[int, bytes]] = []

    def add(self, row: int, box: Box, rgb: Image) -> None:
        """Take the face box in one picture (pixels of `rgb`)."""
        square = asd_crop_box(box)
        side = square.w * _MARGIN
        where = Box(square.x + square.w / 2 - side / 2, square.y + square.h / 2 - side / 2, side, side)
        patch = np.asarray(cv2.cvtColor(cut_square(rgb, where, _PATCH_PX), cv2.COLOR_RGB2GRAY), np.uint8)
        self._items.append(_Waiting(row, box, patch, where))
        self._boxes.append(box)
        if len(self._boxes) > _HALF and len(self._items) > _HALF:
            self._finish(self._items.popleft())

    def flush(self) -> None:
        """Finish what is waiting, at the end of the face."""
        while self._items:
            self._finish(self._items.popleft())
            if len(self._boxes) > _HALF + 1:
                self._boxes.popleft()

    def _finish(self, item: _Waiting) -> None:
        square = asd_crop_box(_median_box(list(self._boxes)))
        scale = _PATCH_PX / item.where.w
        local = Box(
            (square.x - item.where.x) * scale, (square.y - item.where.y) * scale, square.w * scale, square.h * scale
        )
        crop = _cut_gray(item.patch, local)
        ok, data = cv2.imencode(".jpg", crop, _JPEG)
        if not ok:
            raise RuntimeError("OpenCV could not encode a face crop")
        self.done.append((item.row, data.tobytes()))


def _median_box(boxes: list[Box]) -> Box:
    """Return the median of boxes by centre and size."""
    values = np.array([(b.x + b.w / 2, b.y + b.h / 2, b.w, b.h) for b in boxes])
    cx, cy, w, h = (float(v) for v in np.median(values, axis=0))
    return Box(cx - w / 2, cy - h / 2, w, h)


def _cut_gray(patch: Image, box: Box) -> Image:
    scale = box.w / CROP_PX
    matrix = np.array([[scale, 0, box.x + scale / 2 - 0.5], [0, scale, box.y + scale / 2 - 0.5]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(patch, matrix, (CROP_PX, CROP_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)
