"""The pipeline's face models as the trainer's `FaceReader`: identity by dlib, meshes by MediaPipe, learned lip sync.

The trainer may not import annotators; it names this class as its face reader `pipeline`. The largest face of a frame is
followed without state, so that a video gives the same figures wherever it starts. About 15 ms a frame on one core, and
60 ms for each look at who it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from annotators.face.boxes import crop_box, cut_square
from annotators.face.dlib_embedder import FaceEmbedder
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import eye_corners_and_nose, mouth_opening, to_frame
from annotators.lips.lip_shape import LIP_NUMBERS, lip_shape
from annotators.lips.lip_signals import MIN_FRAMES, SAMPLES_PER_FRAME
from annotators.lips.lip_sync_model import MAX_LAG_FRAMES, LearnedLipSync
from annotators.lips.sync_audio import WHISPER_WEIGHT
from annotators.models.weights import WeightsNotFound, here
from curation.media.sound import resample
from lpm_train.tools.judge.faces import F32, U8, Bools, Look, NoFaceModelsError, Sync
from schemas.time import AUDIO_HZ

_FEWEST = 2 * MAX_LAG_FRAMES + MIN_FRAMES  # frames that a comparison at every lag needs


def _lip_sync() -> LearnedLipSync:
    return LearnedLipSync.in_use("whisper-base" if here(WHISPER_WEIGHT) else "mel")


class PipelineFaces:
    """See the module's text."""

    same_person_distance = FaceEmbedder.same_person_distance
    # Gap between the lips over the height of the face: most frames of people who speak are above, of listeners few.
    open_from = 0.05

    def __init__(self) -> None:
        """Load the models. Raises NoFaceModelsError, which says which weights are missing and how to fetch them."""
        try:
            self._detector, self._landmarker = FaceDetector(), FaceLandmarker()
            self._embedder, self._lip_sync = FaceEmbedder(), _lip_sync()
        except WeightsNotFound as e:
            raise NoFaceModelsError(str(e)) from e

    def look(self, frames: Iterable[U8], every: int) -> Look:
        """Read the largest face of each frame, uint8 RGB [H, W, 3], and who it is on every `every`-th."""
        who, lips, openings = [], [], []
        for i, rgb in enumerate(frames):
            points = self._points(rgb)
            who.append(np.full(FaceEmbedder.dimensions, np.nan, np.float32))
            lips.append(np.full(LIP_NUMBERS, np.nan, np.float32))
            openings.append(np.nan if points is None else mouth_opening(points))
            if points is not None:
                lips[-1] = lip_shape(points[None, :, :2])[0]
                if i % every == 0:
                    who[-1] = self._embedder.embed(self._embedder.chip(rgb, eye_corners_and_nose(points)))
        return Look(
            np.array(who, np.float32).reshape(-1, FaceEmbedder.dimensions),
            np.array(lips, np.float32).reshape(-1, LIP_NUMBERS), np.array(openings, np.float32),
        )  # fmt: skip

    def close(self) -> None:
        """Release the models; the reader cannot be used afterwards."""
        self._detector.close()
        self._landmarker.close()

    def _points(self, rgb: U8) -> F32 | None:
        faces = self._detector.detect(rgb)
        if not faces:
            return None
        square = crop_box(max(faces, key=lambda face: face.w * face.h))
        mesh = self._landmarker.landmarks(cut_square(rgb, square, CROP_SIZE_PX))
        return None if mesh is None else to_frame(mesh.points.copy(), square, CROP_SIZE_PX)

    def sync(self, look: Look, wave_N: F32, rate_hz: int, use_T: Bools) -> Sync | None:
        """Compare lips with sound of the same length over the frames of `use_T`; None where that is too little."""
        frames = len(look.opening_T)
        if frames < _FEWEST:
            return None
        audio = resample(wave_N[None], rate_hz, AUDIO_HZ)[0][: frames * SAMPLES_PER_FRAME]
        opening = np.where(use_T, look.opening_T, np.nan).astype(np.float32)
        found = self._lip_sync.measure(audio, opening, lips=look.lips_TL)
        if not np.isfinite(found.confidence):
            return None
        return Sync(float(found.own_voice), found.confidence, found.offset_ms)
