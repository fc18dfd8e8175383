"""Who a face belongs to: dlib's 128-number descriptor of an aligned face.

The network (a 29-layer ResNet, 99.38 % on Labeled Faces in the Wild by its author) reads a 150 px chip in which the
eye corners and the nose base lie at fixed places. Two faces of one person lie nearer than 0.6 (L2). No jitter is
used, so one chip always gives the same numbers. Costs about 60 ms a face on one core, so callers embed a few chips
a track, not every frame; a chip costs under 1 ms.
"""

from __future__ import annotations

import dlib
import numpy as np
import numpy.typing as npt

from annotators.models.weights import resolve
from annotators.protocols import Box, FloatArray, Image

CHIP_SIZE_PX = 150
"""Side of the aligned chip that the network was trained on."""

SAME_PERSON_DISTANCE = 0.6
"""L2 distance below which dlib's author calls two faces one person."""

_NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
_ALIGNMENT = "shape_predictor_5_face_landmarks.dat"

# Margin around the aligned face as a share of its size; the network was trained with this one.
_PADDING = 0.25


class FaceEmbedder:
    """Embeds faces with dlib; two of one person are nearer than `same_person_distance`."""

    name = "dlib-resnet-v1"
    weights: tuple[str, ...] = (_NETWORK, _ALIGNMENT)
    dimensions = 128
    same_person_distance = SAME_PERSON_DISTANCE

    def __init__(self) -> None:
        self._network = dlib.face_recognition_model_v1(str(resolve(_NETWORK)))
        self._align = dlib.shape_predictor(str(resolve(_ALIGNMENT)))

    def chip(self, rgb: Image, face: Box | FloatArray) -> Image:
        """Return the aligned chip [150, 150, 3] of one face.

        `face` is its box, about from the brows to the chin (dlib then finds the points itself), or the five points
        of `faces_mesh.eye_corners_and_nose` [5, 2], in pixels of `rgb`. Parts outside the image are black.
        """
        _check(rgb)
        picture = np.ascontiguousarray(rgb)
        if isinstance(face, Box):
            shape = self._align(picture, _rectangle(face.x, face.y, face.x + face.w, face.y + face.h))
        else:
            shape = _shape(face)
        return np.asarray(dlib.get_face_chip(picture, shape, size=CHIP_SIZE_PX, padding=_PADDING), np.uint8)

    def embed(self, chip: Image) -> FloatArray:
        """Return the descriptor, float32 [128] of length about 1.4, of an aligned chip [150, 150, 3]."""
        _check(chip)
        if chip.shape[:2] != (CHIP_SIZE_PX, CHIP_SIZE_PX):
            raise ValueError(f"a chip is {CHIP_SIZE_PX} px square, got {chip.shape[1]} x {chip.shape[0]}")
        descriptor = self._network.compute_face_descriptor(np.ascontiguousarray(chip), 0)
        return np.array(descriptor, np.float32)


def _shape(points: npt.NDArray[np.floating]) -> dlib.full_object_detection:
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"expected five finite (x, y) points, got an array of shape {points.shape}")
    low, high = points.min(axis=0), points.max(axis=0)
    corners = [dlib.point(round(float(x)), round(float(y))) for x, y in points]
    return dlib.full_object_detection(_rectangle(low[0], low[1], high[0], high[1]), corners)


def _rectangle(left: float, top: float, right: float, bottom: float) -> dlib.rectangle:
    return dlib.rectangle(round(float(left)), round(float(top)), round(float(right)), round(float(bottom)))


def _check(rgb: Image) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"expected an RGB image uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}")
