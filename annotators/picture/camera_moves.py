"""How the camera moves during a segment, in words: from the background's shift and growth over time. Pure arithmetic.

The rules are hand-set on real clips: a still camera on a stand measures below 0.005 picture widths a second, a phone in
the hand 0.01 to 0.06, and coding noise or moving people give short peaks. A move has a direction when most of the way
goes one way; what moves without one is in somebody's hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

STILL_SPEED, STILL_PEAK = 0.008, 0.03
"""Median and 90th percentile of the speed below which a camera stands still, in picture widths a second."""
_HAND_SPEED = 0.06
"""Above what a hand that holds a camera moves it by, in picture widths a second: a pan, a whip, a walk."""
LEAST_WAY, LEAST_ZOOM = 0.12, 0.05
"""Least way of a pan or tilt in picture widths, and least growth of a zoom, over the whole segment."""
_ZOOM_RADIUS = 0.5
"""A zoom moves the picture's edge by this share of its growth: the larger motion gives the name."""
_ONE_WAY = 0.75
"""Least share of the way that goes in the move's direction."""
_BOTH_WAYS = 0.2
"""A hand shakes in both directions: least way along one axis, as a share of the other's. Overlays slide along one."""
_MIN_KNOWN = 0.5


@dataclass(frozen=True, eq=False)
class CameraSeries:
    """Background motion over a segment on an even grid, nan where unknown: see `picture_motion.CameraMotion`."""

    speed: Series
    x: Series
    y: Series
    zoom: Series
    rate_hz: float = 25.0


def camera_move(series: CameraSeries) -> str:
    """Return the camera motion term of a segment (`schemas.samples.vocabulary.CAMERA_MOTIONS`)."""
    known = np.isfinite(series.speed)
    if not len(known) or known.mean() < _MIN_KNOWN:
        return "unknown"
    speed = series.speed[known]
    if np.median(speed) < STILL_SPEED and np.percentile(speed, 90) < STILL_PEAK:
        return "static"
    (right, straight), (down, upright) = _one_way(series.x, series.rate_hz), _one_way(series.y, series.rate_hz)
    growth, steadily = _one_way(series.zoom, series.rate_hz)
    if abs(growth) >= LEAST_ZOOM and steadily and abs(growth) * _ZOOM_RADIUS >= max(abs(right), abs(down)):
        return "zoom_in" if growth > 0 else "zoom_out"
    if abs(right) >= max(LEAST_WAY, abs(down)) and straight:
        return "pan_left" if right > 0 else "pan_right"  # the background goes the other way
    if abs(down) >= LEAST_WAY and upright:
        return "tilt_up" if down > 0 else "tilt_down"
    ways = [float(np.abs(v[np.isfinite(v)]).sum()) for v in (series.x, series.y)]
    shaken = np.median(speed) >= STILL_SPEED and min(ways) >= _BOTH_WAYS * max(ways)
    return "handheld" if shaken else "unknown"


def panned(series: CameraSeries) -> Mask:
    """Return [T] True where the camera moves faster than a hand that holds it still; False where nothing is known."""
    return np.asarray(np.nan_to_num(series.speed) > _HAND_SPEED, np.bool_)


def _one_way(rate: Series, rate_hz: float) -> tuple[float, bool]:
    """Return the sum of a motion over time, and whether most of it goes one way."""
    known = rate[np.isfinite(rate)]
    total, way = float(known.sum()) / rate_hz, float(np.abs(known).sum()) / rate_hz
    return total, way > 0 and abs(total) / way >= _ONE_WAY
