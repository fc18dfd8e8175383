"""States, smoothing, cutting and exchanges: contracts on synthetic tracks, no model needed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pairing_exchange import link_exchanges
from stages.pairing_heard import masked_frames, nearest_voices
from stages.pairing_segments import SpokenWord, cut_points, cut_run, inside_word
from stages.pairing_states import Rules, Sound, State, frame_states, hysteresis, runs, smooth

RULES = Rules(on=0.2, off=-0.3, near=10)
SHORTEST = {
    int(State.DISCARD): 15,
    int(State.SPEAK): 10,
    int(State.LISTEN): 10,
    int(State.IDLE): 25,
    int(State.BOTH): 10,
}

codes = st.lists(st.sampled_from([int(s) for s in State]), min_size=1, max_size=300).map(lambda v: np.array(v, np.int8))


def sound(n: int, speech: slice | None = None, masked: bool = False) -> Sound:
    heard = np.zeros(n, bool)
    if speech is not None:
        heard[speech] = True
    return Sound(heard, np.where(heard, 0.95, 0.05).astype(np.float32), np.zeros(n, bool), ~heard & masked)


def states(score: float, heard: Sound, own: bool = False, foreign: bool = False) -> list[str]:
    n = len(heard.speech)
    flags = np.full(n, own), np.full(n, foreign)
    state, _, confidence = frame_states(np.full(n, score, np.float32), heard, *flags, RULES)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    return sorted({State(int(s)).label for s in state})


def test_the_four_states_of_the_paper() -> None:
    everything = slice(0, 100)
    assert states(3.0, sound(100, everything), own=True) == ["speak"]
    assert states(-1.0, sound(100, everything)) == ["listen"]
    assert states(-2.5, sound(100)) == ["idle"]
    assert states(3.0, sound(100)) == ["discard"]  # lips move, nothing is heard


def test_lips_under_a_voice_that_is_another_faces_are_not_speaking() -> None:
    assert states(2.0, sound(100, slice(0, 100)), foreign=True) == ["discard"]


def test_still_lips_under_ones_own_voice_contradict() -> None:
    assert states(-2.0, sound(100, slice(0, 100)), own=True) == ["discard"]


def test_noise_as_loud_as_speech_may_hide_a_voice() -> None:
    assert states(3.0, sound(100, slice(0, 60), masked=True)) == ["speak"]


def test_lips_may_move_a_little_around_their_own_speech() -> None:
    state, _, _ = frame_states(
        np.full(100, 3.0, np.float32), sound(100, slice(20, 80)), np.zeros(100, bool), np.zeros(100, bool), RULES
    )
    assert (state[12:88] == State.SPEAK).all() and (state[:8] == State.DISCARD).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
def test_hysteresis_changes_only_across_its_thresholds(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    on = hysteresis(scores, 0.2, -0.3)
    assert (on[scores >= 0.2]).all() and not on[scores < -0.3].any()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
def test_hysteresis_of_its_own_decision_is_the_same(values: list[float]) -> None:
    on = hysteresis(np.array(values, np.float32), 0.2, -0.3)
    again = hysteresis(np.where(on, 1.0, -1.0).astype(np.float32), 0.2, -0.3)
    assert (again == on).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200), st.integers(0, 199))
def test_a_higher_score_never_stills_lips(values: list[float], at: int) -> None:
    scores = np.array(values, np.float32)
    raised = scores.copy()
    raised[at % len(scores)] += 3.0
    assert (hysteresis(raised, 0.2, -0.3) >= hysteresis(scores, 0.2, -0.3)).all()


@pytest.mark.parametrize("n", [1, 5, 13, 100])
def test_a_quiet_beginning_and_end_are_not_taken_for_noise(n: int) -> None:
    speech = np.zeros(3 * n, bool)
    speech[n : 2 * n] = True
    level = np.where(speech, -28.0, -55.0).astype(np.float32)
    masked = masked_frames(speech, level, 6.0)
    assert not masked[: max(1, n - 7)].any() and not masked[min(-1, 7 - n) :].any()


def test_noise_as_loud_as_speech_is_found_to_its_very_end() -> None:
    speech = np.zeros(100, bool)
    speech[:50] = True
    assert masked_frames(speech, np.full(100, -30.0, np.float32), 6.0).tolist() == (~speech).tolist()
    assert not masked_frames(np.zeros(100, bool), np.full(100, -30.0, np.float32), 6.0).any()


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


def segment(i: str, track: str, state: str, start: float, end: float, speaker: str | None, partner: str | None) -> Any:
    return {
        "segment_id": i, "track_id": track, "state": state, "start_s": start, "end_s": end, "speaker_id": speaker,
        "partner": partner, "pair_id": None,
        "partner_track_id": partner.removeprefix("track:") if partner and partner.startswith("track:") else None,
    }  # fmt: skip


def test_exchanges_link_speakers_with_their_listeners() -> None:
    rows = [
        segment("a", "t0", "speak", 0, 5, "v0", None),
        segment("b", "t1", "listen", 0, 5, "v0", "track:t0"),
        segment("c", "t2", "listen", 5, 9, "v1", "voice:v1"),
        segment("d", "t0", "idle", 5, 9, None, None),
    ]
    link_exchanges("s", rows)
    pairs = {r["segment_id"]: r["pair_id"] for r in rows}
    assert pairs["a"] == pairs["b"] == "s-p0000"
    assert pairs["c"] == "s-p0001" and pairs["d"] is None


def test_a_reaction_shot_belongs_to_the_speakers_shot_next_to_it() -> None:
    rows = [
        segment("a", "t0", "speak", 0, 4, "v0", None),
        segment("b", "t1", "listen", 4, 8, "v0", "track:t0"),
        segment("c", "t0", "speak", 30, 34, "v0", None),
        segment("d", "t1", "listen", 60, 64, "v0", "track:t0"),
    ]
    link_exchanges("s", rows)
    pairs = {r["segment_id"]: r["pair_id"] for r in rows}
    assert pairs["a"] == pairs["b"] is not None
    assert pairs["c"] is None  # nobody is seen listening to it
    assert pairs["d"] not in (None, pairs["a"])  # too far from any


@pytest.mark.parametrize("n", [1, 50, 1000])
def test_silence_without_faces_moving_is_idle_at_any_length(n: int) -> None:
    assert states(-1.0, sound(n)) == ["idle"]
