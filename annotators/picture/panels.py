"""Pictures within the picture: split-screen seams and insets, from edges averaged over a shot.

A seam between two pictures is a step one pixel wide, exactly upright or level, along the whole height or width; posts
and door frames are softer, interrupted, or lean. An inset has two to four such sides, meeting at its corners; a side
may be the picture's own edge. A framed photograph on a wall is an inset by this measure: look for a face in it before
concluding. Cost: 3 ms a measurement on a 640 px picture, given the averaged gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import cv2
import numpy as np
import numpy.typing as npt

from annotators.protocols import FloatArray

IntArray = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

_LEAST_STEP = 3.0  # levels; mean absolute step across the line
_STRIP_STEP = 20.0  # levels; a drawn strip stands out, the frame of a door behind a person less
_PEAK = 2.2  # the step against the strongest one 3 or 4 px beside it
_REACH = 4
_STRIP_REACH = 12  # px of 640: two pictures may be parted by a drawn strip, whose two edges lie this near
_SEAM_COVER = 0.75  # share of the seam's length with a step: 0.84-0.93 measured on seams, 0.50 at most elsewhere
_SEAM_MARGIN = 0.2  # a seam leaves at least this share on either side; banners with captions leave less
_MAX_SEAMS = 3
_INSET_SIDE = 0.1  # least width and height of an inset, shares of the picture
_INSET_AREA = 0.35  # largest area
_INSET_ASPECT = 2.5  # the longer side / the shorter, in pixels; banners with captions are longer
_MAX_LINES = 12  # candidate lines an axis


@dataclass(frozen=True)
class Region:
    """A rectangle as shares of the picture's width and height, with the evidence for its border (0-1)."""

    x0: float
    y0: float
    x1: float
    y1: float
    score: float

    def holds(self, x: float, y: float) -> bool:
        """Say whether the point (shares of width and height) lies inside."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1

    def overlaps(self, other: Region) -> bool:
        """Say whether the two share any area."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1


def _seam_columns(step_x: FloatArray) -> list[tuple[float, float]]:
    """Return upright seams through the whole picture as (position as share of width, share of its length found).

    `step_x` [height, width] is the mean over the shot of |luma[y, x] - luma[y, x - 1]|. For level seams pass the
    transposed vertical steps.
    """
    marked = np.maximum(_near(_ridges(step_x)), _near(_strips(step_x)))
    cover = marked.mean(axis=0)
    width = cover.size
    found: list[tuple[float, float]] = []
    margin = max(1, round(_SEAM_MARGIN * width))
    for column in np.argsort(-cover, kind="stable"):
        if cover[column] < _SEAM_COVER or len(found) == _MAX_SEAMS:
            break
        x = float(column) / width
        if margin <= column <= width - margin and all(abs(x - other) >= _SEAM_MARGIN for other, _ in found):
            found.append((_middle(step_x, int(column)) / width, float(cover[column])))
    return sorted(found)


def _middle(step_x: FloatArray, column: int) -> float:
    """Return the middle of the strip that a seam is one edge of; of a plain seam, itself."""
    low = max(0, column - _STRIP_REACH)
    strength = np.median(step_x[:, low : column + _STRIP_REACH + 1], axis=0)
    own = strength[max(0, column - low - 2) : column - low + 3].max()
    strong = low + np.flatnonzero(strength >= 0.4 * own)
    return float(strong[0] + strong[-1]) / 2


def panels(step_x: FloatArray, step_y: FloatArray) -> list[Region]:
    """Return the panels of a split screen, left to right and top to bottom; one whole panel when there is no seam.

    `step_x`, `step_y` [height, width]: mean absolute luma steps to the pixel at the left, and above.
    """
    columns, rows = _seam_columns(step_x), _seam_columns(np.ascontiguousarray(step_y.T))
    score = min((s for _, s in columns + rows), default=1.0)
    xs, ys = [0.0, *(x for x, _ in columns), 1.0], [0.0, *(y for y, _ in rows), 1.0]
    return [Region(x0, y0, x1, y1, score) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs)]


def insets(step_x: FloatArray, step_y: FloatArray) -> list[Region]:
    """Return inset pictures, strongest border first, without overlaps; arguments as for `panels`."""
    height, width = step_x.shape
    upright = _near(_ridges(step_x))
    level = _near(_ridges(np.ascontiguousarray(step_y.T))).T
    along_y = np.vstack([np.zeros((1, width), np.float32), np.cumsum(upright, axis=0)])
    along_x = np.hstack([np.zeros((height, 1), np.float32), np.cumsum(level, axis=1)])
    x0, x1 = _spans([0, *_candidates(upright), width], width)
    y0, y1 = _spans([0, *_candidates(level.T), height], height)
    long = np.maximum((x1 - x0)[:, None], y1 - y0)
    short = np.minimum((x1 - x0)[:, None], y1 - y0)
    across, down = np.nonzero((long * short <= _INSET_AREA * width * height) & (long <= _INSET_ASPECT * short))
    x0, x1, y0, y1 = x0[across], x1[across], y0[down], y1[down]
    sides = [_drawn(along_y.T, x, y0, y1) for x in (x0, x1)] + [_drawn(along_x, y, x0, x1) for y in (y0, y1)]
    scores = _borders(np.stack(sides))
    columns = (x0 / width, y0 / height, x1 / width, y1 / height, scores)
    found = [Region(*(float(column[n]) for column in columns)) for n in np.flatnonzero(~np.isnan(scores))]
    found.sort(key=lambda r: (-r.score, r.x0, r.y0, r.x1, r.y1))
    kept: list[Region] = []
    for region in found:
        if not any(region.overlaps(other) for other in kept):
            kept.append(region)
    return kept


def _ridges(step: FloatArray) -> FloatArray:
    """Mark where a step along x is a lone peak one or two pixels wide."""
    padded = cv2.copyMakeBorder(step, 0, 0, _REACH, _REACH, cv2.BORDER_REPLICATE)
    width = step.shape[1]
    beside = np.zeros_like(step)
    for offset in (-_REACH, -_REACH + 1, _REACH - 1, _REACH):
        np.maximum(beside, padded[:, _REACH + offset : _REACH + offset + width], out=beside)
    top = cv2.dilate(step, np.ones((1, 5), np.uint8))
    marked = ((step >= _LEAST_STEP) & (step >= top) & (step > _PEAK * beside)).astype(np.float32)
    marked[:, :_REACH] = marked[:, -_REACH:] = 0
    return np.asarray(marked, np.float32)


def _strips(step: FloatArray) -> FloatArray:
    """Mark both edges of a strip up to `_STRIP_REACH` px wide along x, with nothing as strong beside it."""
    reach = _STRIP_REACH
    padded = cv2.copyMakeBorder(step, 0, 0, 2 * reach, 2 * reach, cv2.BORDER_REPLICATE)
    width = step.shape[1]
    beside = np.zeros_like(step)
    for offset in (-2 * reach, -reach - 4, -reach, reach, reach + 4, 2 * reach):
        np.maximum(beside, padded[:, 2 * reach + offset : 2 * reach + offset + width], out=beside)
    top = cv2.dilate(step, np.ones((1, 2 * reach - 1), np.uint8))
    marked = ((step >= _STRIP_STEP) & (step >= 0.6 * top) & (step > _PEAK * beside)).astype(np.float32)
    marked[:, :reach] = marked[:, -reach:] = 0
    return np.asarray(marked, np.float32)


def _near(marked: FloatArray) -> FloatArray:
    """Let a line waver by one pixel: chroma subsampling and scaling shift single steps."""
    return np.asarray(cv2.dilate(marked, np.ones((1, 3), np.uint8)), np.float32)


def _candidates(upright: FloatArray) -> list[int]:
    """Return the columns with the most pixels on unbroken upright lines, one a line."""
    height = upright.shape[0]
    closed = cv2.morphologyEx(upright, cv2.MORPH_CLOSE, np.ones((5, 1), np.uint8))
    runs = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((max(3, int(0.04 * height)), 1), np.uint8)).sum(axis=0)
    found: list[int] = []
    for column in np.argsort(-runs, kind="stable"):
        if runs[column] < 0.5 * _INSET_SIDE * height or len(found) == _MAX_LINES:
            break
        if all(abs(int(column) - other) > 3 for other in found):
            found.append(int(column))
    return sorted(found)


def _spans(lines: list[int], length: int) -> tuple[IntArray, IntArray]:
    """Return (begins, ends) of the stretches between two lines that an inset may have."""
    begins, ends = np.array(list(combinations(lines, 2)), np.int64).T
    fit = (_INSET_SIDE * length <= ends - begins) & (ends - begins <= 0.9 * length)
    return begins[fit], ends[fit]


def _drawn(along: FloatArray, line: IntArray, begins: IntArray, ends: IntArray) -> Scores:
    """Return the shares [n] of sides that carry a step; inf for the picture's own edge, which is not drawn.

    `along` [lines, length + 1] counts the steps on each line up to a place. Sides lie on `line` [n], 0 and the number
    of lines being the picture's edges, from `begins` to `ends`.
    """
    at = np.minimum(line, len(along) - 1)
    shares = (along[at, ends] - along[at, begins]) / (ends - begins)
    return np.where((line > 0) & (line < len(along)), shares, np.inf)


def _borders(sides: Scores) -> Scores:
    """Return the mean share of the drawn ones of sides [4, n], or nan where they are no border of an inset."""
    # In a corner of the picture two sides remain. Others need more of theirs, as rooms are full of rectangles; of all
    # four, one may fade where both pictures are equally dark.
    sides = np.sort(sides, axis=0)
    drawn = np.isfinite(sides)
    count = drawn.sum(axis=0)
    mean = np.where(drawn, sides, 0.0).sum(axis=0) / np.maximum(count, 1)
    corner = (count == 2) & (sides[0] >= 0.5) & (sides[1] >= 0.85)
    edge = (count == 3) & (sides[0] >= 0.7) & (mean >= 0.85)
    floating = (count == 4) & (sides[0] >= 0.4) & (sides[1] >= 0.75) & (mean >= 0.78)
    return np.where(corner | edge | floating, mean, np.nan)
