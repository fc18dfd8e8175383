"""Turns become states: every frame is accounted for, nobody's turn is lost, and the two mirror each other."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotators.protocols_speech import Turn
from lpm_train.batch import STATES
from stages.packing.packing import PackingSettings
from stages.pairing.pairing import PairingSettings
from workflows.performing.states import NAMES, PAUSE_S, figures, heard_frames, runs, states_of, through_pauses, timeline
from workflows.performing.tracks import FADE_S

FRAMES = 250
spans = st.tuples(st.floats(-1, 10.5), st.floats(0.001, 4), st.sampled_from(["a", "b", "other"]))
patient = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
any_turns = st.lists(spans.map(lambda x: Turn(x[0], x[0] + x[1], x[2])), max_size=12)


def test_numbers_are_those_of_training() -> None:
    assert NAMES == STATES
    assert PairingSettings.model_validate({}).min_idle_s == PAUSE_S
    assert PackingSettings.model_validate({}).fade_ms == 1000 * FADE_S


@patient
@given(any_turns)
def test_every_frame_is_one_state_and_the_two_mirror_each_other(turns: list[Turn]) -> None:
    heard = heard_frames(turns, FRAMES)
    a, b = states_of(heard, "a"), states_of(heard, "b")
    assert len(a) == len(b) == FRAMES and set(a) | set(b) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(a == 0, b == 0)  # a silence is everybody's
    for own, other in ((a, b), (b, a)):
        assert not ((own == 1) & (other & 1 > 0)).any()  # who alone speaks is listened to
        assert (other[own == 1] == 2).all()
        told = figures(own)
        assert round(sum(told[f"{name}_s"] for name in NAMES), 2) == FRAMES / 25
    without = heard_frames([t for t in turns if t.speaker != "other"], FRAMES)
    alone = states_of(without, "a"), states_of(without, "b")
    np.testing.assert_array_equal(alone[0] == 3, alone[1] == 3)
    np.testing.assert_array_equal(alone[0] == 1, alone[1] == 2)


@patient
@given(any_turns)
def test_no_turn_is_lost_and_none_moves_by_a_frame(turns: list[Turn]) -> None:
    heard = heard_frames(turns, FRAMES)
    edges_s = np.arange(FRAMES) / 25
    for person in ("a", "b"):
        speaks = states_of(heard, person) & 1 > 0
        for turn in (t for t in turns if t.speaker == person and t.end_s > 0 and t.start_s < FRAMES / 25):
            inside = (edges_s >= turn.start_s) & (edges_s + 0.04 <= turn.end_s)
            assert speaks[inside].all()
            assert speaks[max(0, int(turn.start_s * 25 - 1)) : int(turn.end_s * 25) + 2].any()


def test_both_talk_third_voices_and_pauses() -> None:
    turns = [Turn(0, 1, "a"), Turn(0.8, 2, "b"), Turn(2.4, 3, "b"), Turn(3.2, 4, "other"), Turn(3.6, 4, "a")]
    heard = heard_frames(turns, 150)
    a, b = states_of(heard, "a"), states_of(heard, "b")
    said = [(NAMES[code], first, last) for first, last, code in runs(a)]
    assert said == [("speak", 0, 20), ("both", 20, 25), ("listen", 25, 90), ("both", 90, 100), ("idle", 100, 150)]
    assert [NAMES[code] for _, _, code in runs(b)] == ["listen", "both", "speak", "listen", "idle"]
    assert [(r.start_s, r.end_s, r.state) for r in timeline(a)][-1] == (4.0, 6.0, "idle")
    assert figures(a) == {"idle_s": 2.0, "speak_s": 0.8, "listen_s": 2.6, "both_s": 0.6, "mode_changes": 4}


def test_the_stretch_begins_where_it_is_told() -> None:
    turns = [Turn(0, 10.2, "a"), Turn(11, 13, "b")]
    np.testing.assert_array_equal(heard_frames(turns, 50, 10.0), heard_frames(turns, 300)[250:])


@patient
@given(st.lists(st.integers(0, 7), min_size=1, max_size=60), st.integers(0, 20))
def test_pauses_are_filled_and_nothing_else_changes(codes: list[int], shortest: int) -> None:
    before = np.repeat(np.array(codes, np.uint8), 5)
    after = through_pauses(before, shortest)
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    assert set(after) <= set(before)
    for first, last, code in runs(before):
        kept = code == 0 and (last - first >= shortest or last - first == len(before))
        assert (after[first:last] == 0).all() == kept
    np.testing.assert_array_equal(through_pauses(after, shortest), after)
