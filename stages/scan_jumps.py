"""Jump cuts: a cut within one setting, which changes the picture too little for a shot detector.

Two signs must agree: the whole picture changes more than in the frames around (but so it does when a key frame
refreshes it), and every face jumps, all its landmarks at once, more than it moves in the frames around (but so it
does when somebody flinches). A heuristic, and named so in the data; thresholds from talking-head footage, where each
sign alone fires on ordinary frames and both together do not.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NAME = "jump-cut-heuristic"

_MIN_CONTENT = 3.0  # content change, in PySceneDetect's unit
_MIN_CONTENT_RATIO = 3.0  # to the mean of the two frames on either side
_MIN_JUMP = 0.006  # median landmark displacement / face width
_MIN_JUMP_RATIO = 3.0  # to the mean of the three frames on either side
_REACH = 3
_FLOOR = 0.002  # landmark noise


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame at which the picture changes more than around it."""

    k: int
    t_s: float
    frame: int
    content: float


def is_candidate(content: float, around: Sequence[float]) -> bool:
    """Say whether a frame's content change stands out from its neighbours'."""
    usual = max(0.2, float(np.mean(around))) if around else 0.2
    return content >= _MIN_CONTENT and content / usual >= _MIN_CONTENT_RATIO


def jump_cuts(candidates: Sequence[Candidate], crops: Sequence[dict[str, Any]]) -> list[Candidate]:
    """Return the candidates at which every face in view jumps; `crops` are FACE_CROPS rows with landmarks."""
    if not candidates:
        return []
    steps = _steps(crops)
    out = []
    for c in candidates:
        here = [s for s in steps.values() if c.k in s]
        if here and all(_jumps(s, c.k) for s in here):
            out.append(c)
    return out


def split(rows: list[dict[str, Any]], cuts: Sequence[Candidate], prefix: str) -> None:
    """Give the part of each tracklet after a cut an id of its own, in place; ids stay in order of first use."""
    if not cuts:
        return
    ks = sorted(c.k for c in cuts)
    for row in rows:
        part = sum(k <= row["k"] for k in ks)
        if part:
            number = row["tracklet_id"].rsplit("-", 1)[1]
            row["tracklet_id"] = f"{prefix}-{number}j{part}"


def _steps(crops: Sequence[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Per tracklet and grid index, how far the landmarks moved since the grid point before, in face widths."""
    tracks: dict[str, list[tuple[int, npt.NDArray[np.float64]]]] = defaultdict(list)
    for row in crops:
        if row["landmarks"] is not None:
            points = np.frombuffer(row["landmarks"], "<i2").reshape(-1, 2).astype(np.float64)
            tracks[row["tracklet_id"]].append((row["k"], points))
    out: dict[str, dict[int, float]] = {}
    for name, series in tracks.items():
        moved = out.setdefault(name, {})
        for (k0, a), (k1, b) in itertools.pairwise(series):
            if k1 == k0 + 1:
                width = max(1.0, float(np.ptp(b[:, 0])))
                moved[k1] = float(np.median(np.linalg.norm(b - a, axis=1))) / width
    return out


def _jumps(steps: dict[int, float], k: int) -> bool:
    around = [steps[j] for j in range(k - _REACH, k + _REACH + 1) if j != k and j in steps]
    usual = max(_FLOOR, float(np.mean(around))) if around else _FLOOR
    return steps[k] >= _MIN_JUMP and steps[k] / usual >= _MIN_JUMP_RATIO
