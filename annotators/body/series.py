"""One person's body over one segment, five measurements a second, and what holds of all of it. Pure numpy.

Lengths are in shoulder widths, which no camera distance changes. Gaps stay gaps: nothing is interpolated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from annotators.body.measures import Posture
from annotators.face.views import View, view_from_yaw
from annotators.performance.signal_series import Series

Term = TypeVar("Term", bound=str)

HAND = 0.5
"""Probability from which a hand counts as seen."""
_RAISED, _JOINED, _AT_FACE = 0.0, 0.6, 1.3
"""Wrists above the shoulders' line; nearer to each other than this share of the shoulders' width; nearer to the face's
middle than this many face heights, which a hand's length reaches over."""


@dataclass(frozen=True, eq=False)
class BodySignals:
    """A person's body at n times; nan = not seen.

    `t_s` [n] seconds, `shoulders` [n, 2, 2] and `wrists` [n, 2, 2] are (left, right) points in picture pixels,
    `width` [n] the shoulders' width in pixels, `yaw_deg` [n] where the chest faces, `hands` [n, 2] probabilities of a
    hand at the wrists, `face` [n, 3] the face's middle and its height in pixels. `looks` [n] says how many looks each
    row stands for. `postures` [n] are terms or None.
    """

    t_s: Series
    shoulders: Series
    wrists: Series
    width: Series
    yaw_deg: Series
    hands: Series
    face: Series
    looks: Series
    postures: tuple[Posture | None, ...] = ()

    @property
    def scale(self) -> float:
        """Return the usual shoulder width in pixels; nan where it was never seen."""
        known = self.width[np.isfinite(self.width)]
        return float(np.median(known)) if len(known) else float("nan")

    def relative_wrists(self) -> Series:
        """Return wrists [n, 2, 2] from the middle of the shoulders, in shoulder widths: x to image right, y down."""
        middle = self.shoulders.mean(axis=1, keepdims=True)
        out: Series = (self.wrists - middle) / self.scale
        return out


def wrist_speeds(body: BodySignals) -> Series:
    """Return the speed [n - 1, 2] of both wrists between measurements, in shoulder widths a second; nan = not seen.

    The smaller of that against the shoulders and that in the picture: a hand that lies on a table does not stroke when
    the trunk moves, nor does one that the camera passes.
    """
    if len(body.t_s) < 2:
        return np.zeros((0, 2))
    against, shown = body.relative_wrists(), body.wrists / body.scale
    steps = np.fmin(*(np.linalg.norm(np.diff(place, axis=0), axis=2) for place in (against, shown)))
    steps[~np.isfinite(against[1:]).all(axis=2) | ~np.isfinite(against[:-1]).all(axis=2)] = np.nan
    out: Series = steps / np.diff(body.t_s)[:, None]
    return out


@dataclass(frozen=True, slots=True)
class BodySummary:
    """What holds of a segment's body; see the table `bodies`."""

    hands_visible_ratio: float
    gesture_energy: float | None
    body_yaw_deg: float | None
    body_view: View | None
    posture: Posture | None
    arms: str | None


def summary(body: BodySignals, looked_at: int) -> BodySummary:
    """Return the summary of a segment of `looked_at` looks (those without a body and those passed over included)."""
    n = max(1, looked_at)
    hands = (np.nan_to_num(body.hands) >= HAND).any(axis=1)
    speeds = wrist_speeds(body)
    known = np.isfinite(speeds).any(axis=1)
    energy = float(np.nanmax(speeds[known], axis=1).mean()) if known.any() else None
    turned = np.isfinite(body.yaw_deg)
    yaw = middle_angle(body.yaw_deg[turned]) if body.looks[turned].sum() >= n / 2 else None
    return BodySummary(
        hands_visible_ratio=float(body.looks[hands].sum()) / n,
        gesture_energy=energy,
        body_yaw_deg=yaw,
        body_view=None if yaw is None else view_from_yaw(yaw),
        posture=_mostly(body.postures, body.looks, n),
        arms=_mostly(_arms(body), body.looks, n),
    )


def middle_angle(degrees: Series) -> float:
    """Return the median of angles about their mean direction, in (-180, 180]: 179 and -179 are neighbours."""
    turns = np.radians(degrees)
    mean = float(np.degrees(np.arctan2(np.sin(turns).mean(), np.cos(turns).mean())))
    around = (degrees - mean + 180.0) % 360.0 - 180.0
    out = (mean + float(np.median(around)) + 180.0) % 360.0 - 180.0
    return 180.0 if out == -180.0 else out


def _arms(body: BodySignals) -> list[str | None]:
    out: list[str | None] = []
    far = np.linalg.norm(body.wrists - body.face[:, None, :2], axis=2) / body.face[:, 2:]
    for (left, right), hands, gaps in zip(body.relative_wrists(), np.nan_to_num(body.hands), far, strict=True):
        found = [side for side in (left, right) if np.isfinite(side).all()]
        high = [i for i, side in enumerate((left, right)) if side[1] < _RAISED and hands[i] >= HAND]
        if any(gaps[i] <= _AT_FACE for i in high):
            out.append("at_face")
        elif high:
            out.append("raised")
        elif len(found) < 2:
            out.append(None)
        else:
            out.append("joined" if float(np.linalg.norm(left - right)) < _JOINED else "apart")
    return out


def _mostly(terms: Sequence[Term | None], looks: Series, n: int) -> Term | None:
    """Return the term that holds in half of n looks or more."""
    held: Counter[Term | None] = Counter()
    for term, count in zip(terms, looks.tolist(), strict=True):
        held[term] += count
    name, most = held.most_common(1)[0] if held else (None, 0)
    return name if name is not None and most >= n / 2 else None
