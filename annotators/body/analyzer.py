"""Body posture and hands by MediaPipe's networks, around the person whose face is known.

Nothing is remembered from picture to picture, so that a clip gives the same numbers wherever it starts; who has the
body of the picture before hands it in, and its hands are followed from there. A body is looked for in a crop laid
around the face; as many are asked for as there are faces in it. The one whose nose lies on the face is meant. A hand is
looked for only around a wrist that the pose calls visible inside the picture: the pose network guesses wrists that it
does not see; and where none was found, not again in the very next picture.

Bodies are not followed from their own landmarks, as MediaPipe's tracking does, which would save half of the pose: over
a few pictures hips and knees, mostly near the picture's edge, are then called hidden, and who sits is no longer known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import cv2
import numpy as np

from annotators.body import hand, pose
from annotators.body.hand import Hand, HandLandmarker
from annotators.body.pose import Near, Pose, PoseLandmarker
from annotators.protocols import Box, FloatArray, Image
from annotators.protocols_body import NOSE, WRISTS, Body

WEIGHTS = (pose.DETECTOR, pose.LANDMARKS, hand.DETECTOR, hand.LANDMARKS)
"""The networks of `MediaPipeBody`, by their names in the registry."""

_MIN_VISIBILITY = 0.5
"""From here on a point counts as seen: MediaPipe's own limit where it draws one."""

_BESIDE, _ABOVE, _BELOW = 3.0, 1.0, 5.5
"""Reach of the crop in face heights from the face's middle: spread arms to the sides, hips below."""
_POSE_PX, _HAND_PX = 448, 256
_MOST_BODIES = 3
_ON_FACE = 0.75
"""A body's nose lies within this many face sizes of the face's middle: heads turn, and boxes end at brow and chin."""
_REACH = 2.0
"""A body whose head is further from the face than this many face sizes is a stranger's: its nose is on no other."""
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
        self._min_score = min_score
        self._pose = PoseLandmarker(min_score)
        self._hands: HandLandmarker | None = None

    def measure(
        self, rgb: Image, face: Box, others: Sequence[Box] = (), hands: bool = True, before: Body | None = None
    ) -> Body | None:
        """Return the body whose nose lies on the face, with hands at its visible wrists; None where none does."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise ValueError(f"expected an RGB image uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}")
        crop = body_crop(face, (rgb.shape[1], rgb.shape[0]))
        if crop.w < 2 or crop.h < 2:
            return None
        found = self._body(rgb, crop, face, [o for o in others if _middle_inside(o, crop)])
        if found is None:
            return None
        passed = (_in_vain(before, 0), _in_vain(before, 1))
        seen: list[Hand | float | None] = [None, None]
        if hands:
            palms = (None, None) if before is None else before.palms
            seen = [self._hand(rgb, found, side, face, palms[side], passed[side]) for side in (0, 1)]
        (left, left_palm), (right, right_palm) = (_told(one) for one in seen)
        palms, passed = (left_palm, right_palm), (passed[0] and left == 0, passed[1] and right == 0)
        return Body(found.points, found.visibility, found.world, (left, right), palms, passed)

    def close(self) -> None:
        """Release the models; the analyzer cannot be used afterwards."""
        self._pose.close()
        if self._hands is not None:
            self._hands.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _body(self, rgb: Image, crop: Box, face: Box, near: Sequence[Box]) -> Pose | None:
        """Return the face's body in the picture's pixels."""
        shown = _cut(rgb, crop, _POSE_PX)
        view = _View(shown, crop)
        x, y = view.inside(np.array([face.x + face.w / 2, face.y + face.h / 2])).tolist()
        reach = _REACH * max(face.w, face.h) / float(view.scale.max())
        poses = self._pose.poses(shown, min(_MOST_BODIES, 1 + len(near)), Near(x, y, reach))
        best = matching([view.outside(one.points) for one in poses], face, near)
        if best is None:
            return None
        one = poses[best]
        return Pose(view.outside(one.points), one.visibility, one.world)

    def _hand(
        self, rgb: Image, body: Pose, side: int, face: Box, palm: FloatArray | None, passed: bool
    ) -> Hand | float | None:
        """Return the hand at a wrist, 0 where there is none, None where there is nothing to look at.

        `palm` are its points in the picture before, where it was found there; `passed` takes it that there is none.
        """
        size, wrist = (rgb.shape[1], rgb.shape[0]), body.points[WRISTS[side]]
        if body.visibility[WRISTS[side]] < _MIN_VISIBILITY or not _in_picture(wrist, size):
            return None
        box = _inside(hand_box(body.points, side, face), size)
        if box.w < 8 or box.h < 8:
            return None
        if passed:
            return 0.0
        if self._hands is None:
            self._hands = HandLandmarker(self._min_score)
        shown = _cut(rgb, box, _HAND_PX)
        view = _View(shown, box)

        def at_wrist(hands: Sequence[Hand]) -> list[Hand]:
            there = [Hand(view.outside(one.points), one.score) for one in hands]
            return [one for one in there if np.linalg.norm(one.points[0] - wrist) <= _AT_WRIST * face.h]

        followed = None if palm is None else self._hands.follow(shown, view.inside(palm))
        found = at_wrist([followed] if followed is not None else []) or at_wrist(self._hands.hands(shown))
        return max(found, key=lambda one: one.score, default=0.0)


class _View:
    """From the pixels of a picture to those of a part of it, reduced, and back."""

    def __init__(self, shown: Image, box: Box) -> None:
        self._corner = np.array([box.x, box.y])
        self.scale = np.array([box.w / shown.shape[1], box.h / shown.shape[0]])
        """the picture's pixels in one of the part"""

    def inside(self, points: FloatArray) -> FloatArray:
        """Return points [..., 2] of the picture in pixels of the part."""
        return np.asarray((points - self._corner) / self.scale, np.float32)

    def outside(self, points: FloatArray) -> FloatArray:
        """Return points [..., 2] of the part in pixels of the picture."""
        return np.asarray(points * self.scale + self._corner, np.float32)


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


def _in_vain(before: Body | None, side: int) -> bool:
    """Say whether no hand is looked for since none was found at this wrist just before: every second time."""
    return before is not None and before.hands[side] == 0 and not before.passed[side]


def _told(hand: Hand | float | None) -> tuple[float | None, FloatArray | None]:
    """Return a hand's score and points."""
    return (hand.score, hand.points) if isinstance(hand, Hand) else (hand, None)


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
