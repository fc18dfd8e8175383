"""Hands in a picture, by the networks of MediaPipe's hand landmarker.

The steps are those of MediaPipe's task (Apache-2.0) on single pictures, written anew over the bare networks; on 106
crops of real footage it finds the same hands. Nothing is remembered from picture to picture: who follows a hand says
where it was, and the palm detector, the greater half of a look, is then not asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from annotators.face.blaze import Blaze, BlazeReader, Region
from annotators.models.sampler import Sampler, give
from annotators.models.tflite import TfliteNetwork
from annotators.models.weights import resolve
from annotators.protocols import FloatArray, Image

DETECTOR, LANDMARKS = "palm_detection_full.tflite", "hand_landmark_full.tflite"

_PALMS = Blaze(192, ((8, 2), (16, 6)), n_points=7, points=(0, 2), min_overlap=0.3)
"""The two points are the wrist and the middle finger's first joint."""
_INPUT_PX = 224
_ENLARGED, _UP = 2.6, 0.5
_TURN = 90.0
"""Radians by which MediaPipe turns a found hand; a quarter was meant, so that hands lie 27 degrees off. Kept, since the
scores are its own then."""
_MOST_HANDS = 2
_NEAR, _NEAR_POINTS, _SHARED = 0.2, 10, 0.2
"""Two hands are one when this many points lie within this share of the palm's size and their boxes share this much."""

_AGAIN_ENLARGED, _TO_FINGERS = 2.0, 0.1
"""Of a hand that is followed, as in MediaPipe's tracking graph: over the palm's size, and moved towards the fingers."""
_PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Points of a hand without its fingers' ends: wrist, thumb, and two joints of each finger."""
_WRIST = 0
_MIDDLE_JOINTS, _SHARES = (6, 10, 14), (0.25, 0.5, 0.25)


@dataclass(frozen=True, eq=False)
class Hand:
    """A hand: `points` [21, 2] in pixels, the wrist first, and how sure the network is which of the two it is."""

    points: FloatArray
    score: float


class HandLandmarker:
    """Finds hands with at least `min_score` in [0, 1], or follows one. One thread at a time."""

    def __init__(self, min_score: float) -> None:
        """Load the networks. Raises WeightsNotFound."""
        self._detector = TfliteNetwork(resolve(DETECTOR).read_bytes())
        self._landmarks = TfliteNetwork(resolve(LANDMARKS).read_bytes())
        self._min_score = min_score
        self._reader = BlazeReader(min_score, _PALMS)
        self._small, self._close = Sampler(_PALMS.input_px, black=True), Sampler(_INPUT_PX)

    def hands(self, rgb: Image) -> list[Hand]:
        """Return the hands of a picture, two at most, that whose palm the detector is surest of first."""
        found: list[Hand] = []
        for region in self._regions(rgb):
            hand = self._hand(rgb, region)
            if hand is not None and not any(_same(hand.points, other.points) for other in found):
                found.append(hand)
        return found

    def follow(self, rgb: Image, points: FloatArray) -> Hand | None:
        """Return the hand that had `points` [21, 2] in the picture just before, None where it is not."""
        return self._hand(rgb, hand_region(points).on_grid())

    def close(self) -> None:
        """Release the networks; they cannot be used afterwards."""
        self._detector.close()
        self._landmarks.close()

    def _regions(self, rgb: Image) -> list[Region]:
        """Return where hands are looked at closely."""
        height, width = rgb.shape[:2]
        side = max(width, height)
        give(self._small.of(rgb, Region(width / 2, height / 2, side, side, 0.0).to_picture()), self._detector.input())
        regressors, logits = self._detector.run()
        scale, corner = side / _PALMS.input_px, ((width - side) / 2, (height - side) / 2)
        out = []
        for box in self._reader.boxes(regressors[0], logits[0, :, 0], _MOST_HANDS):
            low, high, wrist, joint = np.array(box).reshape(4, 2) * scale + corner
            turn = _TURN - math.atan2(wrist[1] - joint[1], joint[0] - wrist[0])
            up = _UP * float(high[1] - low[1])
            x, y = ((low + high) / 2).tolist()
            size = _ENLARGED * float((high - low).max())
            out.append(Region(x + up * math.sin(turn), y - up * math.cos(turn), size, size, turn))
        return out

    def _hand(self, rgb: Image, region: Region) -> Hand | None:
        """Return the hand in a region of a picture, both in its pixels; None where the network sees none."""
        to_picture = region.to_picture()
        give(self._close.of(rgb, to_picture), self._landmarks.input())
        flat, presence, right, _ = self._landmarks.run()
        if float(presence.item()) < self._min_score:
            return None
        at = flat.reshape(-1, 3)[:, :2] / np.float32(_INPUT_PX)
        points = (at @ to_picture[:, :2].T + to_picture[:, 2]).astype(np.float32)
        is_right = float(right.item())
        return Hand(points, max(is_right, 1 - is_right))


def hand_region(points: FloatArray) -> Region:
    """Return where a hand that had `points` [21, 2] is looked for, in the same pixels."""
    up = np.asarray(_SHARES) @ points[list(_MIDDLE_JOINTS)] - points[_WRIST]
    angle = math.atan2(up[0], -up[1])
    cos, sin = math.cos(angle), math.sin(angle)
    level = np.array(((cos, -sin), (sin, cos)))
    palm = points[list(_PALM)] @ level
    low, high = palm.min(axis=0), palm.max(axis=0)
    longer = max(1.0, float((high - low).max()))
    x, y = (level @ ((low + high) / 2 - (0, _TO_FINGERS * float(high[1] - low[1])))).tolist()
    return Region(x, y, _AGAIN_ENLARGED * longer, _AGAIN_ENLARGED * longer, angle)


def _same(a: FloatArray, b: FloatArray) -> bool:
    close = np.linalg.norm(a - b, axis=1) < _NEAR * max(_span(a), _span(b))
    low, high = np.maximum(a.min(axis=0), b.min(axis=0)), np.minimum(a.max(axis=0), b.max(axis=0))
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = float(np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0)))
    return bool(close.sum() >= _NEAR_POINTS and shared > _SHARED * (areas - shared))


def _span(points: FloatArray) -> float:
    wrist, index, little = points[[0, 5, 17]]
    return max(float(np.linalg.norm(p - q)) for p, q in ((wrist, index), (index, little), (little, wrist)))
