"""States, smoothing, cutting and exchanges: contracts on synthetic tracks, no model needed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import row

from schemas.tables.pairing import SEGMENTS, SegmentRow
from stages.pairing.exchange import link_exchanges
from stages.pairing.labels import track_of
from stages.pairing.segments import SpokenWord, clip_text, cut_points, cut_run, inside_word, voice_changes
from stages.pairing.sound_grid import lasting, nearest_voices
from stages.pairing.states import Lips, Reason, Sound, State, bridged, frame_states, runs, smooth, through_pauses

SHORTEST = {
    int(State.DISCARD): 15,
    int(State.SPEAK): 10,
    int(State.LISTEN): 10,
    int(State.IDLE): 25,
    int(State.BOTH): 10,
}

codes = st.lists(st.sampled_from([int(s) for s in State]), min_size=1, max_size=300).map(lambda v: np.array(v, np.int8))


def sound(n: int, speech: slice | None = None, silent: slice | None = None) -> Sound:
    heard, gone = np.zeros(n, bool), np.zeros(n, bool)
    if speech is not None:
        heard[speech] = True
    if silent is not None:
        gone[silent] = True
    return Sound(heard, np.where(heard, 0.95, 0.05).astype(np.float32), np.zeros(n, bool), gone)


def lips(n: int, log_odds: float, mouthing: bool = False) -> Lips:
    odds = np.full(n, log_odds, np.float32)
    return Lips(odds, odds > 0, np.full(n, mouthing))


def states(log_odds: float, heard: Sound, own: bool = False, foreign: bool = False, **more: bool) -> list[str]:
    n = len(heard.speech)
    flags = np.full(n, own), np.full(n, foreign)
    together = np.full(n, more.get("together", False))
    seen = lips(n, log_odds, more.get("mouthing", False))
    state, _, confidence = frame_states(seen, heard, *flags, together=together, near=25)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    return sorted({State(int(s)).label for s in state})


def test_the_four_states_of_the_paper() -> None:
    everything = slice(0, 100)
    assert states(3.0, sound(100, everything), own=True) == ["speak"]
    assert states(-3.0, sound(100, everything)) == ["listen"]
    assert states(-3.0, sound(100)) == ["idle"]
    assert states(-3.0, sound(100), mouthing=True) == ["discard"]  # lips move, nothing is heard


def test_speech_that_voice_activity_missed_is_speech() -> None:
    assert states(2.0, sound(100, slice(20, 80))) == ["speak"]
    assert states(2.0, sound(100)) == ["discard"]  # nothing is heard anywhere near


def test_no_voice_is_too_soft_to_be_found_in_no_sound_at_all() -> None:
    heard = sound(100, slice(0, 53), silent=slice(50, 100))  # voice activity reaches a little beyond
    nothing = np.zeros(100, bool)
    state, reason, _ = frame_states(lips(100, 3.0), heard, nothing, nothing, near=25)
    assert (state[:53] == State.SPEAK).all() and (state[53:] == State.DISCARD).all()
    assert (reason[53:] == Reason.LIPS_WITHOUT_VOICE).all()


@given(st.lists(st.booleans(), min_size=1, max_size=100), st.integers(1, 20))
def test_what_lasts_too_briefly_is_taken_away_within(values: list[bool], shortest: int) -> None:
    out = lasting(np.array(values), shortest)
    assert (out <= values).all()
    for a, b, true in runs(np.array(values, np.int8)):
        ends = a == 0 or b == len(values)
        assert out[a:b].all() if true and (ends or b - a >= shortest) else not out[a:b].any()


def test_two_faces_that_both_speak_speak_together() -> None:
    assert states(3.0, sound(100, slice(0, 100)), together=True) == ["both"]


def test_lips_under_a_voice_that_measurably_is_not_theirs_are_not_speaking() -> None:
    assert states(2.0, sound(100, slice(0, 100)), foreign=True) == ["discard"]
    assert states(-2.0, sound(100, slice(0, 100)), foreign=True) == ["listen"]


def test_a_doubt_about_a_small_face_lowers_the_confidence_of_speech_and_takes_nothing() -> None:
    heard, no, yes = sound(100, slice(0, 100)), np.zeros(100, bool), np.ones(100, bool)
    for odds in (3.0, -3.0):
        sure = frame_states(lips(100, odds), heard, no, no)
        doubted = frame_states(lips(100, odds), heard, no, no, doubted=yes)
        assert (doubted[0] == sure[0]).all()
        expected = sure[2] / 2 if odds > 0 else sure[2]
        np.testing.assert_allclose(doubted[2], expected)


def test_still_lips_under_ones_own_voice_contradict() -> None:
    assert states(-2.0, sound(100, slice(0, 100)), own=True) == ["discard"]


def test_a_face_that_was_not_measured_is_unsure() -> None:
    assert states(float("nan"), sound(100, slice(0, 100))) == ["discard"]


@given(st.floats(-10, 10), st.booleans())
def test_confidence_grows_with_the_evidence(log_odds: float, voiced: bool) -> None:
    heard = sound(3, slice(0, 3) if voiced else None)
    nothing = np.zeros(3, bool)
    weak, strong = (frame_states(lips(3, x), heard, nothing, nothing)[2][0] for x in (log_odds, 2 * log_odds))
    assert strong >= weak - 1e-6


@given(st.lists(st.booleans(), min_size=1, max_size=100), st.integers(0, 20))
def test_only_gaps_between_stretches_are_bridged(values: list[bool], longest: int) -> None:
    mask = np.array(values)
    out = bridged(mask, longest)
    assert (out >= mask).all()
    if mask.any():
        first, last = np.flatnonzero(mask)[[0, -1]]
        assert not out[:first].any() and not out[last + 1 :].any()
        assert all(c or b - a > longest for a, b, c in runs(out[first : last + 1].astype(np.int8)))
    else:
        assert not out.any()


def test_a_hole_between_turns_has_the_nearest_voice() -> None:
    voices = [{"a"}, set(), set(), set(), {"b"}, set(), set(), set()]
    assert nearest_voices(voices, 2) == [{"a"}, {"a"}, {"a"}, {"b"}, {"b"}, {"b"}, {"b"}, set()]


@given(codes)
def test_runs_partition_and_rebuild(state: Any) -> None:
    found = runs(state)
    assert [a for a, _, _ in found] == [0, *(b for _, b, _ in found[:-1])] and found[-1][1] == len(state)
    assert np.concatenate([np.full(b - a, c) for a, b, c in found]).tolist() == state.tolist()


@settings(deadline=None)
@given(codes)
def test_smoothing_leaves_no_short_run_and_is_idempotent(state: Any) -> None:
    confidence = np.ones(len(state), np.float32)
    out = smooth(state, SHORTEST, confidence)
    found = runs(out)
    assert len(found) == 1 or all(b - a >= SHORTEST[c] for a, b, c in found)
    assert smooth(out, SHORTEST, confidence).tolist() == out.tolist()
    assert set(out.tolist()) <= set(state.tolist())


def test_a_flicker_does_not_shred_a_good_stretch() -> None:
    state = np.full(175, int(State.LISTEN), np.int8)
    state[60:66] = int(State.IDLE)
    state[120:124] = int(State.DISCARD)
    assert len(runs(smooth(state, SHORTEST, np.ones(175, np.float32)))) == 1


words = st.lists(st.tuples(st.floats(0, 60), st.floats(0.05, 0.8)), max_size=80).map(
    lambda pairs: [SpokenWord(a, a + d, "word." if i % 7 == 0 else "word") for i, (a, d) in enumerate(sorted(pairs))]
)


@settings(deadline=None, max_examples=60)
@given(words, st.integers(0, 200), st.integers(1, 1200))
def test_cut_runs_partition_within_limits(spoken: list[SpokenWord], first: int, length: int) -> None:
    start, end = first / 25, (first + length) / 25
    pieces = cut_run(spoken, start, end, 3.0, 8.0)
    assert pieces[0][0] == start and pieces[-1][1] == end
    assert all(a == b for (_, a), (b, _) in itertools.pairwise(pieces))
    assert all(b - a <= 8.0 + 1e-6 for a, b in pieces)
    if end - start >= 6.0:
        assert all(b - a >= 3.0 - 1e-6 for a, b in pieces)


@settings(deadline=None, max_examples=60)
@given(words, st.integers(1, 400))
def test_cut_points_cost_most_inside_words_and_only_there(spoken: list[SpokenWord], length: int) -> None:
    for t, cost in cut_points(spoken, 0.0, length / 25).items():
        inside = any(w.start_s + 1e-6 < t < w.end_s - 1e-6 for w in spoken if w.start_s < length / 25)
        assert (cost == 4.0) == inside


def test_cuts_fall_between_words_and_prefer_sentence_ends() -> None:
    spoken = [SpokenWord(0.1, 4.6, "long"), SpokenWord(4.7, 5.4, "end."), SpokenWord(5.6, 9.9, "next")]
    ((_, cut), _) = cut_run(spoken, 0.0, 10.0, 3.0, 8.0)
    assert 5.4 <= cut <= 5.6 and not inside_word(spoken, cut)


voiced = st.builds(
    lambda pairs, voices: [
        SpokenWord(a, a + d, "word", v) for (a, d), v in zip(sorted(pairs), itertools.cycle(voices), strict=False)
    ],
    st.lists(st.tuples(st.floats(0, 45), st.floats(0.05, 1.0)), max_size=40),
    st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=12),
)


@settings(deadline=None, max_examples=60)
@given(voiced, st.integers(1, 1200))
def test_borders_at_voices_keep_the_limits_and_no_beginning_of_an_answer(spoken: list[SpokenWord], length: int) -> None:
    pieces = cut_run(spoken, 0.0, length / 25, 3.0, 8.0)
    assert pieces[0][0] == 0.0 and pieces[-1][1] == length / 25
    assert all(a == b for (_, a), (b, _) in itertools.pairwise(pieces))
    assert all(0 < b - a <= 8.0 + 1e-6 for a, b in pieces)
    changes = voice_changes(spoken)
    assert all(a <= b for a, b in changes)
    assert all(any(w.start_s == b for w in spoken) for _, b in changes)


QUESTION = [SpokenWord(0.2, 1.0, "Is", "a"), SpokenWord(1.1, 3.9, "it?", "a")]
ANSWER = [SpokenWord(4.3, 4.8, "No,", "b"), SpokenWord(5.0, 7.5, "never.", "b")]


def test_a_run_is_cut_between_two_voices_even_if_it_is_short_enough() -> None:
    ((_, cut), _) = cut_run([*QUESTION, *ANSWER], 0.0, 7.6, 3.0, 8.0)
    assert 3.9 <= cut <= 4.3
    early = [SpokenWord(3.5, 4.8, "No,", "b"), ANSWER[1]]
    ((_, cut), _) = cut_run([*QUESTION, *early], 0.0, 7.6, 3.0, 8.0)
    assert 3.4 <= cut <= 3.5  # voices overlap: the answer is whole


def test_a_backchannel_and_a_voice_too_short_for_a_clip_cut_nothing() -> None:
    nod = SpokenWord(3.95, 4.2, "Mhm.", "c")
    assert voice_changes([*QUESTION, nod]) == []
    assert cut_run([*QUESTION, *ANSWER], 0.0, 6.0, 3.0, 8.0) == [(0.0, 6.0)]


def test_a_clips_text_holds_known_words_inside_it_alone() -> None:
    said = [(0.0, 1.0, "one"), (1.0, 2.0, None), (2.0, 2.5, None), (2.5, 3.0, "two"), (3.0, 4.0, "out")]
    words = [SpokenWord(*w) for w in said]
    assert clip_text(words, 0.0, 3.5) == "one … two"
    assert clip_text(words, 0.5, 4.0) == "… two out"
    assert clip_text(words, 1.0, 3.0) is None
    assert clip_text(words, 5.0, 9.0) is None


def segment(
    i: str, track: str, state: str, start: float, end: float, speaker: str | None, partner: str | None
) -> SegmentRow:
    return row(
        SEGMENTS, segment_id=i, track_id=track, state=state, start_s=start, end_s=end, speaker_id=speaker,
        partner=partner, partner_track_id=track_of(partner),
    )  # fmt: skip


def test_exchanges_link_speakers_with_their_listeners() -> None:
    rows = [
        segment("a", "t0", "speak", 0, 5, "v0", None),
        segment("b", "t1", "listen", 0, 5, "v0", "track:t0"),
        segment("c", "t2", "listen", 5, 9, "v1", "voice:v1"),
        segment("d", "t0", "idle", 5, 9, None, None),
    ]
    pairs = {r.segment_id: r.pair_id for r in link_exchanges("s", rows)}
    assert pairs["a"] == pairs["b"] == "s-p0000"
    assert pairs["c"] == "s-p0001" and pairs["d"] is None


def test_a_reaction_shot_belongs_to_the_speakers_shot_next_to_it() -> None:
    rows = [
        segment("a", "t0", "speak", 0, 4, "v0", None),
        segment("b", "t1", "listen", 4, 8, "v0", "track:t0"),
        segment("c", "t0", "speak", 30, 34, "v0", None),
        segment("d", "t1", "listen", 60, 64, "v0", "track:t0"),
    ]
    pairs = {r.segment_id: r.pair_id for r in link_exchanges("s", rows)}
    assert pairs["a"] == pairs["b"] is not None
    assert pairs["c"] is None  # nobody is seen listening to it
    assert pairs["d"] not in (None, pairs["a"])  # too far from any


@pytest.mark.parametrize("n", [1, 50, 1000])
def test_silence_without_faces_moving_is_idle_at_any_length(n: int) -> None:
    assert states(-1.0, sound(n)) == ["idle"]


def test_a_clip_goes_on_through_a_pause_and_begins_with_the_first_word() -> None:
    idle, speak, listen = (np.full(20, s, np.int8) for s in (State.IDLE, State.SPEAK, State.LISTEN))
    found = runs(through_pauses(np.concatenate([idle, speak, idle, speak, idle, listen, idle]), 25))
    assert [(b - a, State(c).label) for a, b, c in found] == [
        (20, "idle"), (60, "speak"), (20, "idle"), (20, "listen"), (20, "idle")
    ]  # fmt: skip
    assert len(runs(through_pauses(np.concatenate([speak, idle, idle, speak]), 25))) == 3
