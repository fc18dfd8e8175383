"""Embed a track's portraits: dlib's descriptor, or an ArcFace network of your own through insightface.

Both give vectors of which two of one person lie nearer than 0.6 (L2), so that the stages' thresholds mean the same for
either. ArcFace's unit vectors are scaled for that: a cosine of 0.35, in the middle of the 0.3 to 0.4 that its users
take for one person (not measured here), is an L2 distance of 1.14. No package carries such weights; those that
InsightFace publishes are for research that is not commercial. Costs: see
`dlib_embedder`; a ResNet-50 some 100 ms a face on one core.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from annotators.face.alignment import eye_corners_and_nose_from_five
from annotators.face.dlib_embedder import SAME_PERSON_DISTANCE, FaceEmbedder
from annotators.face.face_reid import FaceReid
from annotators.face.insightface_pack import made_of_network
from annotators.models.batches import in_batches
from annotators.models.onnx_session import Device, open_session
from annotators.parts import Made
from annotators.protocols import Box, FloatArray, Image

ARCFACE_SAME_PERSON_COSINE = 0.35

Portrayed = tuple[Image, FloatArray | None, Box]
"""What `PortraitEmbedder.embed` is given."""

_BATCH = 32

_BROWS = 0.2
"""Share of a face box above the brows, which dlib's own aligner does not expect."""

# Eye centres, nose tip and mouth corners in the box of a frontal face's mesh, as shares of width and height: medians
# over 19 frames of 7 talkers with less than 15 degrees of yaw, made symmetric; standard deviations 0.02 to 0.06.
_FIVE_IN_BOX = ((0.27, 0.325), (0.73, 0.325), (0.50, 0.55), (0.315, 0.715), (0.685, 0.715))


class PortraitEmbedder(Protocol):
    """Turns a portrait into a vector that says who it is."""

    name: str
    weights: tuple[str, ...]

    def embed(self, rgb: Image, five: FloatArray | None, face: Box) -> FloatArray:
        """Embed one face, float32 [E].

        Args:
            rgb: the portrait.
            five: eye centres, nose tip, mouth corners [5, 2] in its pixels; None where no landmarks were found.
            face: the face's box in its pixels.
        """


def embed_each(embedder: PortraitEmbedder, portraits: Sequence[Portrayed]) -> list[FloatArray]:
    """Embed portraits in their order; together where the embedder has `embed_many`, with the same arguments in a list.

    A batch may differ from single calls in the last bits.
    """
    together = getattr(embedder, "embed_many", None)
    if together is None:
        return [embedder.embed(*portrait) for portrait in portraits]
    embedded: list[FloatArray] = together(portraits)
    return embedded


class DlibPortraits:
    """dlib's 128 numbers."""

    name = FaceEmbedder.name
    weights: tuple[str, ...] = FaceEmbedder.weights

    def __init__(self) -> None:
        self._embedder = FaceEmbedder()

    def embed(self, rgb: Image, five: FloatArray | None, face: Box) -> FloatArray:
        """Embed one face, float32 [128]; without landmarks dlib finds the points itself."""
        below_brows = Box(face.x, face.y + _BROWS * face.h, face.w, (1 - _BROWS) * face.h)
        where = below_brows if five is None else eye_corners_and_nose_from_five(five)
        return self._embedder.embed(self._embedder.chip(rgb, where))


class ReidPortraits:
    """The 256 numbers of Intel's face-reidentification-retail-0095, of length 1."""

    name = FaceReid.name
    weights: tuple[str, ...] = FaceReid.weights

    def __init__(self) -> None:
        """Open the network. Raises WeightsNotFound."""
        self._embedder = FaceReid()

    def embed(self, rgb: Image, five: FloatArray | None, face: Box) -> FloatArray:
        """Embed one face, float32 [256]; without landmarks, by where they lie in a frontal face's box."""
        return self._embedder.embed(self._embedder.chip(rgb, _five_in_box(face) if five is None else five))


class ArcFacePortraits:
    """An ArcFace network in ONNX, such as InsightFace's `w600k_r50.onnx`, aligned and run as insightface does."""

    def __init__(self, model: str, device: Device = "cpu") -> None:
        """Open a network: an ONNX file or a pack's directory, by path or by its name in a directory of OPENLPM_MODELS.

        Raises:
            WeightsNotFound: there is no such network.
            PartNotInstalledError: insightface, or CUDA where it is asked for, is not there.
        """
        made = self.made_of(model)
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        (file,) = made.weights
        self.name, self.weights = made.name, made.weights
        self._network: Any = ArcFaceONNX(file, session=open_session(file, device=device))
        self._batch = 1 if isinstance(self._network.input_shape[0], int) else _BATCH
        self._scale = SAME_PERSON_DISTANCE / float(np.sqrt(2 - 2 * ARCFACE_SAME_PERSON_COSINE))

    @classmethod
    def made_of(cls, model: str, **_: object) -> Made:
        """Name the back-end and its file. Raises WeightsNotFound, PartNotInstalledError."""
        return made_of_network(model, "recognition", "insightface-arcface")

    def chip(self, rgb: Image, five: FloatArray | None, face: Box) -> Image:
        """Return the aligned face [112, 112, 3] RGB; without landmarks, by where they lie in a frontal face's box."""
        from insightface.utils.face_align import norm_crop

        if five is None:
            five = _five_in_box(face)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # scikit-image's, of a call that insightface makes
            size = int(self._network.input_size[0])
            return np.asarray(norm_crop(np.ascontiguousarray(rgb), np.asarray(five, np.float32), size), np.uint8)

    def embed(self, rgb: Image, five: FloatArray | None, face: Box) -> FloatArray:
        """Embed one face, float32 [E] of length 0.53."""
        return self.embed_many([(rgb, five, face)])[0]

    def embed_many(self, portraits: Sequence[Portrayed]) -> list[FloatArray]:
        """Embed faces in batches, where the network's batch size is free, else one by one; in their order."""
        chips = [np.ascontiguousarray(self.chip(*portrait)[..., ::-1]) for portrait in portraits]
        raw = in_batches(chips, self._batch, lambda some: list(self._network.get_feat(list(some))))
        vectors = [np.asarray(v, np.float64).ravel() for v in raw]
        return [np.asarray(self._scale * v / max(1e-12, float(np.linalg.norm(v))), np.float32) for v in vectors]


def _five_in_box(face: Box) -> FloatArray:
    return np.array([[face.x + a * face.w, face.y + b * face.h] for a, b in _FIVE_IN_BOX], np.float32)
