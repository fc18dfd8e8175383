"""What the stages ask of a vision annotator: find faces, describe one face.

Each protocol has several back-ends; a workflow names one of each. A back-end carries the `name` that goes into the
data beside its numbers, and the names of its `weights`, so that a fingerprint can hold their SHA-256.
Images are RGB, uint8, [height, width, 3]; pixel coordinates have their origin at the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: left, top, width, height; may reach beyond the image.

    Coordinates are continuous: 0 is the left edge of the first pixel, 0.5 its centre.
    """

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class FaceBox(Box):
    """A detected face, about from the brows to the chin, with the detector's score in [0, 1]."""

    score: float


@dataclass(frozen=True, eq=False)
class FaceMesh:
    """One face in one square crop, or in a picture.

    `points` [478, 3] are its pixels (x right, y down, z away from the camera in the same unit, 0 at the head's
    centre); `blendshapes` [52] are in [0, 1] in the order of `faces_mesh.BLENDSHAPES`. Angles are degrees as seen in
    the image: yaw > 0 turned to image right, pitch > 0 looking up, roll > 0 tilted clockwise (top to image right).
    """

    points: FloatArray
    blendshapes: FloatArray
    yaw_deg: float
    pitch_deg: float
    roll_deg: float


class FaceDetecting(Protocol):
    """Finds the faces in a picture."""

    name: str
    weights: tuple[str, ...]

    def detect(self, rgb: Image) -> list[FaceBox]:
        """Return the faces in image pixels, highest score first."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...


class FaceAnalyzer(Protocol):
    """Describes one face: landmarks, expression, head pose."""

    name: str
    weights: tuple[str, ...]

    def landmarks(self, rgb_crop: Image) -> FaceMesh | None:
        """Return the mesh of the face at the centre of a square crop, None when no face is there."""
        ...

    def follow(self, rgb: Image, square: Box, seen: FloatArray) -> FaceMesh | None:
        """Return the mesh of a face that had landmarks `seen` [478, 3] in the picture before, None where it is not.

        Both are in the picture's pixels; `square` is around where the face was, as a crop is cut. A back-end without
        a way of its own calls `landmarks` with the crop, and moves its points into the picture (`mesh.to_frame`).
        """
        ...

    def close(self) -> None:
        """Release the model."""
        ...
