"""How often a face is looked at closely, and from where: the follower with a detector and a landmarker that count."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from annotators.protocols import Box, FaceBox, FaceMesh, FloatArray, Image
from stages.scan.faces import FaceMeter, FaceRules
from stages.scan.grid import Shown

RULES = FaceRules(
    detect_every=10, detect_every_lost=5, tiles_every=100, max_faces=6, max_missed=15, max_blind=8, min_mesh_px=20,
    mesh_scale=1.7, portrait_every=1000, portrait_px=64,
)  # fmt: skip
FACE = FaceBox(100, 60, 60, 80, 0.9)


@dataclass
class OneFace:
    """A detector that always sees the face where it is."""

    face: FaceBox = FACE
    asked: int = 0
    name: str = "one"
    weights: tuple[str, ...] = ()

    def detect(self, rgb: Image) -> list[FaceBox]:
        self.asked += 1
        return [self.face]

    def close(self) -> None: ...


@dataclass
class Counted:
    """A landmarker that sees an oval mesh in the frames where it may, and notes how it was asked."""

    may_see: set[int]
    frame: int = 0
    anew: list[int] = field(default_factory=list)
    followed: list[tuple[int, float]] = field(default_factory=list)
    name: str = "counted"
    weights: tuple[str, ...] = ()

    def _mesh(self, x: float, y: float) -> FaceMesh | None:
        if self.frame not in self.may_see:
            return None
        turn = np.linspace(0, 2 * np.pi, 478, endpoint=False)
        points = np.stack([x + 30 * np.cos(turn), y + 40 * np.sin(turn), 0 * turn], axis=1).astype(np.float32)
        return FaceMesh(points, np.zeros(52, np.float32), 0.0, 0.0, 0.0)

    def landmarks(self, rgb_crop: Image) -> FaceMesh | None:
        self.anew.append(self.frame)
        return self._mesh(128, 128)

    def follow(self, rgb: Image, square: Box, seen: FloatArray) -> FaceMesh | None:
        self.followed.append((self.frame, float(seen[:, 0].mean())))
        return self._mesh(float(seen[:, 0].mean()) + 1, 100)

    def close(self) -> None: ...


def run(frames: int, may_see: set[int]) -> tuple[FaceMeter, OneFace, Counted]:
    detector, landmarker = OneFace(), Counted(may_see)
    meter = FaceMeter("w", "s" * 16, detector, None, landmarker, RULES)
    rgb = np.full((240, 320, 3), 90, np.uint8)
    for k in range(frames):
        landmarker.frame = k
        meter.add(Shown(k / 25, k, range(k, k + 1), rgb, rgb, (320, 240)))
    meter.finish()
    return meter, detector, landmarker


def test_a_face_is_followed_from_its_landmarks_in_the_frame_before() -> None:
    _, _, landmarker = run(20, set(range(20)))
    assert landmarker.anew == [0]
    assert [k for k, _ in landmarker.followed] == list(range(1, 20))
    assert [x for _, x in landmarker.followed[1:]] == pytest.approx([130 + k for k in range(1, 19)], abs=0.2)


def test_a_face_that_is_lost_is_looked_at_anew_in_the_same_frame_and_the_next_ones() -> None:
    meter, _, landmarker = run(14, set(range(10)) | {12, 13})
    assert [k for k, _ in landmarker.followed if k >= 9] == [9, 10, 13]
    assert sorted({k for k in landmarker.anew if k}) == [10, 11, 12]
    assert [r.has_mesh for r in meter.face_frames] == [k not in (10, 11) for k in range(14)]


def test_a_face_without_landmarks_is_soon_looked_at_only_where_the_detector_sees_it() -> None:
    """One turned away, or small, that no look at it will find: its rows go on, at a fraction of the looks."""
    meter, detector, landmarker = run(100, set())
    assert len(meter.face_frames) == 1 + max(r.k for r in meter.face_frames) > 90
    late = [k for k in landmarker.anew if k > 10]
    assert len(late) <= detector.asked
    assert max(np.diff(late)) <= RULES.detect_every_lost  # and not less often: it is found when it turns back
    meter, _, landmarker = run(100, set(range(62, 100)))
    back = min(r.k for r in meter.face_frames if r.has_mesh)
    assert 62 <= back <= 62 + RULES.detect_every_lost
    assert all(r.has_mesh for r in meter.face_frames if r.k > back)
    assert max(landmarker.anew) == back
