"""What is seen at a frame that may begin a new shot, and what counts as how much. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.picture.shot_change import Pictures, Series, Thumbnails
from schemas.tables.scan import FaceCropRow

Points = npt.NDArray[np.float64]
"""Landmarks [478, 2] in pixels."""
Shift = Callable[[int, int], float | None]

SLOW_REACH = 8
"""Grid points to either side over which a slow change moves faces."""
_FLASH_SIDE = 4  # frames
_BESIDE = 8  # frames


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as what. Content is PySceneDetect's, likeness and difference are of the pictures before and after."""

    sure_content: float = 25.0
    sure_ratio: float = 8.0
    """a step of this content change and multiple of what is usual is a cut by itself"""
    sure_likeness: float = 0.7
    """where the pictures are less alike than this"""
    ask_content: float = 10.0
    ask_ratio: float = 2.5
    """a step that is looked into"""
    ask_luma: float = 10.0
    """a change of mean luma from one frame to the next that is looked into, 0-255"""
    ask_difference: float = 0.3
    """a slow change of colours that is looked into; inside shots it stayed below 0.3"""
    other_scene: float = 0.5
    other_likeness: float = 0.35
    """colours that differ by this and pictures no more alike are of different scenes, whatever lies between"""
    unlike: float = 0.5
    """pictures less alike than this have little in common"""
    light: float = 0.9
    """pictures more alike than this are one scene in another light, unless a face moves; across cuts: 0.82 at most"""
    returns: float = 0.5
    """a flash returns where the pictures before and after differ by less than this share of its largest step"""
    kept: float = 0.03
    """a face is kept where its landmarks move by no more of its width; at cuts in one scene they move by 0.05 and up"""
    least: float = 0.3
    """how sure the network must be in general"""
    least_unlike: float = 0.2
    """between pictures with little in common"""
    least_return: float = 0.6
    """where a flash returns"""
    least_kept: float = 0.9
    """where all faces are kept"""
    least_kept_other: float = 0.4
    """where they are kept before another scene (an inset)"""


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen at a frame."""

    content: Series
    flagged: npt.NDArray[np.bool_]
    pictures: Pictures
    shift: Shift
    limits: Limits
    usual: Series

    def steps(self) -> list[int]:
        """Return the frames at which the picture changes more than usual."""
        large = self.content >= self.limits.ask_content
        return np.flatnonzero(large & (self.flagged | (self.usual >= self.limits.ask_ratio))).tolist()

    def sure(self, i: int) -> bool:
        """Say whether a step can be nothing but a cut."""
        limits, whole = self.limits, (0, len(self.content))
        large = self.content[i] >= limits.sure_content and self.usual[i] >= limits.sure_ratio
        alike = self.pictures.likeness(i, *whole) >= limits.sure_likeness
        return bool(large) and not alike and not self.returns(i, whole) and not self.kept(i)

    def least(self, i: int, shot: tuple[int, int]) -> float:
        """Return how sure the network must be about a frame; infinite where nothing could convince."""
        limits = self.limits
        likeness, difference = self.pictures.likeness(i, *shot), self.pictures.difference(i, *shot)
        moved = self.shift(i, 0 if self.usual[i] >= limits.ask_ratio else SLOW_REACH)
        if likeness >= limits.light and (moved is None or moved <= limits.kept):
            return np.inf
        if self.returns(i, shot):
            return limits.least_return
        if moved is not None and moved <= limits.kept:
            other = difference >= limits.other_scene and likeness <= limits.other_likeness
            return limits.least_kept_other if other else limits.least_kept
        unlike = likeness <= limits.unlike and difference >= limits.ask_difference
        return limits.least_unlike if unlike else limits.least

    def returns(self, i: int, shot: tuple[int, int]) -> bool:
        """Say whether the picture comes back after what happens at a frame, as after a flash."""
        thumbs, (first, last) = self.pictures.thumbs, shot
        near = range(max(first + 1, i - _FLASH_SIDE), min(last, i + _FLASH_SIDE + 1))
        largest = max((distance(thumbs[j], thumbs[j - 1]) for j in near), default=0.0)
        beside = distance(thumbs[max(first, i - _BESIDE)], thumbs[min(last - 1, i + _BESIDE)])
        return beside < self.limits.returns * largest

    def kept(self, i: int, reach: int = 0) -> bool:
        """Say whether every face stays where it is."""
        moved = self.shift(i, reach)
        return moved is not None and moved <= self.limits.kept


def distance(a: Thumbnails, b: Thumbnails) -> float:
    """Return the mean absolute difference of two thumbnails, 0-255."""
    return float(np.abs(a.astype(np.int16) - b).mean())


def face_shift(crops: Iterable[FaceCropRow]) -> Shift:
    """Return a function that says how far the faces move from one grid point to another.

    The largest of all faces at the first, each to the nearest face at the second, in face widths; None where there is
    none at the first or nothing is known of the second, infinite where there is none at the second. A face may be
    missing for some grid points.
    """
    at: dict[int, list[Points]] = {}
    for row in crops:
        if row.landmarks is not None:
            points = np.frombuffer(row.landmarks, "<i2").reshape(-1, 2).astype(np.float64) / 8.0
            at.setdefault(row.k, []).append(points)

    last = max(at, default=0)

    def shift(before_k: int, after_k: int) -> float | None:
        before: list[Points] = next((at[j] for j in range(before_k, before_k - 3, -1) if j in at), [])
        after: list[Points] = next((at[j] for j in range(after_k, after_k + 7) if j in at), [])
        if not before or (not after and after_k > last):
            return None
        return max(
            min((float(np.median(np.linalg.norm(b - a, axis=1))) for b in after), default=np.inf)
            / max(1.0, float(np.ptp(a[:, 0])))
            for a in before
        )

    return shift
