"""Bodies and hands by the bare networks against MediaPipe's own tasks on real footage, and hands that are followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from footage import every_nth
from mediapipe_bundles import hand_task, pose_task
from speech_media import need

from annotators.body.analyzer import WEIGHTS, MediaPipeBody, body_crop
from annotators.body.hand import HandLandmarker
from annotators.body.pose import Near, PoseLandmarker
from annotators.face.faces import FaceDetector
from annotators.protocols import Box, Image


@pytest.fixture(scope="module")
def analyzer() -> Iterator[MediaPipeBody]:
    """The analyzer with its networks."""
    need(*WEIGHTS, *FaceDetector.weights)
    with MediaPipeBody() as opened:
        yield opened


@pytest.fixture(scope="module")
def crops(media: Path) -> list[Image]:
    """Pictures of people, whole and around faces, of several shapes."""
    need(*WEIGHTS, *FaceDetector.weights)
    out = []
    with FaceDetector() as detector:
        for name in ("talk_woman_studio", "talk_woman_garden", "two_talkers", "split_screen"):
            for rgb in every_nth(media / f"{name}.mp4", 25, 3):
                out.append(rgb)
                for face in detector.detect(rgb):
                    box = body_crop(face, (rgb.shape[1], rgb.shape[0]))
                    x, y, w, h = (int(v) for v in (box.x, box.y, box.w, box.h))
                    out.append(np.ascontiguousarray(rgb[y : y + h, x : x + w]))
    return out


def test_the_bodies_are_those_of_the_task(crops: list[Image], tmp_path: Path) -> None:
    mine = PoseLandmarker(0.5)
    moved, seen, turned = [], [], []
    with pose_task(2, tmp_path) as task:
        for rgb in crops:
            theirs, found, size = task.detect(rgb), mine.poses(rgb, 2), (rgb.shape[1], rgb.shape[0])
            assert len(theirs.pose_landmarks) == len(found)
            for flat, world, one in zip(theirs.pose_landmarks, theirs.pose_world_landmarks, found, strict=True):
                gap = np.array([(p.x, p.y) for p in flat]) * size - one.points
                moved.append(np.abs(gap).max() / max(size))
                seen.append(np.abs(np.array([p.visibility for p in flat]) - one.visibility).max())
                turned.append(np.abs(np.array([(p.x, p.y, p.z) for p in world]) - one.world).max())
    mine.close()
    assert len(moved) > 20
    assert np.median(moved) < 1e-4 and max(moved) < 0.01  # of the picture's longer side
    assert max(seen) < 0.05 and max(turned) < 0.02


def test_the_hands_are_those_of_the_task(crops: list[Image], tmp_path: Path) -> None:
    mine = HandLandmarker(0.5)
    moved, scored = [], []
    with hand_task(tmp_path) as task:
        for rgb in crops:
            theirs, found = task.detect(rgb), mine.hands(rgb)
            assert len(theirs.hand_landmarks) == len(found)
            for points, label, one in zip(theirs.hand_landmarks, theirs.handedness, found, strict=True):
                gap = np.array([(p.x, p.y) for p in points]) * (rgb.shape[1], rgb.shape[0]) - one.points
                moved.append(np.abs(gap).max() / max(rgb.shape))
                scored.append(abs(label[0].score - one.score))
    mine.close()
    assert len(moved) > 5
    assert max(moved) < 0.01 and max(scored) < 0.02


def test_strangers_are_not_looked_at_closely(crops: list[Image]) -> None:
    mine = PoseLandmarker(0.5)
    (first, *_), height = mine.poses(crops[0], 2), crops[0].shape[0]
    x, y = first.points[0].tolist()
    assert mine.poses(crops[0], 2, Near(x, y, height / 4))
    assert mine.poses(crops[0], 2, Near(x, y + 10 * height, height / 4)) == []
    mine.close()


def looks(media: Path, name: str, n: int) -> list[tuple[Image, Box]]:
    """Return pictures of one person, five a second, with the face."""
    with FaceDetector() as detector:
        return [(rgb, detector.detect(rgb)[0]) for rgb in every_nth(media / f"{name}.mp4", 5, n)]


def test_a_look_tells_the_same_whatever_was_measured_between(media: Path, analyzer: MediaPipeBody) -> None:
    (first, face), (second, moved) = looks(media, "talk_woman_garden", 2)
    before = analyzer.measure(first, face)
    once = analyzer.measure(second, moved, before=before)
    analyzer.measure(first, face, before=once)
    again = analyzer.measure(second, moved, before=before)
    assert before is not None and once is not None and again is not None
    np.testing.assert_array_equal(once.points, again.points)
    assert once.hands == again.hands and once.passed == again.passed


def test_hands_are_followed_and_looked_for_in_vain_every_second_time(media: Path, analyzer: MediaPipeBody) -> None:
    followed = 0
    for name in ("talk_woman_garden", "talk_woman_studio", "listen_woman_red", "split_screen"):
        for rgb, face in looks(media, name, 2):
            fresh = analyzer.measure(rgb, face)
            assert fresh is not None and fresh.passed == (False, False)
            again = analyzer.measure(rgb, face, before=fresh)
            vain = analyzer.measure(rgb, face, before=replace(fresh, hands=(0.0, 0.0), palms=(None, None)))
            assert again is not None and vain is not None
            after = analyzer.measure(rgb, face, before=vain)
            assert after is not None and after.passed == (False, False)
            for side, palm in enumerate(fresh.palms):
                assert vain.palms[side] is None and vain.passed[side] == (vain.hands[side] == 0)
                there = again.palms[side]
                if palm is not None and there is not None:
                    followed += 1
                    assert np.linalg.norm(there - palm, axis=1).max() < 0.5 * face.h
    assert followed


def test_pictures_of_another_kind_are_refused(analyzer: MediaPipeBody) -> None:
    with pytest.raises(ValueError, match="uint8"):
        analyzer.measure(np.zeros((64, 64), np.uint8), Box(10, 10, 20, 20))  # type: ignore[arg-type]
