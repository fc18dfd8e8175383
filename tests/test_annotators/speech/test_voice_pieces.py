"""Speakers divided by how the pieces of their speech sound."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speech_media import cut, load_audio, need

from annotators.protocols_speech import FloatArray, Segment
from annotators.speech.diarizer import ClusteringDiarizer
from annotators.speech.speaker_segmentation import FRAME_STEP_S, SEGMENTATION_WEIGHT
from annotators.speech.voice_pieces import PieceRule, divided, piece_groups, pieces_of
from annotators.speech.voices import CAMPPLUS_WEIGHT

RULE = PieceRule()
SECOND = round(1 / FRAME_STEP_S)


class Levels:
    """Tells voices by their level: below a half one person, above another."""

    name, weights, dimension = "levels", (), 2

    def embed(self, clips: Sequence[FloatArray]) -> FloatArray:
        return np.array([[1, 0] if np.median(np.abs(clip)) < 0.5 else [0, 1] for clip in clips], np.float32)


def sound(seconds: Sequence[float]) -> FloatArray:
    return np.repeat(np.array(seconds, np.float32), 16_000)


def frames(seconds: Sequence[bool]) -> np.ndarray:
    return np.repeat(np.array(seconds, bool), SECOND)


def test_one_speaker_with_two_voices_becomes_two() -> None:
    audio = sound([0.2] * 3 + [0] + [0.9] * 3 + [0] + [0.2] * 3)
    talking = frames([True] * 3 + [False] + [True] * 3 + [False] + [True] * 3)[:, None]
    parts = divided(talking, audio, Levels(), RULE)
    assert parts.shape[1] == 2
    np.testing.assert_array_equal(parts.any(axis=1), talking[:, 0])
    assert not parts.all(axis=1).any()
    who = parts.argmax(axis=1)
    assert who[SECOND] == who[9 * SECOND] != who[5 * SECOND]


def test_one_voice_stays_one_and_so_does_too_little_of_another() -> None:
    talking = frames([True] * 3 + [False] + [True] * 3)[:, None]
    assert divided(talking, sound([0.2] * 7), Levels(), RULE).shape[1] == 1
    short = frames([True] * 3 + [False] + [True])[:, None]
    np.testing.assert_array_equal(divided(short, sound([0.2] * 4 + [0.9]), Levels(), RULE), short)


def test_nobody_and_silence_are_left_alone() -> None:
    for talking in (np.zeros((100, 1), bool), np.zeros((0, 2), bool)):
        np.testing.assert_array_equal(divided(talking, sound([0.0, 0.0]), Levels(), RULE), talking)


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 12))
def test_pieces_are_apart_in_order_and_of_bounded_length(runs: list[bool], width: int) -> None:
    alone = np.repeat(np.array(runs, bool), width)
    pieces = pieces_of(alone, RULE)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(pieces))
    for first, last in pieces:
        assert (last - first) * FRAME_STEP_S <= RULE.longest_s + FRAME_STEP_S
        assert 0 <= first < last <= len(alone)


@given(st.integers(2, 12), st.integers(0, 1000))
def test_groups_are_numbered_from_zero_without_gaps(pieces: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    length_s = rng.uniform(1.0, 2.5, pieces)
    groups = piece_groups(rng.normal(size=(pieces, 8)).astype(np.float32), length_s, RULE)
    assert len(groups) == pieces and set(groups.tolist()) == set(range(int(groups.max()) + 1))
    if groups.max() > 0:
        assert all(length_s[groups == g].sum() >= RULE.person_s for g in np.unique(groups))


def test_two_women_who_take_turns_are_two(media: Path) -> None:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    garden = load_audio(media / "talk_woman_garden.mp4")
    studio = load_audio(media / "talk_woman_studio.mp4")
    audio = np.concatenate([cut(garden, 0.2, 3.2), cut(studio, 0.0, 3.0), cut(garden, 4.0, 6.0)])
    turns = ClusteringDiarizer().diarize(audio, [Segment(0.0, 8.0)])
    assert {turn.speaker for turn in turns} == {"speaker_0", "speaker_1"}


@pytest.mark.parametrize("level", [0.2, 0.9])
def test_overlap_stays_with_its_speakers(level: float) -> None:
    first, second = frames([True] * 6), frames([False] * 4 + [True] * 2)
    talking = np.stack([first, second], axis=1)
    np.testing.assert_array_equal(divided(talking, sound([level] * 6), Levels(), RULE), talking)
