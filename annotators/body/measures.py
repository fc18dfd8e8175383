"""What one person's body points say: which way the shoulders face, how large the person is, how they stand. Pure.

Angles have the signs of `protocols.FaceMesh`: yaw > 0 = the chest is turned to image right. What the network guesses
without seeing it says nothing here: a point counts where it is called visible and lies inside the picture.
Microseconds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from annotators.protocols import FloatArray
from annotators.protocols_body import HIPS, KNEES, SHOULDERS, WRISTS, Body

_SEEN = 0.5
"""Visibility from which a point counts: the network's even chance."""

YAW_BIAS_DEG = 6.2
"""The network sees people turned to image right by this much: the mean of a picture's yaw and its mirror image's, which
should be 0, has a median of 6.2 degrees over 208 faces of 23 clips, and is above 0 in 22 of them
(`benchmarks/body_yaw.py`)."""

_NECK_DEG, _AWAY_DEG = 90.0, 135.0
"""A head turns about 80 degrees against the shoulders; from 135 degrees on a chest faces away (`views`)."""

_MOST_STRETCH = 2.5
"""Shoulders seen from the side are short in the picture; their width is not drawn out by more than this."""
_SITTING_DEG, _STANDING_DEG = 50.0, 30.0
"""Angle of the thighs to the body's length above which a person sits and below which one stands: a chair bends it by
about 90 degrees, a stride by less than 30."""

Posture = Literal["standing", "sitting"]


def seen(body: Body, index: int, size: tuple[int, int]) -> bool:
    """Say whether a body point is called visible and lies inside the picture of (width, height)."""
    x, y = body.points[index]
    return bool(body.visibility[index] >= _SEEN and 0 <= x < size[0] and 0 <= y < size[1])


def shoulders_seen(body: Body, size: tuple[int, int]) -> bool:
    """Say whether both shoulders are seen."""
    return all(seen(body, i, size) for i in SHOULDERS)


def body_yaw_deg(body: Body, size: tuple[int, int]) -> float | None:
    """Return which way the chest faces, in (-180, 180] degrees: 0 = the camera, > 0 = image right, 180 = away.

    From the line between the shoulders in space; None where one of them is not seen.
    """
    if not shoulders_seen(body, size):
        return None
    line = body.world[SHOULDERS[0]] - body.world[SHOULDERS[1]]
    yaw = float(np.degrees(np.arctan2(line[2], line[0]))) - YAW_BIAS_DEG
    return yaw + 360.0 if yaw <= -180.0 else yaw


def plausible_yaw(body_deg: float | None, head_deg: float | None) -> float | None:
    """Return the chest's yaw where a visible face allows it, else None: the network at times swaps the shoulders.

    `head_deg` is None for a face that was found and not measured; a chest turned away from the camera is then taken
    for such a swap.
    """
    if body_deg is None:
        return None
    if head_deg is None:
        return body_deg if abs(body_deg) <= _AWAY_DEG else None
    return body_deg if abs((body_deg - head_deg + 180.0) % 360.0 - 180.0) <= _NECK_DEG else None


def shoulder_width_px(body: Body) -> float:
    """Return how wide the shoulders would be in the picture if they faced the camera, in pixels."""
    left, right = SHOULDERS
    line = body.world[left] - body.world[right]
    flat = float(np.hypot(line[0], line[1]))
    stretch = min(_MOST_STRETCH, float(np.linalg.norm(line)) / flat) if flat > 0 else _MOST_STRETCH
    return float(np.linalg.norm(body.points[left] - body.points[right])) * stretch


def wrist(body: Body, side: int, size: tuple[int, int]) -> FloatArray | None:
    """Return a wrist (side 0 = the subject's left) in picture pixels, None where it is not seen."""
    index = WRISTS[side]
    return body.points[index] if seen(body, index, size) else None


def posture(body: Body, size: tuple[int, int]) -> Posture | None:
    """Return whether a person stands or sits, by the thighs' angle to the trunk in space.

    None between both, and wherever a hip or a knee is not seen.
    """
    if not shoulders_seen(body, size) or not all(seen(body, i, size) for i in (*HIPS, *KNEES)):
        return None
    hips, knees, top = (body.world[list(pair)].mean(axis=0) for pair in (HIPS, KNEES, SHOULDERS))
    thigh, trunk = knees - hips, hips - top
    lengths = float(np.linalg.norm(thigh) * np.linalg.norm(trunk))
    if lengths == 0:
        return None
    angle = float(np.degrees(np.arccos(np.clip(thigh @ trunk / lengths, -1.0, 1.0))))
    if angle >= _SITTING_DEG:
        return "sitting"
    return "standing" if angle <= _STANDING_DEG else None
