"""Who a face belongs to: Intel's face-reidentification-retail-0095, 256 numbers of length 1 (Apache-2.0).

A small convolutional network that reads an aligned face of 128 px. On unit vectors two portraits of one person lie
0.76 apart (median), of two people 1.04 at the least; see docs/models.md for what was measured here. Costs 14 ms a face
on one core, a sixth of dlib's.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from annotators.models.onnx_session import open_session
from annotators.models.weights import resolve
from annotators.protocols import FloatArray, Image

WEIGHT = "face_reid_retail_0095.onnx"
CHIP_SIZE_PX = 128

# Where the eye centres, the nose tip and the mouth's corners (image-left first) lie in a chip, in pixels.
_TEMPLATE = np.array(
    [(40.393, 59.081), (87.375, 59.081), (64.034, 81.985), (44.732, 105.561), (83.640, 105.561)], np.float64
)


class FaceReid:
    """Embeds aligned faces; two of one person are near."""

    name = "face-reidentification-retail-0095"
    weights: tuple[str, ...] = (WEIGHT,)
    dimensions = 256

    def __init__(self) -> None:
        """Open the network. Raises WeightsNotFound."""
        self._session = open_session(resolve(WEIGHT))

    def chip(self, rgb: Image, five: FloatArray) -> Image:
        """Return the aligned face [128, 128, 3] RGB of five points [5, 2] in the order of `faces_mesh.five_points`.

        Parts outside the picture are black. Raises ValueError for points that are no face.
        """
        place = similarity(np.asarray(five, np.float64), _TEMPLATE)
        size = (CHIP_SIZE_PX, CHIP_SIZE_PX)
        return np.asarray(cv2.warpAffine(np.ascontiguousarray(rgb), place, size, flags=cv2.INTER_LINEAR), np.uint8)

    def embed(self, chip: Image) -> FloatArray:
        """Return float32 [256] of length 1 of an aligned face [128, 128, 3] RGB."""
        if chip.shape != (CHIP_SIZE_PX, CHIP_SIZE_PX, 3) or chip.dtype != np.uint8:
            raise ValueError(f"a chip is uint8 [{CHIP_SIZE_PX}, {CHIP_SIZE_PX}, 3], got {chip.dtype} {chip.shape}")
        bgr = np.ascontiguousarray(chip[..., ::-1].transpose(2, 0, 1)[None], np.float32)
        vector = np.asarray(self._session.run(None, {"bgr": bgr})[0], np.float64).ravel()
        return np.asarray(vector / max(1e-12, float(np.linalg.norm(vector))), np.float32)


def similarity(points: npt.NDArray[np.float64], onto: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the turn, scale and shift [2, 3] that brings points [n, 2] nearest to others, in least squares.

    Raises ValueError for points that are not finite, of another shape, or all at one place.
    """
    if points.shape != onto.shape or not np.isfinite(points).all():
        raise ValueError(f"expected finite points {onto.shape}, got an array of shape {points.shape}")
    source, target = points - points.mean(axis=0), onto - onto.mean(axis=0)
    spread = float((source**2).sum())
    if not spread > 0:
        raise ValueError("all points are at one place: this is no face")
    along = float((source * target).sum()) / spread
    across = float((source[:, 0] * target[:, 1] - source[:, 1] * target[:, 0]).sum()) / spread
    turn = np.array([[along, -across], [across, along]])
    return np.asarray(np.column_stack([turn, onto.mean(axis=0) - turn @ points.mean(axis=0)]))
