"""Where the person looks: head pose plus the eyes' turn within the head, as directions, targets and spans.

Pure functions; microseconds a frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy

from annotators.performance.facial_actions import lowered
from annotators.performance.signal_series import (
    EYE_DEG_PER_UNIT,
    Baseline,
    Event,
    FaceSignals,
    Mask,
    Series,
    span_event,
    spans,
)
from schemas.time import GRID_HZ

_CAMERA_DEG = 12.0
"""Gaze within this angle of the lens counts as camera; the two talkers stay within 10 in 90 % of their frames."""
_DOWNCAST_DEG = 14.0
_PITCH_BIAS_CAP_DEG = 6.0
_SHUT = 0.5

Side = Literal["left", "right"]


def _gaze_angles(signals: FaceSignals, baseline: Baseline | None = None) -> tuple[Series, Series]:
    """Return gaze (yaw, pitch) [T] in degrees: 0, 0 into the lens, yaw > 0 to image right, pitch > 0 up.

    A baseline corrects pitch by at most 6 degrees, the face model's bias of one person; more is where they look.
    """
    right = signals.shape("eyeLookOutLeft") + signals.shape("eyeLookInRight")
    left = signals.shape("eyeLookInLeft") + signals.shape("eyeLookOutRight")
    up, down = signals.shape("eyeLookUp"), signals.shape("eyeLookDown")
    yaw = signals.yaw_deg + EYE_DEG_PER_UNIT * (right - left) / 2
    pitch = signals.pitch_deg + EYE_DEG_PER_UNIT * (up - down)
    if baseline is not None:
        usual = baseline.pitch_deg + EYE_DEG_PER_UNIT * (baseline.shape("eyeLookUp") - baseline.shape("eyeLookDown"))
        pitch = pitch - float(np.clip(usual, -_PITCH_BIAS_CAP_DEG, _PITCH_BIAS_CAP_DEG))
    return _steady(yaw, signals), _steady(pitch, signals)


def _eyes_shut(signals: FaceSignals) -> Mask:
    """Return [T] True where both lids are down and the person does not look down; they say nothing of gaze there.

    Lids that follow lowered eyes raise the same coefficient.
    """
    shut = np.minimum(signals.shape("eyeBlinkLeft"), signals.shape("eyeBlinkRight")) > _SHUT
    return np.asarray(shut & ~lowered(signals))


def gaze_targets(signals: FaceSignals, baseline: Baseline | None = None, partner: Side | None = None) -> list[str]:
    """Return [T] gaze terms: camera, left, right, up, down, partner, closed.

    Looking to the side where the partner is (`partner`, a side of the picture) counts as partner.
    """
    yaw, pitch = _gaze_angles(signals, baseline)
    shut = _eyes_shut(signals)
    targets = []
    for x, y, closed in zip(yaw, pitch, shut, strict=True):
        if closed:
            target = "closed"
        elif np.hypot(x, y) <= _CAMERA_DEG:
            target = "camera"
        elif abs(x) >= abs(y):
            target = "right" if x > 0 else "left"
        else:
            target = "up" if y > 0 else "down"
        targets.append("partner" if partner is not None and target == partner else target)
    return targets


def gaze_ratios(targets: list[str], valid: Mask) -> dict[str, float]:
    """Return each target's share of the measured frames with open eyes; empty when there is none.

    Blinks are no target: `closed` appears only where the eyes are shut in more than half of the frames.
    """
    seen = [target for target, ok in zip(targets, valid, strict=True) if ok]
    shut = seen.count("closed")
    if not seen:
        return {}
    if 2 * shut > len(seen):
        return {"closed": shut / len(seen)}
    looking = [target for target in seen if target != "closed"]
    return {target: looking.count(target) / len(looking) for target in sorted(set(looking))}


def main_gaze(ratios: dict[str, float]) -> str:
    """Return the target that holds half of the time or more, `wandering` if none does, `unknown` without any."""
    if not ratios:
        return "unknown"
    target = max(ratios, key=lambda name: ratios[name])
    return target if ratios[target] >= 0.5 else "wandering"


def gaze_events(signals: FaceSignals, baseline: Baseline | None = None, partner: Side | None = None) -> list[Event]:
    """Return spans of 0.4 s or more per target, and `downcast` where the eyes are lowered, in order of time."""
    targets = np.array(gaze_targets(signals, baseline, partner))
    yaw, pitch = _gaze_angles(signals, baseline)
    found: list[Event | None] = []
    for target in sorted(set(targets.tolist()) - {"closed"}):
        share = scipy.ndimage.median_filter((targets == target).astype(np.float64), size=5, mode="nearest")
        for span in spans(share, 1.0, 1.0, round(0.4 * GRID_HZ)):
            angle = float(np.median(np.hypot(yaw[slice(*span)], pitch[slice(*span)])))
            margin = (_CAMERA_DEG - angle if target == "camera" else angle - _CAMERA_DEG) / _CAMERA_DEG
            found.append(span_event(signals, span, target, "gaze", float(np.clip(0.5 + 0.4 * margin, 0.4, 0.9)), angle))
    for span in spans(-pitch, _DOWNCAST_DEG, 0.7 * _DOWNCAST_DEG, round(0.5 * GRID_HZ)):
        lowest = float((-pitch[slice(*span)]).max())
        confidence = float(np.clip(0.5 + 0.4 * (lowest - _DOWNCAST_DEG) / _DOWNCAST_DEG, 0.5, 0.8))
        found.append(span_event(signals, span, "downcast", "facial_action", confidence, lowest))
    return sorted((e for e in found if e is not None), key=lambda e: (e.start_s, e.name))


def _steady(angle: Series, signals: FaceSignals) -> Series:
    """Hold the last open-eyed direction through blinks, and drop single-frame spikes."""
    shut = _eyes_shut(signals)
    if shut.any() and not shut.all():
        known = np.flatnonzero(~shut)
        brief = np.interp(np.arange(len(angle)), known, angle[known])
        gap = np.asarray(scipy.ndimage.median_filter(shut.astype(np.float64), size=13, mode="nearest")) < 0.5
        angle = np.where(shut & gap, brief, angle)
    return np.asarray(scipy.ndimage.median_filter(angle, size=5, mode="nearest"))
