"""Faces by MediaPipe: boxes in a frame.

Two detectors are merged: the full-range model finds small faces, the short-range model draws the better box around
large ones. There is no state from frame to frame, so that a window of a video gives the same numbers wherever it
starts. Costs on one core of a 2 GHz server CPU: 4 ms a frame (14 ms with 2 x 2 tiles).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from annotators.face.boxes import in_tiles, merge
from annotators.models.mediapipe_runtime import Task, local_options, quiet_stderr, vision
from annotators.models.weights import resolve
from annotators.protocols import FaceBox, Image

_FULL_RANGE = "face_detection_full_range_sparse.tflite"
_SHORT_RANGE = "face_detection_short_range.tflite"

# Above this share of the image's longer side the short-range model (128 px input, faces within 2 m) is the better
# of two boxes of one face: on a 386 px face of a 1280 px frame the full-range box was off by up to 80 px.
_LARGE_FACE = 0.2


class FaceDetector:
    """Finds faces in a frame, from close-ups down to faces of about 30 px in a 1280 px frame.

    `min_score` in (0, 1) is the lowest score returned. `tiles` > 1 also searches tiles x tiles overlapping parts of
    the frame, for small faces in wide shots; it finds faces of 2 % of the frame's width, and now and then a face
    where none is (about one frame in ten, scores below 0.65; the landmarker finds no mesh in those). Boxes of faces
    under 5 % of the width are up to twice too large: `mesh_box` of the landmarks is the better box.
    """

    name = "mediapipe-face-detector"
    weights: tuple[str, ...] = (_FULL_RANGE, _SHORT_RANGE)

    def __init__(self, min_score: float = 0.4, tiles: int = 1) -> None:
        if tiles < 1:
            raise ValueError(f"tiles is {tiles}, must be 1 (whole frame) or more per side")
        self._tiles = tiles
        self._full = _open_detector(_FULL_RANGE, min_score)
        self._short = _open_detector(_SHORT_RANGE, min_score)

    def detect(self, rgb: Image) -> list[FaceBox]:
        """Return the faces in image pixels, highest score first; one box a face."""
        height, width = rgb.shape[:2]
        full, short = _boxes(self._full, rgb), _boxes(self._short, rgb)
        large = [box for box in short if box.w >= _LARGE_FACE * max(width, height)]
        small = [box for box in short if box.w < _LARGE_FACE * max(width, height)]
        tiled = in_tiles(rgb, self._tiles, lambda part: _boxes(self._full, part))
        return merge([*large, *full, *small, *tiled])

    def close(self) -> None:
        """Release both models; the detector cannot be used afterwards."""
        self._full.close()
        self._short.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_detector(weight: str, min_score: float) -> Task:
    options = vision().FaceDetectorOptions(
        base_options=local_options(resolve(weight)),
        running_mode=vision().RunningMode.IMAGE,
        min_detection_confidence=min_score,
    )
    with quiet_stderr():
        task = Task(vision().FaceDetector.create_from_options(options))
        task.detect(np.zeros((128, 128, 3), np.uint8))  # the first call loads the rest, and says so
    return task


def _boxes(detector: Task, rgb: Image) -> list[FaceBox]:
    boxes = []
    for detection in detector.detect(rgb).detections:
        box = detection.bounding_box
        score = float(detection.categories[0].score)
        boxes.append(FaceBox(float(box.origin_x), float(box.origin_y), float(box.width), float(box.height), score))
    return boxes
