"""Which portraits of a track stand for the person: good ones first, then ones that add another pose or expression.

Pure; microseconds a track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DARK, _LIT = 12.0, 48.0
"""Mean luma of a face between which it turns from useless to fully usable. Below, dlib's embeddings of different
people fall together (0.28-0.55 measured at a luma of 13-41); the ramp is low so that dark skin is not marked down."""
_BRIGHT, _BURNT = 225.0, 250.0
_YAW_DEG, _PITCH_DEG, _APART_S = 20.0, 15.0, 10.0
"""Differences that make a portrait count as new."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A portrait: grid index, quality in [0, 1], head pose in degrees (nan = not measured), expression label."""

    k: int
    t_s: float
    quality: float
    yaw_deg: float
    pitch_deg: float
    expression: str


def light_factor(luma_mean: float) -> float:
    """Return how usable a face of this mean luma (0-255) is, in [0, 1]."""
    return float(np.interp(luma_mean, [_DARK, _LIT, _BRIGHT, _BURNT], [0.0, 1.0, 1.0, 0.2]))


def _novelty(a: Candidate, b: Candidate) -> float:
    """Return how much `a` adds to `b`, in [0, 1]: another expression, pose, or moment."""
    if a.expression != b.expression:
        return 1.0
    gaps = [
        abs(a.yaw_deg - b.yaw_deg) / _YAW_DEG,
        abs(a.pitch_deg - b.pitch_deg) / _PITCH_DEG,
        abs(a.t_s - b.t_s) / _APART_S,
    ]
    return float(min(1.0, max((g for g in gaps if np.isfinite(g)), default=0.0)))


def choose(candidates: Sequence[Candidate], n: int) -> list[Candidate]:
    """Return up to `n` candidates, the best first, then by quality times _novelty against those chosen; ties by k."""
    left = sorted(candidates, key=lambda c: (-c.quality, c.k))
    chosen: list[Candidate] = []
    while left and len(chosen) < n:
        scores = [c.quality * (0.3 + 0.7 * min((_novelty(c, x) for x in chosen), default=1.0)) for c in left]
        chosen.append(left.pop(int(np.argmax(scores))))
    return chosen
