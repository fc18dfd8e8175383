"""Lines of text in a picture, by the PP-OCRv4 detection model.

The network (DB, arXiv:1911.08947) gives each pixel the probability that it lies in the shrunken core of a text line.
Lines are the connected regions of that map, grown back by the paper's rule. What it finds is only a candidate: it was
trained on documents and street signs, and takes a blurred or very large face for text at scores up to 0.99.
Cost: 50 ms a 640 x 352 picture on one core, less for narrower ones; 60 MB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotators.models.onnx_session import open_session
from annotators.models.weights import resolve
from annotators.picture.picture import scale_to
from annotators.protocols import FloatArray, Image

WEIGHT = "ppocr_v4_det.onnx"

_STRIDE = 32  # the network halves its input five times
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's, in the model's training order
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_IN_TEXT = 0.3  # probability from which a pixel belongs to a line (DB paper, section 3.5)
_MIN_SCORE = 0.5
_UNCLIP = 1.6  # growth = area * ratio / perimeter (DB paper, equation 10)
_MIN_SIDE_PX = 3


@dataclass(frozen=True)
class TextLine:
    """A line of text: centre, length and height as shares of the picture's width and height, tilt, mean probability.

    The rectangle lies along the text: `length` is its longer side and `tilt_deg` that side's angle to the
    horizontal, in (-90, 90], positive = falling to the right.
    """

    center_x: float
    center_y: float
    length: float
    height: float
    aspect: float
    tilt_deg: float
    score: float
    x0: float
    y0: float
    x1: float
    y1: float


class TextDetector:
    """Finds lines of text in an RGB picture."""

    name = "ppocr-v4-det"
    weights: tuple[str, ...] = (WEIGHT,)

    def __init__(self, long_side_px: int = 640) -> None:
        if long_side_px < _STRIDE:
            raise ValueError(f"long_side_px must be {_STRIDE} or more, got {long_side_px}")
        self._long_side_px = long_side_px
        self._session = open_session(resolve(WEIGHT))
        self._input = self._session.get_inputs()[0].name

    def detect(self, rgb: Image) -> list[TextLine]:
        """Return the text lines of a picture uint8 [height, width, 3]."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise ValueError(f"expected an RGB image uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}")
        small = scale_to(rgb, self._long_side_px)
        height, width = (max(_STRIDE, round(side / _STRIDE) * _STRIDE) for side in small.shape[:2])
        bgr = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)[:, :, ::-1].astype(np.float32)
        batch = ((bgr / 255 - _MEAN) / _STD).transpose(2, 0, 1)[None]
        return lines(self._session.run(None, {self._input: np.ascontiguousarray(batch)})[0][0, 0])


def lines(probability: FloatArray) -> list[TextLine]:
    """Turn a probability map float32 [height, width] into text lines, best first."""
    height, width = probability.shape
    contours, _ = cv2.findContours((probability > _IN_TEXT).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        (x, y), (long, short), tilt = cv2.minAreaRect(contour)
        if long < short:
            long, short, tilt = short, long, tilt + 90
        if short < _MIN_SIDE_PX:
            continue
        score = _mean_inside(probability, contour)
        if score < _MIN_SCORE:
            continue
        grow = 2 * long * short * _UNCLIP / (2 * (long + short))
        tilt = 90 - (90 - tilt) % 180
        corners = cv2.boxPoints(((x, y), (long + grow, short + grow), tilt))
        x0, y0 = np.clip(corners.min(axis=0) / (width, height), 0, 1)
        x1, y1 = np.clip(corners.max(axis=0) / (width, height), 0, 1)
        found.append(
            TextLine(
                x / width,
                y / height,
                (long + grow) / width,
                (short + grow) / height,
                (long + grow) / (short + grow),
                tilt,
                score,
                *map(float, (x0, y0, x1, y1)),
            )
        )
    return sorted(found, key=lambda line: -line.score)


def _mean_inside(probability: FloatArray, contour: Image) -> float:
    x, y, w, h = cv2.boundingRect(contour)
    mask = np.zeros((h, w), np.uint8)
    cv2.drawContours(mask, [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
    return float(cv2.mean(probability[y : y + h, x : x + w], mask)[0])
