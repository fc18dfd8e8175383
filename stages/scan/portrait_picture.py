"""The picture of a portrait: which part of a frame it shows, and that part as JPEG. Pure: equal frames, equal bytes."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from annotators.picture import picture
from annotators.protocols import Box

Image = npt.NDArray[np.uint8]
Place = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the frame; the last two are outside."""

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]


def place_of(box: Box, width: int, height: int) -> Place:
    """Return the part of a frame that holds head and shoulders around a face."""
    side = 2.2 * max(box.w, box.h)
    cx, cy = box.x + box.w / 2, box.y + box.h * 0.6
    x0, y0 = max(0, round(cx - side / 2)), max(0, round(cy - side / 2))
    return x0, y0, min(width, round(cx + side / 2)), min(height, round(cy + side / 2))


def portrait(rgb: Image, place: Place, most_px: int) -> tuple[bytes, float]:
    """Return a part of a frame as JPEG, its longer side `most_px` at most, and by how much it was scaled."""
    x0, y0, x1, y1 = place
    image = picture.scale_to(np.ascontiguousarray(rgb[y0:y1, x0:x1]), most_px)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)
    if not done:
        raise RuntimeError("OpenCV could not encode a portrait")
    return data.tobytes(), image.shape[1] / max(1, x1 - x0)
