"""Head gestures from head pose: nods, shakes, held turns and tilts, stillness; and how much the face moves about.

A nod is a fall and a return of the pitch of similar size at 0.7-6 Hz, the range in which conversational nods are
reported (Hadar et al., "Kinematics of head movements accompanying speech during conversation", Human Movement Science
1983). Counting swings of similar size keeps a single turn, however quick, from being a gesture.
Pure functions; about a millisecond a segment.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from annotators.performance.signal_series import (
    Baseline,
    Event,
    FaceSignals,
    Mask,
    Series,
    low_pass,
    mostly,
    span_event,
    spans,
)
from schemas.time import GRID_HZ

_NOD_SWING_DEG = 3.0
"""Smallest swing of a nod; pose noise on a still face stays near 1.5 degrees peak to peak after the low-pass."""
_SHAKE_SWING_DEG = 4.0
SPEAKING_FACTOR = 3.0
"""While speaking, heads beat time with the voice: swings must be larger by this factor to count as gestures."""
SLOW_NOD = 1.25
"""A nod falls quickly and may return slowly: one of its swings may be slower by this factor, not all on average. What
turns slowly aside and back looks around."""

TURN_DEG, TILT_DEG, PITCH_DEG = 12.0, 8.0, 10.0
_STILL_DEG_S = 6.0
_GESTURE_HZ, _POSE_HZ, _BOX_HZ = 5.0, 1.5, 2.0
_RISE_MIN_S, _RISE_MAX_S = 0.04, 0.42  # 10 % to 90 % of a swing; 0.6 of a half cycle for a sine
_PAUSE_MAX_S = 0.4  # between two swings of one gesture
_BORDER_S = 0.08
"""A swing that begins or ends this near the signals' border may be a piece of a longer turn: it counts for nothing."""
_SIMILAR = 0.4

_BODY_LEVELS = (("still", 0.04), ("low", 0.2), ("moderate", 0.6))
"""Upper limits of the median speed of the face's centre, in face widths a second; above the last: high."""


def head_gestures(
    signals: FaceSignals,
    baseline: Baseline | None = None,
    speaking: bool = False,
    unread: Mask | None = None,
    speaking_factor: float = SPEAKING_FACTOR,
    slow_nod: float = SLOW_NOD,
) -> list[Event]:
    """Return nods, shakes, held poses and stillness in order of time; `signals` must be `filled()`.

    Held poses are relative to the baseline, or to the segment's own median without one. Where the pose is `unread` [T]
    (the picture is panned, the face in profile) it jumps: no nod and no shake is told there.
    """
    factor = speaking_factor if speaking else 1.0
    pitch, yaw = low_pass(signals.pitch_deg, _GESTURE_HZ), low_pass(signals.yaw_deg, _GESTURE_HZ)
    events = _oscillations(signals, "nod", pitch, yaw, _NOD_SWING_DEG * factor, 2, slow_nod * _RISE_MAX_S)
    events += _oscillations(signals, "shake", yaw, pitch, _SHAKE_SWING_DEG * factor, 3, _RISE_MAX_S)
    if unread is not None:
        events = [e for e in events if not mostly(unread, signals, e)]
    usual = baseline or Baseline(
        np.zeros(0),
        float(np.median(signals.yaw_deg)),
        float(np.median(signals.pitch_deg)),
        float(np.median(signals.roll_deg)),
    )
    for angle, middle, limit, high, low in (
        (signals.yaw_deg, usual.yaw_deg, TURN_DEG, "turn_right", "turn_left"),
        (signals.roll_deg, usual.roll_deg, TILT_DEG, "tilt_right", "tilt_left"),
        (signals.pitch_deg, usual.pitch_deg, PITCH_DEG, "raise", "lower"),
    ):
        slow = low_pass(angle, _POSE_HZ) - middle
        events += _held(signals, slow, limit, high) + _held(signals, -slow, limit, low)
    events += stillness(signals)
    return sorted(events, key=lambda e: (e.start_s, e.name))


def swings(series: Series, least: float) -> list[tuple[int, int]]:
    """Return the frame pairs (from, to) between alternating turning points at least `least` apart.

    A turning point counts once the series has come back from it by `least`, so that ripples are passed over.
    """
    if len(series) < 2:
        return []
    turns: list[int] = []
    low = high = 0
    rising: bool | None = None
    for i in range(1, len(series)):
        if series[i] > series[high]:
            high = i
        if series[i] < series[low]:
            low = i
        if rising is not False and series[high] - series[i] >= least:
            turns.append(high)
            rising, low = False, i
        elif rising is not True and series[i] - series[low] >= least:
            turns.append(low)
            rising, high = True, i
        if rising is True:
            low = high
        elif rising is False:
            high = low
    if rising is not None:
        turns.append(high if rising else low)
    return list(pairwise(turns))


def stillness(signals: FaceSignals) -> list[Event]:
    """Return stretches of a second or more in which the head turns slower than 6 degrees a second."""
    speed = angular_speed(signals)
    calm = -speed
    found = []
    for span in spans(calm, -_STILL_DEG_S * 0.8, -_STILL_DEG_S, GRID_HZ):
        typical = float(np.median(speed[slice(*span)]))
        confidence = float(np.clip(0.9 - 0.4 * typical / _STILL_DEG_S, 0.5, 0.9))
        event = span_event(signals, span, "still", "head_motion", confidence, typical)
        if event is not None:
            found.append(event)
    return found


def angular_speed(signals: FaceSignals) -> Series:
    """Return the head's turning speed [T] in degrees a second, over yaw, pitch and roll, below 1.5 Hz."""
    pose = np.stack([signals.yaw_deg, signals.pitch_deg, signals.roll_deg], axis=1)
    if len(pose) < 2:
        return np.zeros(len(pose))
    return np.asarray(np.linalg.norm(np.gradient(low_pass(pose, _POSE_HZ), axis=0), axis=1) * GRID_HZ)


def face_speed(signals: FaceSignals) -> Series:
    """Return the speed [T] of the face's centre in face widths a second, below 2 Hz."""
    centre = signals.box_xywh[:, :2] + signals.box_xywh[:, 2:] / 2
    if len(centre) < 2:
        return np.zeros(len(centre))
    width = float(np.median(signals.box_xywh[:, 2]))
    return np.asarray(np.linalg.norm(np.gradient(low_pass(centre, _BOX_HZ), axis=0), axis=1) * GRID_HZ / width)


def body_motion_level(signals: FaceSignals) -> str:
    """Return how much the person moves about, judged by the face's displacement alone: arms are not seen."""
    speed = float(np.median(face_speed(signals)))
    return next((name for name, limit in _BODY_LEVELS if speed < limit), "high")


def _oscillations(
    signals: FaceSignals,
    name: str,
    series: Series,
    other: Series,
    least_deg: float,
    least_swings: int,
    slowest_s: float,
) -> list[Event]:
    """Chain neighbouring swings of similar size and gesture speed into events; the other axis must move less."""
    chains: list[list[tuple[int, int]]] = []
    last_size = 0.0
    for turn_a, turn_b in swings(series, least_deg):
        start, end = _moving_part(series, turn_a, turn_b)
        size = abs(float(series[turn_b] - series[turn_a]))
        # A slow rise before or after the gesture is not part of it, but ends the chain.
        whole = start >= _BORDER_S * GRID_HZ and end <= len(series) - 1 - _BORDER_S * GRID_HZ
        if not whole or not _RISE_MIN_S <= (end - start) / GRID_HZ <= slowest_s:
            last_size = 0.0
            continue
        similar = last_size > 0 and _SIMILAR <= size / last_size <= 1 / _SIMILAR
        if similar and start - chains[-1][-1][1] <= _PAUSE_MAX_S * GRID_HZ:
            chains[-1].append((start, end))
        else:
            chains.append([(start, end)])
        last_size = size
    found = []
    for chain in chains:
        if len(chain) < least_swings:
            continue
        if float(np.mean([b - a for a, b in chain])) > _RISE_MAX_S * GRID_HZ:
            continue  # too slow on the whole
        span = (chain[0][0], chain[-1][1] + 1)
        size = float(np.mean([abs(series[b] - series[a]) for a, b in chain])) / 0.8  # 10 % to 90 % of each
        # The other axis may drift over a long gesture, so its range is shared among the cycles.
        if size < 1.3 * float(np.ptp(other[slice(*span)])) / max(1.0, len(chain) / 2):
            continue  # The head circles or turns: neither a nod nor a shake.
        confidence = float(np.clip(0.4 + 0.05 * (size - least_deg) + 0.08 * (len(chain) - least_swings), 0.4, 0.9))
        event = span_event(signals, span, name, "head_motion", confidence, size)
        if event is not None:
            count = max(1, len(chain) // 2)
            found.append(Event(name, event.kind, event.start_s, event.end_s, event.confidence, size, count))
    return found


def _moving_part(series: Series, turn_a: int, turn_b: int) -> tuple[int, int]:
    """Return the frames between which a swing covers 10 % to 90 % of its way: a rest before or after is no motion."""
    way = (series[turn_a : turn_b + 1] - series[turn_a]) / (series[turn_b] - series[turn_a])
    start = int(np.flatnonzero(way <= 0.1)[-1])
    end = start + int(np.flatnonzero(way[start:] >= 0.9)[0])
    return turn_a + start, turn_a + end


def _held(signals: FaceSignals, slow: Series, limit_deg: float, name: str) -> list[Event]:
    found = []
    for span in spans(slow, limit_deg, 0.7 * limit_deg, round(0.4 * GRID_HZ)):
        peak = float(slow[slice(*span)].max())
        confidence = float(np.clip(0.5 + 0.4 * (peak - limit_deg) / limit_deg, 0.5, 0.9))
        event = span_event(signals, span, name, "head_motion", confidence, peak)
        if event is not None:
            found.append(event)
    return found
