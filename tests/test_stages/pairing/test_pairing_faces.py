"""Laughter is told from speech by smile, rhythm and the want of words."""

from __future__ import annotations

import numpy as np
import pytest
from table_rows import row

from schemas import tables as t
from schemas.tables.speech import WordRow
from schemas.time import GRID_HZ
from stages.pairing.faces import NO_FACE, FaceSeries, laughing
from stages.pairing.states import Lips, Reason, Sound, State, frame_states

N = 150


def face(smile: float = 0.8, hz: float = 4.8, swing: float = 0.15) -> FaceSeries:
    """A face of 6 s that laughs from 2 s to 4 s."""
    at = np.arange(N)
    jaw = np.where((at >= 50) & (at < 100), 0.2 + swing * np.sin(2 * np.pi * hz * at / GRID_HZ), 0.05)
    return FaceSeries(at, np.full(N, smile, np.float32), jaw.astype(np.float32))


def word(start_s: float, end_s: float, text: str = "hello") -> WordRow:
    return row(t.WORDS, start_s=start_s, end_s=end_s, guess=text)


def test_a_smile_with_the_jaw_in_laughters_rhythm() -> None:
    found = laughing(face(), range(N), [])
    assert found[55:95].all() and not found[:40].any() and not found[112:].any()
    assert laughing(face(), range(0, N), [word(2.0, 2.6, "Haha!"), word(3.0, 3.4, "(hahaha)")])[55:95].all()


@pytest.mark.parametrize(
    "other", [face(smile=0.2), face(swing=0.02), face(hz=1.0), NO_FACE], ids=["no smile", "still", "slow", "unseen"]
)
def test_without_one_of_them_it_is_none(other: FaceSeries) -> None:
    assert not laughing(other, range(N), []).any()


def test_spoken_words_are_no_laughter() -> None:
    assert not laughing(face(), range(N), [word(1.9, 2.9), word(2.9, 4.1)]).any()
    assert not laughing(face(), range(10), []).any()


def test_heard_laughter_needs_a_smile_but_no_rhythm() -> None:
    heard = np.where((np.arange(N) >= 50) & (np.arange(N) < 100), 0.6, 0.0).astype(np.float32)
    still = face(smile=0.4, swing=0.0)
    found = laughing(still, range(N), [], heard)
    assert found[50:100].all() and not found[:50].any() and not found[100:].any()
    assert not laughing(face(smile=0.1, swing=0.0), range(N), [], heard).any()
    assert not laughing(still, range(N), [word(1.9, 4.1)], heard).any()
    assert not laughing(still, range(N), [], np.full(N, 0.1, np.float32)).any()


def states(speech: bool, own: bool) -> tuple[set[int], set[int]]:
    heard = np.full(N, speech)
    sound = Sound(heard, np.full(N, 0.9 if speech else 0.1, np.float32), np.zeros(N, bool), np.zeros(N, bool))
    mask = np.zeros(N, bool)
    mask[50:100] = True
    nothing = np.zeros(N, bool)
    odds = np.full(N, 2.0 if speech else -2.0, np.float32)
    lips = Lips(odds, odds > 0, np.full(N, not speech))
    state, reason, _ = frame_states(lips, sound, np.full(N, own), nothing, nothing, mask)
    return set(state[mask].tolist()), set(reason[mask].tolist())


def test_laughing_under_anothers_voice_is_listening_and_alone_it_is_named() -> None:
    assert states(speech=True, own=False) == ({State.LISTEN}, {Reason.LAUGHTER})
    assert states(speech=True, own=True) == ({State.SPEAK}, {Reason.LAUGHTER})
    assert states(speech=False, own=False) == ({State.DISCARD}, {Reason.LAUGHTER})


def test_a_face_without_landmarks_is_seen_where_the_detector_is_sure() -> None:
    half = FaceSeries(np.arange(50), np.zeros(50, np.float32), np.zeros(50, np.float32), np.arange(40, 80))
    assert half.seen(range(100)).tolist() == [k < 80 for k in range(100)]
    assert not NO_FACE.seen(range(3)).any()
