"""Where a new shot begins: what the detector, the pictures, the faces and a network say, weighed.

A step so large that nothing else could be meant is a cut by itself. Every other doubt (a lesser step, a flash, colours
that change slowly, a large step across which every face stays where it was) is put to TransNetV2. How sure it must be
depends on what else is seen: little where the pictures before and after have nothing in common, much where a flash
returns to the picture before it, more where no face moves.

The thresholds were read off 23 clips of real conversations and made transitions, where they lie between what was to be
kept and what was not; `benchmarks/cuts.py` measures them, each clip with thresholds that never saw it beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.shot_change import Pictures, Series, Thinner, Thumbnails, compare, ratios, thumbnail

DETECTOR = "pyscenedetect-adaptive"
NETWORK = "transnetv2"
STEP = "frame-difference"
GRADUAL = "scene-change-heuristic"

Told = tuple[float, str]
"""Score and annotator."""
Shift = Callable[[int, int], float | None]
Network = Callable[[Thumbnails, npt.NDArray[np.bool_]], npt.NDArray[np.float64]]


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
    """a face is kept where its landmarks move by no more of its width; at cuts in one scene they move by 0.05 and more"""
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

_ASK_SIDE = 3  # frames to either side of a doubt that are asked about
_CLUSTER = 6  # frames: cuts nearer than this are one
_BLEND = 0.35  # a step of this share of the largest may be its other half, and the frame between a blend
_STRAIGHT = 0.85  # two steps lead the same way where together they come this far
_SLOW_REACH = 8  # grid points
_SLOW_SIDE = 14  # frames: the rest of a slow change that the network has told of already
_LOCAL = 12  # frames: a slow change is looked into where it is largest among so many to either side
_FLASH_SIDE = 4


@dataclass(frozen=True, slots=True)
class Change:
    """The first frame of a new shot, and what says so."""

    i: int
    """index among the frames that were looked at"""
    k: int
    t_s: float
    frame: int
    score: float
    """content change of PySceneDetect, or a probability, or a difference of colours, by annotator"""
    annotator: str
    followed: bool
    """the faces were followed across it, so that their rows are to be divided there"""


@dataclass(slots=True)
class ShotMeter:
    """Collects what is needed of each frame of a window, some 4 kB, and decides at its end."""

    thumbs: list[Thumbnails] = field(default_factory=list)
    rows: list[tuple[int, float, int]] = field(default_factory=list)
    """(k, time, index in the file)"""
    content: list[float] = field(default_factory=list)
    flagged: list[bool] = field(default_factory=list)
    _thinner: Thinner = field(default_factory=Thinner)
    _content: float = 0.0
    _flagged: bool = False

    def add(self, t_s: float, k: int, index: int, small: Thumbnails, content: float, flagged: bool) -> None:
        """Take the next frame; `content` is its change since the one before, `flagged` the detector's word."""
        self._content, self._flagged = max(self._content, content), self._flagged or flagged
        if self._thinner.keeps(t_s):
            self.thumbs.append(thumbnail(small))
            self.rows.append((k, t_s, index))
            self.content.append(self._content)
            self.flagged.append(self._flagged)
            self._content, self._flagged = 0.0, False

    def changes(self, shift: Shift, network: Network | None) -> list[Change]:
        """Return the first frames of new shots in order.

        Args:
            shift: how far the faces move between two grid points, in face widths: the largest of all; None without
                faces (see `face_shift`).
            network: TransNetV2, or None where it is not at hand: then doubts are settled by the rest.
        """
        if len(self.thumbs) < 2:
            return []
        pictures = compare(np.stack(self.thumbs))
        ks = [k for k, _, _ in self.rows]

        def moved(i: int, reach: int) -> float | None:
            return shift(ks[i] - 1 - reach, ks[i] + reach)

        found = decide(np.array(self.content), np.array(self.flagged), pictures, moved, network)
        return [Change(i, *self.rows[i], score, by, not self.flagged[i]) for i, score, by in found]

    def quiet(self, changes: Sequence[Change]) -> tuple[Series, Series]:
        """Return times and content changes [N] of the frames; NaN at the changes and beside them."""
        content = np.array(self.content)
        content[_near([c.i for c in changes], len(content), _CLUSTER)] = np.nan
        return np.array([t for _, t, _ in self.rows]), content


def decide(
    content: Series,
    flagged: npt.NDArray[np.bool_],
    pictures: Pictures,
    shift: Shift,
    network: Network | None,
    limits: Limits = LIMITS,
) -> list[tuple[int, float, str]]:
    """Return (frame, score, annotator) of each first frame of a new shot, in order.

    Args:
        content: change of content since the frame before [N], PySceneDetect's unit.
        flagged: where its adaptive detector found a cut [N].
        pictures: thumbnails of the frames.
        shift: how far the faces move at a frame, from so many grid points before it to so many after, in face widths:
            the largest of all; None without faces.
        network: see `ShotMeter.changes`.
        limits: what counts as what.
    """
    seen = _Seen(content, flagged, pictures, shift, limits, ratios(content))
    n, steps = len(content), seen.steps()
    sure = [i for i in steps if seen.sure(i)]
    told: dict[int, Told] = {i: (float(content[i]), DETECTOR if flagged[i] else STEP) for i in sure}
    flashes = np.flatnonzero(pictures.luma_steps() >= limits.ask_luma).tolist()
    slow = [i for i, _ in slow_changes(pictures, sure, limits.ask_difference)]
    near_sure = _near(sure, n, _CLUSTER)
    doubts = sorted(i for i in {*steps, *flashes, *slow} if i > 0 and not near_sure[i])
    chance = np.zeros(n) if network is None or not doubts else network(pictures.thumbs, _near(doubts, n, _ASK_SIDE))
    for i in doubts:
        shot = _shot(i, sure, n)
        if network is None:
            if flagged[i] and not seen.returns(i, shot) and not seen.kept(i):
                told[i] = (float(content[i]), DETECTOR)
            continue
        best = max(range(max(1, i - _ASK_SIDE), min(n, i + _ASK_SIDE + 1)), key=lambda j: chance[j])
        if chance[best] >= seen.least(best, shot):
            told[best] = (float(chance[best]), DETECTOR if flagged[best] else NETWORK)
    kept = _one_each(told, content, pictures.thumbs)
    near_doubt = _near([i for i in kept if i not in sure], n, _SLOW_SIDE)
    for i, difference in slow_changes(pictures, sorted(kept), limits.other_scene):
        other = pictures.likeness(i, *_shot(i, sorted(kept), n)) <= limits.other_likeness
        if other and not near_doubt[i] and not seen.kept(i, _SLOW_REACH):
            kept[i] = (difference, GRADUAL)
    return [(i, *kept[i]) for i in sorted(kept)]


def slow_changes(pictures: Pictures, cuts: Sequence[int], least: float) -> list[tuple[int, float]]:
    """Return (frame, difference) where the colours of a shot change most, and by at least so much."""
    out = []
    for first, last in itertools.pairwise([0, *cuts, len(pictures.thumbs)]):
        series = np.array([pictures.difference(i, first, last) for i in range(first, last)])
        for j in np.flatnonzero(series >= least).tolist():
            around = series[max(0, j - _LOCAL) : j + _LOCAL + 1]
            if int(np.argmax(around)) == min(j, _LOCAL):
                out.append((first + j, float(series[j])))
    return out


@dataclass(frozen=True, slots=True)
class _Seen:
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
        moved = self.shift(i, 0 if self.usual[i] >= limits.ask_ratio else _SLOW_REACH)
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
        largest = max((_distance(thumbs[j], thumbs[j - 1]) for j in near), default=0.0)
        beside = _distance(thumbs[max(first, i - 8)], thumbs[min(last - 1, i + 8)])
        return beside < self.limits.returns * largest

    def kept(self, i: int, reach: int = 0) -> bool:
        """Say whether every face stays where it is."""
        moved = self.shift(i, reach)
        return moved is not None and moved <= self.limits.kept


def _distance(a: Thumbnails, b: Thumbnails) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


def _near(places: Sequence[int], n: int, side: int) -> npt.NDArray[np.bool_]:
    out = np.zeros(n, bool)
    for i in places:
        out[max(0, i - side) : i + side + 1] = True
    return out


def _shot(i: int, cuts: Sequence[int], n: int) -> tuple[int, int]:
    """Return first and last + 1 of the frames between the cuts around a frame."""
    return max((c for c in cuts if c < i), default=0), min((c for c in cuts if c > i), default=n)


def _one_each(
    scores: dict[int, tuple[float, str]], content: Series, thumbs: Thumbnails
) -> dict[int, tuple[float, str]]:
    """Return one place of each group of near ones: its largest step, or the frame after where it leads to a blend."""
    groups: list[list[int]] = []
    for i in sorted(scores):
        if groups and i - groups[-1][-1] < _CLUSTER:
            groups[-1].append(i)
        else:
            groups.append([i])
    out = {}
    for group in groups:
        strongest = max(group, key=lambda i: (content[i], -i))
        out[strongest + _is_blend(content, thumbs, strongest)] = scores[strongest]
    return out


def _is_blend(content: Series, thumbs: Thumbnails, i: int) -> bool:
    """Say whether a frame lies between the two shots: the next step is large too, and leads on the same way."""
    if i + 1 >= len(thumbs) or content[i + 1] < _BLEND * content[i]:
        return False
    whole = _distance(thumbs[i + 1], thumbs[i - 1])
    return whole >= _STRAIGHT * (_distance(thumbs[i], thumbs[i - 1]) + _distance(thumbs[i + 1], thumbs[i]))


def face_shift(crops: Sequence[dict[str, Any]]) -> Shift:
    """Return a function that says how far the faces move from one grid point to another; `crops` are FACE_CROPS rows.

    The largest of all faces at the first, each to the nearest face at the second, in face widths; None where there is
    none at the first or nothing is known of the second, infinite where there is none at the second. A face may be
    missing for some grid points.
    """
    at: dict[int, list[npt.NDArray[np.float64]]] = {}
    for row in crops:
        if row["landmarks"] is not None:
            points = np.frombuffer(row["landmarks"], "<i2").reshape(-1, 2).astype(np.float64) / 8.0
            at.setdefault(row["k"], []).append(points)

    last = max(at, default=0)

    def shift(before_k: int, after_k: int) -> float | None:
        before: list[Any] = next((at[j] for j in range(before_k, before_k - 3, -1) if j in at), [])
        after: list[Any] = next((at[j] for j in range(after_k, after_k + 7) if j in at), [])
        if not before or (not after and after_k > last):
            return None
        return max(
            min((float(np.median(np.linalg.norm(b - a, axis=1))) for b in after), default=np.inf)
            / max(1.0, float(np.ptp(a[:, 0])))
            for a in before
        )

    return shift
