"""Turn-taking: contracts on made-up conversations."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.attribution.turn_taking import Utterance, backchannels, in_dialogue, measure, turns
from stages.pairing.category import Category, categorise
from stages.pairing.states import State

talk = st.lists(
    st.builds(
        lambda who, at, length, words: Utterance(who, at, at + length, words),
        st.sampled_from("abc"), st.floats(0, 60), st.floats(0.1, 6), st.integers(0, 8),
    ),
    max_size=25,
)  # fmt: skip


def test_a_short_word_while_the_other_goes_on_is_a_backchannel() -> None:
    said = [Utterance("a", 0, 4, 12), Utterance("b", 4.1, 4.6, 1), Utterance("a", 4.8, 9, 12)]
    assert backchannels(said) == [1]
    through = [Utterance("a", 0, 9, 30), Utterance("b", 4.1, 4.6, 1)]
    assert backchannels(through) == [1]
    assert [u.speaker for u in turns(said, [1])] == ["a"]  # it takes no turn


@pytest.mark.parametrize(
    "said",
    [
        [Utterance("a", 0, 4, 12), Utterance("b", 4.1, 4.6, 1)],  # nobody goes on: an answer
        [Utterance("a", 0, 4, 12), Utterance("b", 4.1, 6.0, 5), Utterance("a", 6.2, 9, 9)],  # too long: a turn
        [Utterance("a", 0, 4, 12), Utterance("b", 4.1, 4.9, 5), Utterance("a", 5.0, 9, 9)],  # too many words
        [Utterance("a", 0, 4, 12), Utterance("b", 7.0, 7.5, 1), Utterance("a", 10, 12, 9)],  # into a long pause
        [Utterance("a", 0, 4, 12), Utterance("a", 4.1, 4.5, 1), Utterance("a", 4.8, 9, 9)],  # one's own word
    ],
)
def test_what_is_no_backchannel(said: list[Utterance]) -> None:
    assert backchannels(said) == []


def test_gaps_and_overlaps_of_turns() -> None:
    found = measure([Utterance("a", 0, 4, 9), Utterance("b", 4.2, 8, 9), Utterance("a", 7.5, 12, 9)])
    assert (found.n_turns, found.n_transfers) == (3, 2)
    assert found.gap_median_s == pytest.approx((0.2 - 0.5) / 2)
    assert found.overlap_ratio == pytest.approx(0.5 / 11.8)
    assert found.talk_share == pytest.approx({"a": 8.5 / 12.3, "b": 3.8 / 12.3})


def test_silence_measures_nothing() -> None:
    found = measure([])
    assert (found.n_turns, found.gap_median_s, found.overlap_ratio, found.talk_share) == (0, None, 0.0, {})


@given(talk)
def test_shares_and_ratios_are_shares(said: list[Utterance]) -> None:
    found = measure(said)
    assert sum(found.talk_share.values()) == pytest.approx(1.0 if said else 0.0)
    assert 0 <= found.overlap_ratio <= 1 + 1e-9
    assert found.n_transfers == max(0, found.n_turns - 1)
    assert found.n_turns + len(backchannels(said)) <= len(said)


@given(talk)
def test_one_voice_alone_takes_one_turn_and_gives_no_backchannel(said: list[Utterance]) -> None:
    alone = [Utterance("a", u.start_s, u.end_s, u.words) for u in said]
    found = measure(alone)
    assert backchannels(alone) == [] and found.n_turns == bool(said) and found.overlap_ratio == pytest.approx(0)


@given(talk, st.integers(0, 1000))
def test_when_a_conversation_takes_place_does_not_matter(said: list[Utterance], later: int) -> None:
    def placed(shift: int) -> list[Utterance]:  # on eighths of a second, which floats hold exactly
        return [
            Utterance(u.speaker, round(u.start_s * 8) / 8 + shift, round(u.end_s * 8) / 8 + shift, u.words)
            for u in said
        ]

    assert backchannels(placed(later)) == backchannels(placed(0))
    assert measure(placed(later)) == measure(placed(0))


def test_voices_that_answer_each_other_are_in_dialogue() -> None:
    said = [Utterance("a", 0, 4), Utterance("b", 5, 8), Utterance("c", 30, 33)]
    assert in_dialogue(said, "a", "b") and not in_dialogue(said, "b", "c") and not in_dialogue(said, "a", "c")


@pytest.mark.parametrize(
    ("state", "others_s", "in_view", "answers", "expected"),
    [
        (State.SPEAK, 0.0, False, False, "Speak"),
        (State.SPEAK, 0.5, False, True, "Conversation"),
        (State.BOTH, 0.0, True, True, "Conversation"),
        (State.LISTEN, 0.0, True, False, "Listen_dialogue"),
        (State.LISTEN, 0.0, False, True, "Listen_dialogue"),
        (State.LISTEN, 0.0, False, False, "Listen_nondialogue"),
        (State.IDLE, 0.0, True, True, "Silence"),
        (State.DISCARD, 0.0, True, True, "Unknown"),
    ],
)
def test_classes(state: State, others_s: float, in_view: bool, answers: bool, expected: str) -> None:
    found = categorise(state, other_voices_s=others_s, partner_in_view=in_view, partner_answers=answers)
    assert found == expected and found in get_args(Category)
