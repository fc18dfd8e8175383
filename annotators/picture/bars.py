"""Bars around the picture: letterbox, pillarbox, or a frame of one flat colour.

A bar is uniform in space and over time and ends in a straight edge along the whole of the picture inside. The first
two hold for a dark corner or a plain wall as well, the third does not. Cost: 0.2 ms a picture, 0.4 ms a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotators.picture.picture import check_gray, scale_to
from annotators.protocols import Image

_WORK_PX = 320
_TOLERANCE = 8  # levels; coding noise in black bars
_STEP = 16  # levels between the bar and the picture inside; a dark scene fades out in smaller steps
_STRAY = 0.02  # share of a line that may differ from the bar: ringing, a hot pixel
_EDGE_SHARE = 0.35  # of the picture inside that must begin right at the bar's edge
_SMALLEST = 0.01  # of the picture; thinner lines are leftovers of cropping


@dataclass(frozen=True)
class Bars:
    """Bars as shares of the picture's height (top, bottom) and width (left, right); 0 = none."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0

    @property
    def area(self) -> float:
        """Share of the picture under bars, 0-1."""
        return 1.0 - (1.0 - self.top - self.bottom) * (1.0 - self.left - self.right)


class BarMeter:
    """Accumulates the darkest and brightest value of each pixel over one shot and finds the bars in them."""

    def __init__(self) -> None:
        self._low: Image | None = None
        self._high: Image | None = None

    def add(self, gray: Image) -> None:
        """Take a luma picture uint8 [height, width] of the shot."""
        check_gray(gray)
        small = scale_to(gray, _WORK_PX)
        if self._low is None or self._high is None or self._low.shape != small.shape:
            self._low, self._high = small.copy(), small.copy()
        else:
            np.minimum(self._low, small, out=self._low)
            np.maximum(self._high, small, out=self._high)

    def measure(self) -> Bars:
        """Return the bars of the shot so far; without a picture, or if nothing is inside, there are none."""
        if self._low is None or self._high is None:
            return Bars()
        low, high = self._low, self._high
        return Bars(
            top=_bar(low, high),
            bottom=_bar(low[::-1], high[::-1]),
            left=_bar(low.T, high.T),
            right=_bar(low.T[::-1], high.T[::-1]),
        )

    def reset(self) -> None:
        """Forget the shot, at a cut."""
        self._low = self._high = None


def _bar(low: Image, high: Image) -> float:
    """Return the share of lines from the top that form a bar."""
    colour = int(np.median(high[0]))
    difference = np.maximum(high.astype(np.int16) - colour, colour - low.astype(np.int16))
    differs = np.asarray(difference > _TOLERANCE)
    lines = np.flatnonzero(differs.mean(axis=1) > _STRAY)
    if not lines.size or lines[0] < max(2, _SMALLEST * len(low)):
        return 0.0
    first = int(lines[0])
    inside = np.flatnonzero(differs.mean(axis=0) > _STRAY)
    if not inside.size:
        return 0.0  # what differs lies in spots: there is no picture that a bar could end at
    step = difference[first : first + 3, inside[0] : inside[-1] + 1].max(axis=0) > _STEP
    return first / len(low) if step.mean() >= _EDGE_SHARE else 0.0
