"""Body posture and hands by MediaPipe, in a crop around the person whose face is known.

Without state from frame to frame, so that a clip gives the same numbers wherever it starts. The crop is laid around
the face; as many bodies are asked for as there are faces in it, and the one whose nose lies on the face is meant.
A hand is looked for only around a wrist that the pose calls visible inside the picture: the pose network guesses
wrists that it does not see. Costs on one core of a 2 GHz server CPU: 31 ms a person and frame, 15 ms a visible wrist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import cv2
import numpy as np

from annotators.models.mediapipe_runtime import Task, local_buffer, quiet_stderr, vision
from annotators.models.mediapipe_tasks import HANDS, POSE, task_bundle
from annotators.protocols import Box, FloatArray, Image
from annotators.protocols_body import NOSE, WRISTS, Body

WEIGHTS = tuple(part.weight for part in (*POSE, *HANDS))
"""The networks of `MediaPipeBody`, by their names in the registry."""

_MIN_VISIBILITY = 0.5
"""From here on a point counts as seen: MediaPipe's own limit where it draws one."""

_BESIDE, _ABOVE, _BELOW = 3.0, 1.0, 5.5
"""Reach of the crop in face heights from the face's middle: spread arms to the sides, hips below."""
_POSE_PX, _HAND_PX = 448, 256
_MOST_BODIES = 3
_ON_FACE = 0.75
"""A body's nose lies within this many face sizes of the face's middle: heads turn, and boxes end at brow and chin."""
_HAND_SIDE = 2.4
"""Side of the crop around a wrist, in face heights: a hand is about one face long and may point anywhere."""
_HAND_POINTS = ((15, 17, 19, 21), (16, 18, 20, 22))
_AT_WRIST = 0.8
"""A hand belongs to a wrist within this many face heights of its own wrist point."""


class MediaPipeBody:
    """BlazePose for the body, MediaPipe's palm detector and hand landmarks for the hands."""

    name = "mediapipe-pose-and-hands"
    weights: tuple[str, ...] = WEIGHTS

    def __init__(self, min_score: float = 0.5) -> None:
        """Load the pose networks; those of hands when the first one is looked for. Raises WeightsNotFound."""
        self._pose_bundle = task_bundle(POSE)
        self._min_score = min_score
        self._poses: dict[int, Task] = {}
        self._hands: Task | None = None
        self._pose(1)

    def measure(self, rgb: Image, face: Box, others: Sequence[Box] = (), hands: bool = True) -> Body | None:
        """Return the body whose nose lies on the face, with hands at its visible wrists; None where none does."""
        crop = body_crop(face, (rgb.shape[1], rgb.shape[0]))
        if crop.w < 2 or crop.h < 2:
            return None
        near = [o for o in others if _middle_inside(o, crop)]
        shown = _cut(rgb, crop, _POSE_PX)
        found = self._pose(min(_MOST_BODIES, 1 + len(near))).detect(shown)
        corner, size = np.array([crop.x, crop.y]), np.array([crop.w, crop.h])
        bodies = [np.array([(p.x, p.y) for p in body]) * size + corner for body in found.pose_landmarks]
        best = matching(bodies, face, near)
        if best is None:
            return None
        points = bodies[best].astype(np.float32)
        visibility = np.array([p.visibility for p in found.pose_landmarks[best]], np.float32)
        world = np.array([(p.x, p.y, p.z) for p in found.pose_world_landmarks[best]], np.float32)
        found_hands = self._find_hands(rgb, points, visibility, face) if hands else (None, None)
        return Body(points, visibility, world, found_hands)

    def close(self) -> None:
        """Release the models; they are opened again if the analyzer is used after that."""
        for task in (*self._poses.values(), *([self._hands] if self._hands else [])):
            task.close()
        self._poses.clear()
        self._hands = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pose(self, n: int) -> Task:
        """Return the pose task that finds up to n bodies; opened when it is first needed."""
        if n not in self._poses:
            with quiet_stderr():
                options = vision().PoseLandmarkerOptions(
                    base_options=local_buffer(self._pose_bundle),
                    num_poses=n,
                    min_pose_detection_confidence=self._min_score,
                    min_pose_presence_confidence=self._min_score,
                )
                self._poses[n] = Task(vision().PoseLandmarker.create_from_options(options))
                self._poses[n].detect(np.zeros((_POSE_PX, _POSE_PX, 3), np.uint8))
        return self._poses[n]

    def _hand_task(self) -> Task:
        """Return the hand task; opened when it is first needed."""
        if self._hands is None:
            options = vision().HandLandmarkerOptions(
                base_options=local_buffer(task_bundle(HANDS)),
                num_hands=2,
                min_hand_detection_confidence=self._min_score,
                min_hand_presence_confidence=self._min_score,
            )
            with quiet_stderr():
                self._hands = Task(vision().HandLandmarker.create_from_options(options))
                self._hands.detect(np.zeros((_HAND_PX, _HAND_PX, 3), np.uint8))
        return self._hands

    def _find_hands(
        self, rgb: Image, points: FloatArray, visibility: FloatArray, face: Box
    ) -> tuple[float | None, float | None]:
        size = (rgb.shape[1], rgb.shape[0])
        found: list[float | None] = [None, None]
        boxes = [hand_box(points, side, face) for side in (0, 1)]
        for side in (0, 1):
            if visibility[WRISTS[side]] < _MIN_VISIBILITY or not _in_picture(points[WRISTS[side]], size):
                continue
            box = _inside(boxes[side], size)
            if box.w < 8 or box.h < 8:
                continue
            result = self._hand_task().detect(_cut(rgb, box, _HAND_PX))
            found[side] = 0.0
            for hand, label in zip(result.hand_landmarks, result.handedness, strict=True):
                at = np.array([hand[0].x * box.w + box.x, hand[0].y * box.h + box.y])
                if np.linalg.norm(at - points[WRISTS[side]]) <= _AT_WRIST * face.h:
                    found[side] = max(found[side] or 0.0, float(label[0].score))
        return found[0], found[1]


def body_crop(face: Box, size: tuple[int, int]) -> Box:
    """Return the part of a picture (width, height) in which the body of a face is looked for."""
    x, y, side = face.x + face.w / 2, face.y + face.h / 2, max(face.w, face.h)
    return _inside(Box(x - _BESIDE * side, y - _ABOVE * side, 2 * _BESIDE * side, (_ABOVE + _BELOW) * side), size)


def hand_box(points: FloatArray, side: int, face: Box) -> Box:
    """Return the square around a hand: side 0 is the left one."""
    x, y = points[list(_HAND_POINTS[side])].mean(axis=0)
    half = _HAND_SIDE * max(face.w, face.h) / 2
    return Box(float(x) - half, float(y) - half, 2 * half, 2 * half)


def matching(bodies: Sequence[Any], face: Box, others: Sequence[Box] = ()) -> int | None:
    """Return which of the bodies ([33, 2] points each) has its nose on the face and nearer to it than to any other."""
    best, least = None, _ON_FACE
    for i, points in enumerate(bodies):
        gap = _gap(points[NOSE], face)
        if gap <= least and all(gap < _gap(points[NOSE], other) for other in others):
            best, least = i, gap
    return best


def _gap(point: Any, face: Box) -> float:
    """Return the distance of a point from a face's middle, in sizes of the face."""
    middle = np.array([face.x + face.w / 2, face.y + face.h / 2])
    return float(np.linalg.norm(point - middle) / max(face.w, face.h))


def _middle_inside(box: Box, crop: Box) -> bool:
    x, y = box.x + box.w / 2, box.y + box.h / 2
    return crop.x <= x < crop.x + crop.w and crop.y <= y < crop.y + crop.h


def _in_picture(point: Any, size: tuple[int, int]) -> bool:
    return bool(0 <= point[0] < size[0] and 0 <= point[1] < size[1])


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """Return the part of a box inside a picture, on whole pixels."""
    x0, y0 = max(0, round(box.x)), max(0, round(box.y))
    x1, y1 = min(size[0], round(box.x + box.w)), min(size[1], round(box.y + box.h))
    return Box(x0, y0, max(0, x1 - x0), max(0, y1 - y0))


def _cut(rgb: Image, box: Box, most_px: int) -> Image:
    """Return a part of a picture, its longer side reduced to `most_px`."""
    x, y, w, h = int(box.x), int(box.y), int(box.w), int(box.h)
    part = rgb[y : y + h, x : x + w]
    if max(w, h) > most_px:
        scale = most_px / max(w, h)
        part = np.asarray(
            cv2.resize(part, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
    return np.ascontiguousarray(part)
