"""What a face mesh says: head pose, mouth opening, eye opening, gaze, alignment points. Pure functions.

Indices are those of the canonical face mesh of MediaPipe (478 points: 468 of the face, 10 of the irises). "Left" and
"right" in a constant's name are the subject's, as in the blendshapes; functions that speak of the image say so.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from annotators.protocols import Box, FloatArray

BLENDSHAPES = (
    *("_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight"),
    *("eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft"),
    *("eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight"),
    *("eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *("mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel"),
    *("mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight"),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft"),
    *("mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
)
"""The 52 expression coefficients in the model's order."""

_INNER_LIP_PAIRS = np.array([(82, 87), (13, 14), (312, 317)])  # upper, lower
_MOUTH_CORNERS = (61, 291)
_FOREHEAD, _SUBNASALE = 10, 2
# p1..p6 of the eye aspect ratio: outer corner, two upper lid points, inner corner, two lower lid points.
_RIGHT_EYE = (33, 160, 158, 133, 153, 144)
_LEFT_EYE = (263, 387, 385, 362, 380, 373)
_NOSE_TIP = 1


def head_pose(matrix: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    """Return (yaw, pitch, roll) in degrees from the 4x4 matrix that places the canonical face before the camera.

    The matrix speaks in x right, y up, z towards the viewer, and the canonical face looks along +z. The rotation is
    read as Ry(yaw) Rx(-pitch) Rz(-roll): yaw > 0 turned to image right, pitch > 0 looking up, roll > 0 tilted
    clockwise as seen in the image. Raises ValueError for a matrix without a rotation.
    """
    # Plain numbers: NumPy's calls cost ten times as much on nine of them, and this is asked for every face and frame.
    (a, b, c), (d, e, f), (g, h, i) = ((float(v) for v in row[:3]) for row in matrix[:3])
    scale = math.cbrt(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
    if not scale > 0:
        raise ValueError(f"the head pose matrix has determinant {scale**3:.3g}: it is no rotation with a scale")
    yaw = math.atan2(c, i)
    pitch = math.asin(min(1.0, max(-1.0, f / scale)))  # rounding may exceed 1 by an ulp
    roll = -math.atan2(d, e)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def to_frame(points: FloatArray, crop: Box, crop_size_px: int) -> FloatArray:
    """Map mesh points [n, 2 or 3] from a square crop's pixels to the frame's; z keeps the same unit."""
    scaled = points * np.float32(crop.w / crop_size_px)
    scaled[:, :2] += np.array([crop.x, crop.y], np.float32)
    return scaled


def mesh_box(points: FloatArray) -> Box:
    """Return the rectangle around all mesh points: forehead to chin, ear to ear."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return Box(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))


def mouth_opening(points: FloatArray) -> float:
    """Return the gap between the inner lips over the height from nose base to forehead; 0 when closed.

    The height is rigid (jaw and brows do not change it) and shrinks with the gap when the head nods, so the ratio
    follows the lips alone. Ordinary speech stays below about 0.25.
    """
    pairs = points[_INNER_LIP_PAIRS, :2]
    gap = float(np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1).mean())
    return gap / _distance(points, _FOREHEAD, _SUBNASALE)


def eye_aspect(points: FloatArray) -> tuple[float, float]:
    """Return the eye aspect ratio of the subject's (left, right) eye; open about 0.3, shut below 0.15.

    (|p2-p6| + |p3-p5|) / (2 |p1-p4|) after Soukupova and Cech, "Real-Time Eye Blink Detection using Facial
    Landmarks", CVWW 2016.
    """
    return _eye_aspect(points, _LEFT_EYE), _eye_aspect(points, _RIGHT_EYE)


def five_points(points: FloatArray) -> FloatArray:
    """Return [5, 2]: eye, eye, nose tip, mouth corner, mouth corner, image-left before image-right.

    The order that ArcFace-style alignment uses. An eye is the mean of its corners and lids, steadier than the iris.
    """
    eyes = [points[list(eye), :2].mean(axis=0) for eye in (_RIGHT_EYE, _LEFT_EYE)]
    return np.stack([*eyes, points[_NOSE_TIP, :2], *points[list(_MOUTH_CORNERS), :2]]).astype(np.float32)


def eye_corners_and_nose(points: FloatArray) -> FloatArray:
    """Return [5, 2] in the order of dlib's five-point model.

    Outer and inner corner of the eye at image right, outer and inner corner of the other, base of the nose.
    """
    corners = (_LEFT_EYE[0], _LEFT_EYE[3], _RIGHT_EYE[0], _RIGHT_EYE[3], _SUBNASALE)
    return points[list(corners), :2].astype(np.float32)


def _distance(points: FloatArray, a: int, b: int) -> float:
    return float(np.linalg.norm(points[a, :2] - points[b, :2]))


def _eye_aspect(points: FloatArray, eye: tuple[int, ...]) -> float:
    p1, p2, p3, p4, p5, p6 = eye
    heights = _distance(points, p2, p6) + _distance(points, p3, p5)
    return heights / (2 * _distance(points, p1, p4))
