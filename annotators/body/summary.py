"""What is seen of a person's body in a clip's own picture: events, a term for the hands, standing or sitting. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from annotators.body.gestures import gestures, leans
from annotators.body.measures import Posture
from annotators.body.series import BodySignals, summary
from annotators.performance.signal_series import Event, Series

_GESTURING, _MOSTLY, _HARDLY = 0.25, 0.5, 0.05
"""Shares of the time: in strokes, with a hand in view, and with so few that none is in view."""


@dataclass(frozen=True, slots=True)
class BodySummary:
    """`hands` is a term of the vocabulary `hands`; `posture` standing, sitting or None; events in order of time."""

    events: tuple[Event, ...] = ()
    hands: str = "unknown"
    posture: Posture | None = None


NOT_MEASURED = BodySummary()


def body_summary(body: BodySignals, looked_at: int, duration_s: float, still_camera: bool) -> BodySummary:
    """Return what a body shows in a clip of `duration_s` that was looked at `looked_at` times.

    Leans are told only under a camera that stands still.
    """
    if looked_at < 1 or body.looks.sum() < 0.5 * looked_at:
        return NOT_MEASURED
    strokes = gestures(body)
    events = [*strokes, *(leans(body) if still_camera else ())]
    told = summary(body, looked_at)
    return BodySummary(
        tuple(sorted(events, key=lambda e: (e.start_s, e.name))),
        _hands(sum(e.duration_s for e in strokes) / duration_s, told.hands_visible_ratio, told.arms),
        told.posture,
    )


def in_crop(body: BodySignals, crops: Series) -> BodySignals:
    """Return the signals without wrists and hands outside the clip's picture; `crops` [n, 4] are x, y, w, h."""
    low, high = crops[:, None, :2], crops[:, None, :2] + crops[:, None, 2:]
    inside = np.asarray(((body.wrists >= low) & (body.wrists < high)).all(axis=2), np.bool_)
    return replace(
        body,
        wrists=np.where(inside[:, :, None], body.wrists, np.nan),
        hands=np.where(inside, body.hands, np.nan),
    )


def _hands(strokes: float, visible: float, arms: str | None) -> str:
    if strokes >= _GESTURING:
        return "gesturing"
    if visible >= _MOSTLY:
        return arms if arms in ("raised", "joined", "at_face") else "resting"
    return "sometimes_visible" if visible >= _HARDLY else "out_of_view"
