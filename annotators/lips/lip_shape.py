"""The shape of the lips in a coordinate frame of the face, for comparing mouths with sound.

Forty lip landmarks of MediaPipe's face mesh, turned so that the line between the outer eye corners is level, scaled by
its length and centred on the lips: what is left is articulation and, slowly varying, head pose and the person's own
mouth; the latter leave with the band filter (`lip_sync_model`). Costs nothing next to the mesh itself.
"""

from __future__ import annotations

import numpy as np

from annotators.protocols_speech import FloatArray

_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_LIP_POINTS = _OUTER + _INNER
"""Landmarks of the outer and inner lip contours, each once round."""
LIP_NUMBERS = 2 * len(_LIP_POINTS)
_EYE_CORNERS = (33, 263)
_SMALLEST_PX = 1.0  # eye corners closer than this define no direction


def lip_shape(landmarks: FloatArray) -> FloatArray:
    """Return lip shapes [T, 80] of landmarks [T, 478, 2] in pixels (nan where no mesh); nan where undefined.

    Numbers are x, y of 40 points in units of the distance between the outer eye corners, from the lips' centre.
    Raises ValueError for another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1] <= max(*_LIP_POINTS, *_EYE_CORNERS) or landmarks.shape[2] != 2:
        raise ValueError(f"lip shapes need landmarks [T, 478, 2], got {landmarks.shape}")
    points = landmarks[:, _LIP_POINTS].astype(np.float64)
    right, left = (landmarks[:, i].astype(np.float64) for i in _EYE_CORNERS)
    along = left - right
    length = np.linalg.norm(along, axis=1)
    length[~(length >= _SMALLEST_PX)] = np.nan
    x = along / length[:, None]
    y = np.stack([-x[:, 1], x[:, 0]], axis=1)
    centred = points - points.mean(axis=1, keepdims=True)
    turned = np.stack([np.einsum("tpc,tc->tp", centred, axis) for axis in (x, y)], axis=2)
    shape: FloatArray = (turned / length[:, None, None]).reshape(len(points), LIP_NUMBERS).astype(np.float32)
    return shape
