"""Motion of the picture over time: frozen frames and camera motion.

Both keep a small picture of the past, so they are meters that are fed frame by frame and are reset at a cut.
They work at 320 px, where averaging has removed most coding noise. Cost on one core: frozen 0.25 ms, camera
motion 0.8 ms a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np

from annotators.picture.picture import check_gray, scale_to
from annotators.protocols import Box, Image

_WORK_PX = 320
_BLOCK_PX = 4
_FROZEN_LEVEL = 2.5
_MIN_POINTS = 5
_ZOOM_LEAST = 0.15
_KEY_FRAMES_APART = 10


class FreezeMeter:
    """Tells frozen frames from still people, frame by frame.

    A frame is frozen when no block of 4 x 4 pixels (at 320 px) differs by more than 2.5 levels from the *first* frame
    of the still stretch. Coding noise does not add up against that fixed frame, while breathing, a blink or a slow
    drift does, even where each step is small. In tests, frozen pictures coded again stayed below 2.1 but for single
    key frames; the longest run of a listener who only blinks was 0.04 s, of any moving picture 0.12 s.
    Duplicated frames (a 12 fps source on the 25 Hz grid) are frozen frames too: judge by the longest run.
    """

    def __init__(self) -> None:
        self._anchor: Image | None = None

    def add(self, gray: Image) -> bool:
        """Take the next luma picture and say whether it is frozen; the first one after a reset is not."""
        check_gray(gray)
        small = scale_to(gray, _WORK_PX)
        anchor = self._anchor if self._anchor is not None and self._anchor.shape == small.shape else None
        if anchor is not None and _largest_block_change(small, anchor) <= _FROZEN_LEVEL:
            return True
        self._anchor = small.copy() if small is gray else small
        return False

    def reset(self) -> None:
        """Forget the past, at a cut."""
        self._anchor = None


def longest_run_s(frozen: Iterable[bool], rate_hz: float = 25.0, bridge: int = 1) -> float:
    """Return the longest run of frozen frames in seconds; up to `bridge` frames in a row may part two long runs.

    A key frame in the midst of a frozen stretch is coded anew and may differ visibly from the frame before it. Key
    frames are at least 10 frames apart in practice; shorter runs are not joined, as a slow fade makes many of them.
    """
    if rate_hz <= 0 or bridge < 0:
        raise ValueError(f"expected a rate above 0 and a bridge of 0 or more frames, got {rate_hz} and {bridge}")
    best = joined = gap = 0
    for is_frozen, run in groupby(frozen):
        length = sum(1 for _ in run)
        if not is_frozen:
            gap = length
            continue
        joins = gap <= bridge and joined >= _KEY_FRAMES_APART and length >= _KEY_FRAMES_APART
        joined = joined + gap + length if joins else length
        best = max(best, joined)
    return best / rate_hz


@dataclass(frozen=True, slots=True)
class CameraMotion:
    """What the background does between two pictures; nan where too few points can be followed.

    `speed` is the median displacement in picture widths a second, `x` and `y` the median displacement to the right and
    down likewise, `zoom` the growth of distances to the picture's centre, a second (> 0: nearer).
    """

    speed: float = math.nan
    x: float = math.nan
    y: float = math.nan
    zoom: float = math.nan


class CameraMeter:
    """Measures how far the background moves from frame to frame, by tracking points outside the people."""

    def __init__(self, max_points: int = 60) -> None:
        self._max_points = max_points
        self._previous: Image | None = None

    def add(self, gray: Image, faces: Sequence[Box] = (), rate_hz: float = 25.0) -> float:
        """Return the median displacement of background points since the last picture, in picture widths a second.

        `faces` are face boxes in pixels of `gray`; the person below and around each is left out. NaN for the first
        picture and where fewer than 5 points can be followed (a plain wall tells nothing). A resting camera measures
        below 0.005; a slow pan (the picture's width in 10 s) 0.1; zoom and shake count as well.
        """
        return self.measure(gray, faces, rate_hz).speed

    def measure(self, gray: Image, faces: Sequence[Box] = (), rate_hz: float = 25.0) -> CameraMotion:
        """Return the motion of background points since the last picture; see `add`."""
        check_gray(gray)
        small = scale_to(gray, _WORK_PX)
        previous, self._previous = self._previous, small.copy() if small is gray else small
        if previous is None or previous.shape != small.shape:
            return CameraMotion()
        mask = _background(small.shape, faces, small.shape[1] / gray.shape[1])
        points = cv2.goodFeaturesToTrack(previous, self._max_points, 0.005, 8, mask=mask, blockSize=3)
        if points is None or len(points) < _MIN_POINTS:
            return CameraMotion()
        moved, found, _ = cv2.calcOpticalFlowPyrLK(previous, small, points, None, winSize=(13, 13), maxLevel=2)
        kept = found.ravel() == 1
        shift = (moved - points).reshape(-1, 2)[kept].astype(np.float64)
        if len(shift) < _MIN_POINTS:
            return CameraMotion()
        scale = rate_hz / int(small.shape[1])
        x, y = np.median(shift, axis=0)
        middle = np.array([small.shape[1] / 2, small.shape[0] / 2])
        away = points.reshape(-1, 2)[kept] - middle
        # Points near the middle hardly move in a zoom; their quotients would be noise.
        far = np.hypot(away[:, 0], away[:, 1]) >= _ZOOM_LEAST * small.shape[1]
        growth = ((shift - (x, y)) * away).sum(axis=1)[far] / (away**2).sum(axis=1)[far]
        return CameraMotion(
            speed=float(np.median(np.hypot(shift[:, 0], shift[:, 1]))) * scale,
            x=float(x) * scale,
            y=float(y) * scale,
            zoom=float(np.median(growth)) * rate_hz if len(growth) >= _MIN_POINTS else math.nan,
        )

    def reset(self) -> None:
        """Forget the past, at a cut."""
        self._previous = None


def _largest_block_change(gray: Image, other: Image) -> float:
    change = cv2.absdiff(gray, other).astype(np.float32)
    height, width = change.shape
    size = (max(1, width // _BLOCK_PX), max(1, height // _BLOCK_PX))
    return float(cv2.resize(change, size, interpolation=cv2.INTER_AREA).max())


def _background(shape: tuple[int, ...], faces: Sequence[Box], scale: float) -> Image:
    """Mask of what is not a person: the head with its hair, and shoulders three face widths wide below it."""
    mask = np.full(shape[:2], 255, np.uint8)
    for face in faces:
        x, y, w, h = (v * scale for v in (face.x, face.y, face.w, face.h))
        _blank(mask, x - 0.4 * w, y - 0.6 * h, x + 1.4 * w, y + 1.2 * h)
        _blank(mask, x - 1.0 * w, y + 1.1 * h, x + 2.0 * w, float(shape[0]))
    return mask


def _blank(mask: Image, x0: float, y0: float, x1: float, y1: float) -> None:
    mask[max(0, int(y0)) : max(0, int(y1)), max(0, int(x0)) : max(0, int(x1))] = 0
