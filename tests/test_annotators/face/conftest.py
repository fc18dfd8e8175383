"""What several tests of faces open once a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from speech_media import need

from annotators.face.landmarker import FaceLandmarker


@pytest.fixture(scope="module")
def landmarker() -> Iterator[FaceLandmarker]:
    need(*FaceLandmarker.weights)
    with FaceLandmarker() as opened:
        yield opened
