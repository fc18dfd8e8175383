"""Where a new shot begins: what the detector, the pictures, the faces and a network say, weighed.

A step so large that nothing else could be meant is a cut by itself. Every other doubt (a lesser step, a flash, colours
that change slowly, a large step across which every face stays where it was) is put to TransNetV2. How sure it must be
depends on what else is seen: little where the pictures before and after have nothing in common, much where a flash
returns to the picture before it, more where no face moves.

The limits were read off 23 clips of real conversations and off transitions made of them, where they lie between what
was to be found and what was not; `benchmarks/cuts.py` measures them, and beside them limits that never saw the clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from annotators.picture.shot_change import (
    Pictures,
    Series,
    Thinner,
    Thumbnails,
    compare,
    mixed_frames,
    ratios,
    thumbnail,
)
from stages.scan.evidence import LIMITS, SLOW_REACH, Limits, Seen, Shift, distance

_DETECTOR = "pyscenedetect-adaptive"
NETWORK = "transnetv2"
STEP = "frame-difference"
GRADUAL = "scene-change-heuristic"

Told = tuple[float, str]
"""Score and annotator."""
Network = Callable[[Thumbnails, npt.NDArray[np.bool_]], npt.NDArray[np.float64]]


_ASK_SIDE = 3  # frames to either side of a doubt that are asked about
_CLUSTER = 6  # frames: cuts nearer than this are one
_BLEND = 0.35  # a step of this share of the largest may be its other half, and the frame between a blend
_STRAIGHT = 0.85  # two steps lead the same way where together they come this far
_SLOW_SIDE = 14  # frames: the rest of a slow change that the network has told of already
_LOCAL = 12  # frames to either side of a slow change that are part of it
_PLATEAU = 0.75  # of the largest difference of colours: the middle of such a stretch is the place of a slow change


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
    mixed_s: float
    """seconds before it whose frames are mixed of both shots"""


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
        return [Change(i, *self.rows[i], score, by, not self.flagged[i], self._mixed_s(i)) for i, score, by in found]

    def _mixed_s(self, i: int) -> float:
        return self.rows[i][1] - self.rows[i - mixed_frames(self.thumbs, i)][1]

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
    seen = Seen(content, flagged, pictures, shift, limits, ratios(content))
    n, steps = len(content), seen.steps()
    sure = [i for i in steps if seen.sure(i)]
    told: dict[int, Told] = {i: (float(content[i]), _DETECTOR if flagged[i] else STEP) for i in sure}
    flashes = np.flatnonzero(pictures.luma_steps() >= limits.ask_luma).tolist()
    slow = [i for i, _ in _slow_changes(pictures, sure, limits.ask_difference)]
    near_sure = _near(sure, n, _CLUSTER)
    doubts = sorted(i for i in {*steps, *flashes, *slow} if i > 0 and not near_sure[i])
    chance = np.zeros(n) if network is None or not doubts else network(pictures.thumbs, _near(doubts, n, _ASK_SIDE))
    for i in doubts:
        shot = _shot(i, sure, n)
        if network is None:
            if flagged[i] and not seen.returns(i, shot) and not seen.kept(i):
                told[i] = (float(content[i]), _DETECTOR)
            continue
        best = max(range(max(1, i - _ASK_SIDE), min(n, i + _ASK_SIDE + 1)), key=lambda j: chance[j])
        if chance[best] >= seen.least(best, shot):
            told[best] = (float(chance[best]), _DETECTOR if flagged[best] else NETWORK)
    kept = _one_each(told, content, pictures.thumbs)
    near_doubt = _near([i for i in kept if i not in sure], n, _SLOW_SIDE)
    for i, difference in _slow_changes(pictures, sorted(kept), limits.other_scene):
        other = pictures.likeness(i, *_shot(i, sorted(kept), n)) <= limits.other_likeness
        if other and not near_doubt[i] and not seen.kept(i, SLOW_REACH):
            kept[i] = (difference, GRADUAL)
    return [(i, *kept[i]) for i in sorted(kept)]


def _slow_changes(pictures: Pictures, cuts: Sequence[int], least: float) -> list[tuple[int, float]]:
    """Return (frame, difference) where the colours of a shot change most, and by at least so much."""
    out = []
    for first, last in itertools.pairwise([0, *cuts, len(pictures.thumbs)]):
        series = np.array([pictures.difference(i, first, last) for i in range(first, last)])
        left = series.copy()
        while len(left) and left.max() >= least:
            j = int(np.argmax(left))
            low = np.flatnonzero(series < _PLATEAU * series[j])
            begin = int(max(low[low < j], default=-1)) + 1
            end = int(min(low[low > j], default=len(series)))
            out.append((first + (begin + end) // 2, float(series[j])))
            left[max(0, begin - _LOCAL) : end + _LOCAL] = 0.0
    return sorted(out)


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
    whole = distance(thumbs[i + 1], thumbs[i - 1])
    return whole >= _STRAIGHT * (distance(thumbs[i], thumbs[i - 1]) + distance(thumbs[i + 1], thumbs[i]))
