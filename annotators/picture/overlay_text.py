"""Which lines of text were laid over the video, rather than filmed.

Overlaid text lies level, is no taller than a fifth of the picture, and stands still on the screen to the pixel while
what it covers moves. The last test rejects faces that the text detector mistakes for text (they do not hold still to
the pixel for 0.35 s) and signs or clothing filmed by a moving camera or worn by a moving person. What it cannot tell
apart is a sign filmed by a camera that rests: such text counts as overlaid, as it spoils a clip as well.
Cost: 0.2 ms a line.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from annotators.picture.text_detector import TextLine
from annotators.protocols import FloatArray, Image

HOLD_S = (0.35, 1.0)
"""How much earlier the picture is in which a line must already stand."""
BRIEF_S = (0.15, 0.35)
"""The same for captions that pop up word by word; these must also look drawn."""

_MAX_TILT_DEG = 8.0  # measured on short level lines: up to 6
_MIN_ASPECT = 1.5
_MAX_HEIGHT = 0.2
_TALL = 0.08  # a line this tall that is drawn shows strokes; a face mistaken for text, at rest, does not
_TALL_STROKES = 0.08
_MIN_HOLD = 0.6  # over 0.4 s: overlays measured 0.69-1.0 (one of 80: 0.51), level faces taken for text 0.0-0.45
_MIN_BRIEF_HOLD = 0.8
_STROKE = 50.0  # twice the levels a pixel of a drawn stroke's edge
_MIN_STROKES = 0.15  # share of the box with such edges: captions 0.2-0.45, faces 0.03 at most


def overlaid(
    candidates: Sequence[TextLine], gray: Image, earlier: Sequence[Image], just_before: Sequence[Image] = ()
) -> list[TextLine]:
    """Return the lines that are overlaid text.

    `gray` is the luma picture in which the candidates were found; `earlier` and `just_before` are pictures of the same
    size and shot, older by `HOLD_S` and `BRIEF_S`. A line must hold against any one of them. Without earlier pictures
    nothing can be told, and no line is returned.
    """
    found = []
    for line in candidates:
        if abs(line.tilt_deg) > _MAX_TILT_DEG or line.aspect < _MIN_ASPECT or line.height > _MAX_HEIGHT:
            continue
        strokes = _stroke_share(line, gray)
        if line.height > _TALL and strokes < _TALL_STROKES:
            continue
        lasting = any(hold(line, gray, past) >= _MIN_HOLD for past in earlier)
        if lasting or (
            strokes >= _MIN_STROKES and any(hold(line, gray, past) >= _MIN_BRIEF_HOLD for past in just_before)
        ):
            found.append(line)
    return found


def hold(line: TextLine, gray: Image, past: Image) -> float:
    """Return the correlation (-1 to 1) of the luma gradients inside a line's box with those of an earlier picture."""
    if gray.shape != past.shape:
        raise ValueError(f"cannot compare pictures of {gray.shape} and {past.shape}: scale them to one size")
    now, then = _gradient(line, gray), _gradient(line, past)
    energy = max(float(np.sum(now * now)), float(np.sum(then * then)))
    return float(np.sum(now * then)) / energy if energy > 0 else 0.0


def _stroke_share(line: TextLine, gray: Image) -> float:
    """Return the share of a line's box (0-1) with edges as steep as drawn strokes have."""
    dx, dy = _gradient(line, gray)
    return float((cv2.magnitude(dx, dy) > _STROKE).mean())


def _gradient(line: TextLine, gray: Image) -> FloatArray:
    """Gradient of luma in levels a pixel, [2, height, width], inside the line's box."""
    height, width = gray.shape
    x0, x1 = int(line.x0 * width), max(int(line.x0 * width) + 2, round(line.x1 * width))
    y0, y1 = int(line.y0 * height), max(int(line.y0 * height) + 2, round(line.y1 * height))
    patch = gray[y0:y1, x0:x1]
    # A Sobel kernel sums eight weights over two pixels: 1/4 gives twice the levels a pixel, the unit of `_STROKE`.
    return np.stack([cv2.Sobel(patch, cv2.CV_32F, 1, 0, scale=1 / 4), cv2.Sobel(patch, cv2.CV_32F, 0, 1, scale=1 / 4)])
