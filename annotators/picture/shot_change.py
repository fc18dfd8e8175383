"""How a video's picture changes, from thumbnails of 48x27 pixels: steps, flashes, slow changes of scene. Pure.

A whole minute takes about 0.1 s. Every measure looks a fixed number of frames to either side, so frames should come at
24 to 30 a second (`Thinner`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Thumbnails = npt.NDArray[np.uint8]
Series = npt.NDArray[np.float64]

WIDTH, HEIGHT = 48, 27
_LEAST_STEP_S = 0.028
"""Frames nearer than this to the last one kept are left out: 50 and 60 frames a second become 25 and 30."""

_AROUND = 4  # frames to either side that a step is compared with
_REPEATED = 0.3  # a smaller change of content is the same picture coded again
_FLOOR = 0.5  # of what is usual, in PySceneDetect's unit
_NEAR, _FAR = 6, 14  # frames from a place to the nearest and farthest compared across it
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FLAT = 1.0  # standard deviation of luma below which a picture shows nothing
_BINS = 8  # of each colour channel
_MIXED = (0.1, 0.9)  # share of the second picture in a mix of two
_MIXED_LEFT = 0.25  # of the way between the two pictures: what a mix may differ from them
_MIXED_MOST = 3  # frames; longer mixes are dissolves


def thumbnail(rgb: npt.NDArray[np.uint8]) -> Thumbnails:
    """Return a picture of any size as uint8 [27, 48, 3]: each pixel is the mean of what it covers."""
    return np.asarray(cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def ratios(content: Series) -> Series:
    """Return each frame's change of content [N] as a multiple of what is usual in the four frames on either side.

    Repeated frames (a source of a lower rate in a file of a higher one) do not count as usual.
    """
    out = np.zeros(len(content))
    for i, value in enumerate(content):
        around = np.r_[content[max(1, i - _AROUND) : i], content[i + 1 : i + 1 + _AROUND]]
        own = around[around >= _REPEATED]
        out[i] = value / max(_FLOOR, float(own.mean()) if len(own) else 0.0)
    return out


@dataclass(frozen=True)
class Pictures:
    """Thumbnails [N, 27, 48, 3] with what is needed to compare them across a place."""

    thumbs: Thumbnails
    luma: npt.NDArray[np.float32]
    """[N, 27, 48]"""
    histograms: npt.NDArray[np.float32]
    """running sums of the colour histograms [N + 1, 512], each histogram summing to 1"""

    def luma_steps(self) -> Series:
        """Return the change of mean luma [N] since the frame before, 0-255."""
        mean = self.luma.mean(axis=(1, 2), dtype=np.float64)
        return np.asarray(np.abs(np.diff(mean, prepend=mean[:1])), np.float64)

    def difference(self, i: int, first: int, last: int) -> float:
        """Return how far the colours before and after frame `i` differ, 0 (equal) to 1 (none in common).

        Mean histograms of frames 6 to 14 away, inside [first, last): the shot around.
        """
        a = self.histograms[max(first, i - _NEAR + 1)] - self.histograms[max(first, i - _FAR)]
        b = self.histograms[min(last, i + _FAR)] - self.histograms[min(last, i + _NEAR)]
        if a.sum() < 1 or b.sum() < 1:
            return 0.0
        return float(1.0 - np.minimum(a / a.sum(), b / b.sum()).sum())

    def likeness(self, i: int, first: int, last: int) -> float:
        """Return the correlation of the pictures 8 frames before and after frame `i`, -1 to 1, inside [first, last).

        Light that comes or goes leaves it high; a pan, a wipe and a dissolve do not. A picture that shows nothing is
        like another such and unlike any other.
        """
        a = self.luma[max(first, i - 8)].ravel()
        b = self.luma[min(last - 1, i + 8)].ravel()
        flat = (float(a.std()) < _FLAT, float(b.std()) < _FLAT)
        if any(flat):
            return 1.0 if all(flat) else 0.0
        a, b = a - a.mean(), b - b.mean()
        return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))


def compare(thumbs: Thumbnails) -> Pictures:
    """Prepare thumbnails uint8 [N, 27, 48, 3] for comparison."""
    coarse = (thumbs >> 5).astype(np.int64)
    bins = ((coarse[..., 0] * _BINS + coarse[..., 1]) * _BINS + coarse[..., 2]).reshape(len(thumbs), -1)
    sums = np.zeros((len(thumbs) + 1, _BINS**3), np.float32)
    for i, row in enumerate(bins):
        sums[i + 1] = np.bincount(row, minlength=_BINS**3) / row.size
    np.cumsum(sums, axis=0, out=sums)
    return Pictures(thumbs, thumbs.astype(np.float32) @ _LUMA, sums)


def mixed_frames(thumbs: Sequence[Thumbnails], i: int) -> int:
    """Return how many frames just before `i`, the first of a new shot, are mixed of both shots: 0 to 3.

    Conversion of frame rates leaves one such frame at each cut. A frame is mixed where it lies on the line from the
    last clear picture to the first of the new shot, at 0.1 to 0.9 of the way and no further off it than a quarter of
    it. Seen on the cuts of 23 real conversations: the three mixed frames have a share of 0.28 to 0.48 and lie 0.13 or
    0.14 off; frames before plain cuts have a share below 0.05, those within wipes and dissolves lie 0.29 off and more.
    """
    new = thumbs[i].astype(np.float64).ravel()
    for n in range(min(_MIXED_MOST, i - 1), 0, -1):
        old = thumbs[i - n - 1].astype(np.float64).ravel()
        way = new - old
        length = float(np.linalg.norm(way))
        if length and all(_between(thumbs[j].astype(np.float64).ravel() - old, way, length) for j in range(i - n, i)):
            return n
    return 0


def _between(step: Series, way: Series, length: float) -> bool:
    share = float(step @ way) / length**2
    return _MIXED[0] < share < _MIXED[1] and float(np.linalg.norm(step - share * way)) <= _MIXED_LEFT * length


class Thinner:
    """Says which frames to keep so that they come at no more than about 30 a second."""

    def __init__(self) -> None:
        self._last_s = -np.inf

    def keeps(self, t_s: float) -> bool:
        """Say whether the next frame is far enough from the last one kept."""
        if t_s - self._last_s < _LEAST_STEP_S:
            return False
        self._last_s = t_s
        return True
