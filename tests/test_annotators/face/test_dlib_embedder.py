"""Face descriptors tell real people apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from footage import every_nth
from speech_media import need

from annotators.face.boxes import crop_box, cut_square
from annotators.face.dlib_embedder import CHIP_SIZE_PX, FaceEmbedder
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import eye_corners_and_nose, to_frame
from annotators.protocols import FloatArray, Image


@pytest.fixture(scope="module")
def embedder() -> FaceEmbedder:
    need(*FaceEmbedder.weights)
    return FaceEmbedder()


def chips(path: Path, embedder: FaceEmbedder, every: int = 40, limit: int = 2) -> list[list[Image]]:
    """Return, for the people in view from left to right, their chips aligned by box and by mesh."""
    need(*FaceDetector.weights, *FaceLandmarker.weights)
    people: dict[int, list[Image]] = {}
    with FaceDetector() as detector, FaceLandmarker() as landmarker:
        for frame in every_nth(path, every, limit):
            for place, face in enumerate(sorted(detector.detect(frame), key=lambda box: box.x)):
                box = crop_box(face)
                mesh = landmarker.landmarks(cut_square(frame, box, CROP_SIZE_PX))
                assert mesh is not None
                points = eye_corners_and_nose(to_frame(mesh.points, box, CROP_SIZE_PX))
                people.setdefault(place, []).extend([embedder.chip(frame, face), embedder.chip(frame, points)])
    return [people[place] for place in sorted(people)]


def test_one_person_is_near_and_others_are_far(media: Path, embedder: FaceEmbedder) -> None:
    clips = ("talk_woman_garden", "talk_woman_studio", "listen_woman_red")
    people: list[list[FloatArray]] = []
    for clip in clips:
        (person,) = chips(media / f"{clip}.mp4", embedder)
        people.append([embedder.embed(chip) for chip in person])
    garden, red = chips(media / "split_screen.mp4", embedder, limit=1)
    people[0] += [embedder.embed(chip) for chip in garden]
    people[2] += [embedder.embed(chip) for chip in red]
    for index, person in enumerate(people):
        for other_index, other in enumerate(people):
            distances = [float(np.linalg.norm(a - b)) for a in person for b in other]
            if index == other_index:
                assert max(distances) < embedder.same_person_distance
            else:
                assert min(distances) > embedder.same_person_distance


def test_the_same_chip_gives_the_same_descriptor(media: Path, embedder: FaceEmbedder) -> None:
    (person,) = chips(media / "talk_woman_studio.mp4", embedder, limit=1)
    by_box, by_points = person
    assert by_box.shape == (CHIP_SIZE_PX, CHIP_SIZE_PX, 3) and by_box.dtype == np.uint8
    first, second = embedder.embed(by_box), embedder.embed(by_box)
    assert first.shape == (embedder.dimensions,) and first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert np.linalg.norm(first - embedder.embed(by_points)) < 0.25


def test_wrong_inputs_are_refused(embedder: FaceEmbedder) -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    with pytest.raises(ValueError, match="150 px square"):
        embedder.embed(picture)
    with pytest.raises(ValueError, match="five finite"):
        embedder.chip(picture, np.full((5, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="uint8"):
        embedder.chip(picture.astype(np.float32), np.zeros((5, 2), np.float32))  # type: ignore[arg-type]
