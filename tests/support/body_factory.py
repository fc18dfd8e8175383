"""Made-up bodies: a person who faces the camera and keeps still, to which a test adds what it wants to see."""

from __future__ import annotations

from typing import Any

import numpy as np

from annotators.body.series import BodySignals
from annotators.protocols_body import HIPS, KNEES, NOSE, SHOULDERS, WRISTS, Body

SIZE = (640, 480)
STEP_S = 0.2


def body(turn_deg: float = 0.0, knees: tuple[float, float] = (0.45, 0.0), **values: Any) -> Body:
    """Return a body in a picture of SIZE, its chest turned to image right; `knees` are y and z from the hips in m."""
    points = np.full((33, 2), (320.0, 300.0), np.float32)
    points[NOSE] = (320, 100)
    points[list(SHOULDERS)] = [(370, 180), (270, 180)]
    points[list(WRISTS)] = [(390, 330), (250, 330)]
    turn = np.radians(turn_deg)
    world = np.zeros((33, 3), np.float32)
    world[SHOULDERS[0]] = (0.17 * np.cos(turn), -0.5, 0.17 * np.sin(turn))
    world[SHOULDERS[1]] = (-0.17 * np.cos(turn), -0.5, -0.17 * np.sin(turn))
    for i in KNEES:
        world[i] = (0.0, *knees)
    for pair in (HIPS, KNEES):
        points[list(pair)] = [(340, 350), (300, 350)]
    facts: dict[str, Any] = {"points": points, "visibility": np.ones(33, np.float32), "world": world}
    return Body(**{**facts, "hands": (0.9, 0.9), **values})


def still(n: int = 20) -> dict[str, Any]:
    """Return the fields of a still person's signals: shoulders 100 px wide, hands at the belly."""
    return {
        "t_s": np.arange(n) * STEP_S,
        "shoulders": np.tile([[370.0, 180.0], [270.0, 180.0]], (n, 1, 1)),
        "wrists": np.tile([[390.0, 330.0], [250.0, 330.0]], (n, 1, 1)),
        "width": np.full(n, 100.0),
        "yaw_deg": np.zeros(n),
        "hands": np.full((n, 2), 0.9),
        "face": np.tile([320.0, 110.0, 60.0], (n, 1)),
        "looks": np.ones(n),
        "postures": (None,) * n,
    }


def signals(n: int = 20, **fields: Any) -> BodySignals:
    """Return a still person's signals, with some fields replaced."""
    return BodySignals(**{**still(n), **fields})


def waving(n: int = 20, first: int = 5, last: int = 9) -> BodySignals:
    """Return a person whose left hand rises and falls by half a shoulder width between two measurements."""
    wrists = still(n)["wrists"]
    wrists[first:last:2, 0, 1] -= 50.0
    return signals(n, wrists=wrists)
