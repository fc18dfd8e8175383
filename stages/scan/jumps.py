"""Jump cuts: a cut within one setting, which changes the picture too little for a shot detector.

Two signs must agree: the whole picture changes more than in the frames around (but so it does when a key frame
refreshes it), and every face jumps, all its landmarks at once, more than it moves in the frames around (but so it
does when somebody flinches). A heuristic, and named so in the data; thresholds from talking-head footage, where each
sign alone fires on ordinary frames and both together do not.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.tables.scan import FaceCropRow

NAME = "jump-cut-heuristic"

_MIN_CONTENT = 3.0  # content change, in PySceneDetect's unit
_MIN_CONTENT_RATIO = 3.0  # to the mean of the two frames on either side
_REPEATED = 0.3  # a smaller change of content is the same picture coded again
_MIN_AROUND = 3
_MIN_JUMP = 0.006  # median landmark displacement / face width
_MIN_JUMP_RATIO = 3.0  # to the mean of the three frames on either side
_MIN_JUMP_LEAD = 2.0  # to the larger of the two beside it: who turns fast goes on turning in the next frame
_MIN_JUMP_PX = 1.5  # and in pixels: on a small face the landmarks of a refreshed picture move by one
_REACH = 3
_MAX_HOLD = 5  # grid points a frame may be held; longer ones are gaps
_LANDMARK_SCALE = 8.0
_BESIDE_S, _REFRESH_S = 0.1, 1.2  # key frames come at least every 1.2 s where they are a nuisance
_FLOOR = 0.002  # landmark noise


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame at which the picture changes more than around it."""

    k: int
    t_s: float
    frame: int
    content: float


def is_candidate(content: float, around: Sequence[float]) -> bool:
    """Say whether a frame's content change stands out from its neighbours'.

    Where frames are repeated (a source of a lower rate in a file of a higher one), every other change is zero and
    the rest stand out by that alone: at least three of the four neighbours must be pictures of their own.
    """
    own = [v for v in around if v >= _REPEATED]
    if len(own) < _MIN_AROUND:
        return False
    return content >= _MIN_CONTENT and content / float(np.mean(own)) >= _MIN_CONTENT_RATIO


def stands_alone(candidate: Candidate, times: npt.NDArray[np.float64], content: npt.NDArray[np.float64]) -> bool:
    """Say whether no change as large lies near a candidate, as where key frames refresh the picture at intervals.

    Args:
        candidate: a frame that stands out from its neighbours.
        times: of frames, in seconds [N].
        content: change of content at each [N]; NaN at cuts and beside them, where no candidate stands alone.
    """
    away = np.abs(times - candidate.t_s)
    if len(times) == 0 or np.isnan(content[int(np.argmin(away))]):
        return False
    others = content[(away > _BESIDE_S) & (away <= _REFRESH_S)]
    return bool(np.nanmax(others, initial=0.0) <= candidate.content)


def jump_cuts(candidates: Sequence[Candidate], crops: Iterable[FaceCropRow]) -> list[Candidate]:
    """Return the candidates at which every face in view jumps, by its landmarks."""
    if not candidates:
        return []
    moved = steps(crops)
    out = []
    for c in candidates:
        here = [s for s in moved.values() if c.k in s]
        if here and all(_jumps(s, c.k) for s in here):
            out.append(c)
    return out


def after_cuts(tracklet_id: str, k: int, cuts: Sequence[int]) -> str:
    """Return the name of what is a tracklet's at a grid point: from each cut's grid point on it has one of its own."""
    part = sum(cut <= k for cut in cuts)
    return f"{tracklet_id}j{part}" if part else tracklet_id


def steps(crops: Iterable[FaceCropRow]) -> dict[str, dict[int, tuple[float, float]]]:
    """Per tracklet and grid index, how far the landmarks moved since the frame before: (face widths, pixels).

    A frame that is held over several grid points counts once, at the first of them.
    """
    tracks: dict[str, list[tuple[int, npt.NDArray[np.float64]]]] = defaultdict(list)
    for row in crops:
        if row.landmarks is not None:
            points = np.frombuffer(row.landmarks, "<i2").reshape(-1, 2).astype(np.float64) / _LANDMARK_SCALE
            series = tracks[row.tracklet_id]
            if not series or not np.array_equal(series[-1][1], points):
                series.append((row.k, points))
    out: dict[str, dict[int, tuple[float, float]]] = {}
    for name, series in tracks.items():
        moved = out.setdefault(name, {})
        for (k0, a), (k1, b) in itertools.pairwise(series):
            if k1 - k0 <= _MAX_HOLD:
                step = float(np.median(np.linalg.norm(b - a, axis=1)))
                moved[k1] = (step / max(1.0, float(np.ptp(b[:, 0]))), step)
    return out


def _jumps(steps: dict[int, tuple[float, float]], k: int) -> bool:
    order = sorted(steps)
    i = order.index(k)
    before, after = order[max(0, i - _REACH) : i], order[i + 1 : i + 1 + _REACH]
    around, beside = ([steps[j][0] for j in near] for near in ((*before, *after), (*before[-1:], *after[:1])))
    usual = max(_FLOOR, float(np.mean(around))) if around else _FLOOR
    least = max(_MIN_JUMP_RATIO * usual, _MIN_JUMP_LEAD * max(beside, default=0.0))
    widths, pixels = steps[k]
    return widths >= _MIN_JUMP and pixels >= _MIN_JUMP_PX and widths >= least
