"""The feed of the scan: decoded frames with their grid points and cut flags, a few frames behind the decoder.

PySceneDetect's adaptive detector decides about a frame two frames later, so frames wait in a short queue until it is
known whether a new shot begins with them. Pictures are converted and reduced once, here. Measured on 1280x720, one
core: the picture 1.8 ms a frame from 1920x1080, its reduction 0.2, the decision about cuts 0.6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scenedetect import AdaptiveDetector, FrameTimecode

from annotators.picture import picture
from curation.media.video import DecodeReport, iter_frames
from schemas.time import GRID_HZ, Interval

Image = npt.NDArray[np.uint8]

_LEAD_S = 1.0
"""Decoded before and after a window, so that detectors which look around know what was there, in seconds."""

_WINDOW = 2  # frames the adaptive detector looks to either side
_CUT_SIDE_PX = 256
_SMALL_SIDE_PX = 320
_EARLY_S = 1e-3  # a frame this much after a grid point still counts as the one shown there


@dataclass(slots=True)
class Shown:
    """One decoded frame: its grid points (none for a frame between them), picture, and whether a shot begins."""

    t_s: float
    index: int
    grid: range
    rgb: Image | None
    small: Image
    """the picture halved as long as its longer side stays 320 px or more, for measures of the whole picture"""
    size: tuple[int, int]
    """displayed width and height of the source's picture, in pixels; `rgb` may be smaller"""
    cut: bool = False
    content: float = 0.0
    """change of content since the frame before, in PySceneDetect's unit"""
    around: tuple[float, ...] = ()
    """the same of the two frames on either side"""


class CutFeed:
    """Feeds frames to the detector and returns them when it has decided about them, in order.

    The detector would tell its scores through a StatsManager, but then also looks for edges that no score of it uses,
    which costs more than all the rest of it; so the score of content is computed here once more.
    """

    def __init__(self, threshold: float, min_content: float) -> None:
        self._detector = AdaptiveDetector(
            adaptive_threshold=threshold, min_scene_len=1, window_width=_WINDOW, min_content_val=min_content
        )
        self._waiting: deque[Shown] = deque()
        self._scores: deque[float] = deque(maxlen=2 * _WINDOW + 1)
        self._hsv: Image | None = None
        self._n = 0

    def add(self, shown: Shown) -> Iterator[Shown]:
        """Take the next frame; yield the one that is decided now."""
        self._waiting.append(shown)
        bgr = cv2.cvtColor(picture.scale_to(shown.small, _CUT_SIDE_PX), cv2.COLOR_RGB2BGR)
        time = FrameTimecode(self._n, float(GRID_HZ))
        for cut in self._detector.process_frame(time, bgr):
            self._waiting[cut.frame_num - (self._n - len(self._waiting) + 1)].cut = True
        hsv = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV), np.uint8)
        self._scores.append(0.0 if self._hsv is None else content_change(hsv, self._hsv))
        self._hsv = hsv
        self._n += 1
        if len(self._waiting) > _WINDOW:
            decided = self._waiting.popleft()
            scores = list(self._scores)
            decided.content = scores[-1 - _WINDOW]
            decided.around = tuple(scores[: -1 - _WINDOW] + scores[-_WINDOW:])
            yield decided

    def rest(self) -> Iterator[Shown]:
        """Yield the frames that are still waiting, at the end of the stream."""
        while self._waiting:
            decided = self._waiting.popleft()
            decided.content = self._scores[-1 - len(self._waiting)]
            yield decided


def content_change(hsv: Image, previous: Image) -> float:
    """Return PySceneDetect's `content_val` of two pictures uint8 [H, W, 3] in OpenCV's HSV, 0 (equal) to 255.

    The mean absolute difference over hue, saturation and value, weighted alike (its default weights; no edges).
    """
    return float(cv2.norm(hsv, previous, cv2.NORM_L1)) / hsv.size


def read(
    path: Path, window: Interval, report: DecodeReport, *, max_side: int, threshold: float, min_content: float
) -> Iterator[Shown]:
    """Decode [start - lead, end + a few frames) once and yield frames in order, with cuts decided.

    Frames outside the window come too (their `grid` lies outside as well): measurers that look back need them.
    A grid point k belongs to the latest frame shown at k / 25 s.
    """
    feed = CutFeed(threshold, min_content)
    start_s = max(0.0, window.start_s - _LEAD_S)
    # Frames after the window tell what its last ones begin; the detector needs three, at 5 a second and above.
    end_s = window.end_s + _LEAD_S
    held: tuple[Shown, float] | None = None
    for frame in iter_frames(path, start_s, end_s, report=report):
        size = (frame.width, frame.height)
        rgb = frame.rgb(max_side)
        small = picture.halve_to(rgb, _SMALL_SIDE_PX)
        shown = Shown(frame.pts_s, -1 if frame.index is None else frame.index, range(0), rgb, small, size)
        if held is not None:
            yield from _decide(feed, *held, frame.pts_s)
        held = (shown, frame.pts_s + frame.duration_s)
    if held is not None:
        yield from _decide(feed, *held, held[1])
    yield from feed.rest()


def _decide(feed: CutFeed, shown: Shown, end_s: float, next_s: float) -> Iterator[Shown]:
    first, last = first_k(shown.t_s), first_k(next_s)
    shown.grid = range(0 if shown.index == 0 else first, last)
    if not shown.grid:
        shown.rgb = None
    yield from feed.add(shown)


def first_k(t_s: float) -> int:
    """First grid point at which a frame with this presentation time is on screen."""
    return int(np.ceil((t_s - _EARLY_S) * GRID_HZ - 1e-9))
