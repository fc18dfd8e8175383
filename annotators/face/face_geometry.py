"""Head pose from landmarks: how MediaPipe's canonical face is turned before a camera.

The algorithm is that of MediaPipe's face geometry (Apache-2.0), written anew: landmarks in the picture are moved to
where a perspective camera would have seen them, and the canonical face is laid on them by a weighted orthogonal
Procrustes solution. Only the 33 landmarks with a weight count. MediaPipe also estimates the face's size, twice; it
moves all points to or from the camera alike, so that it has no part in the rotation. About 20 us a face.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from annotators.protocols import FloatArray

_FACE_POINTS = 468  # the mesh without the irises
_VERTEX = 5  # x, y, z in cm, and two texture coordinates
_FIELD_OF_VIEW_DEG = 63.0
_HEIGHT = 2 * math.tan(math.radians(_FIELD_OF_VIEW_DEG) / 2)  # of the picture, in distances from the camera

Array = npt.NDArray[np.float64]


class FaceGeometry:
    """Solves for the rotation; `metadata` is the task bundle's file on it (a protobuf message)."""

    def __init__(self, metadata: bytes) -> None:
        vertices, weighted = canonical_face(metadata)
        self._basis = np.array([index for index, _ in weighted])
        weights = np.array([weight for _, weight in weighted])
        source = vertices[self._basis]
        self._weighted = weights[:, None] * (source - weights @ source / weights.sum())
        # From the picture to what a camera sees, in distances from it: x right, y up; z is set apart.
        self._to_seen = np.array((_HEIGHT, -_HEIGHT, 0)), np.array((-_HEIGHT / 2, _HEIGHT / 2, -1))

    def rotation(self, points: FloatArray) -> Array:
        """Return the rotation [3, 3] of the canonical face, from landmarks [478, 3] in shares of a square's side.

        The landmarks have x right, y down, z away from the camera; the rotation speaks in x right, y up, z towards it.
        """
        basis = points.take(self._basis, axis=0)
        middle = float(points[:_FACE_POINTS, 2].sum()) / _FACE_POINTS
        depth = basis[:, 2:] * _HEIGHT + (1 - middle * _HEIGHT)  # the face's middle lies on the picture's plane
        seen = basis * self._to_seen[0] + self._to_seen[1]
        _, u, vt = cv2.SVDecomp(seen.T @ (self._weighted * depth))
        rotation = u @ vt
        if cv2.determinant(rotation) < 0:  # a mirrored face is none
            u[:, 2] *= -1
            rotation = u @ vt
        return np.asarray(rotation, np.float64)


def canonical_face(metadata: bytes) -> tuple[Array, list[tuple[int, float]]]:
    """Return the canonical face's vertices [468, 3] in cm, and the landmarks that count, each with its weight."""
    floats, weighted = b"", []
    for number, value in _fields(metadata):
        if number == 1:
            floats = b"".join(v for n, v in _fields(value) if n == 3)
        elif number == 2:
            entry = dict(_fields(value))
            weighted.append((entry[1], struct.unpack("<f", entry[2])[0]))
    return np.frombuffer(floats, "<f4").reshape(-1, _VERTEX)[:, :3].astype(np.float64), weighted


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and value of a protobuf message's fields: an int, or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size, at = _varint(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
