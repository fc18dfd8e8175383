"""One voice has one mouth: of faces that seem to speak at once, the clearly less likely ones are silent."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.pairing.contest import Contest, speaking_at
from stages.pairing.lips import FaceEvidence
from stages.pairing.states import Lips

MARGIN, ENOUGH = 1.0, 2.0


def _face(nats: float, start: int = 0, n: int = 50) -> FaceEvidence:
    odds = np.full(n, nats, np.float32)
    return FaceEvidence(range(start, start + n), odds, Lips(odds, odds > 0, np.zeros(n, np.bool_)))


def test_of_two_mouths_the_clearly_less_likely_one_is_silent() -> None:
    contest = Contest({"speaker": _face(4.0), "listener": _face(0.5)}, MARGIN, ENOUGH)
    assert contest.outdone("listener", range(50)).all() and not contest.outdone("speaker", range(50)).any()


def test_two_who_are_both_likely_speak_together() -> None:
    contest = Contest({"a": _face(9.0), "b": _face(ENOUGH + 0.1)}, MARGIN, ENOUGH)
    assert not contest.outdone("b", range(50)).any()


def test_a_face_that_does_not_speak_outdoes_nobody() -> None:
    assert not Contest({"a": _face(-0.5), "b": _face(-3.0)}, MARGIN, ENOUGH).outdone("b", range(50)).any()


def test_only_faces_in_view_at_once_compete() -> None:
    contest = Contest({"a": _face(5.0, start=0), "b": _face(0.5, start=30)}, MARGIN, ENOUGH)
    found = contest.outdone("b", range(30, 80))
    assert found[:20].all() and not found[20:].any()


def test_lips_under_anothers_voice_are_nobody_to_speak_together_with() -> None:
    faces = {"a": _face(5.0, n=3), "b": _face(5.0, start=1, n=3), "still": _face(-5.0, n=3)}
    assert speaking_at(faces) == {0: {"a"}, 1: {"a", "b"}, 2: {"a", "b"}, 3: {"b"}}
    foreign = {name: np.zeros(3, np.bool_) for name in faces} | {"b": np.array([True, False, True])}
    assert speaking_at(faces, foreign) == {0: {"a"}, 1: {"a"}, 2: {"a", "b"}}


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=5))
def test_the_likeliest_is_never_outdone(nats: list[float]) -> None:
    contest = Contest({str(i): _face(x) for i, x in enumerate(nats)}, MARGIN, ENOUGH)
    best = str(int(np.argmax(nats)))
    assert not contest.outdone(best, range(50)).any()
    for i, x in enumerate(nats):
        lost = contest.outdone(str(i), range(50))
        assert lost.all() or not lost.any()
        assert not lost.any() or (x < ENOUGH and max(nats) - x > MARGIN - 1e-4)
