"""Whole conversations through attribution and pairing: who speaks, who listens to whom, what nobody can tell."""

from __future__ import annotations

import itertools

import pytest
from conversation_case import Case, Face, solve
from hypothesis import given, settings
from hypothesis import strategies as st

TALK, HEAR, STILL = 3.0, -1.2, -2.6


def face(start_s: float, end_s: float, score: float, shot: str = "s0") -> Face:
    return Face(shot, start_s, end_s, [(start_s, end_s, score)])


def test_a_speaker_and_a_listener_in_one_shot_are_one_exchange() -> None:
    words = [(1.0, 1.4, "hello"), (1.5, 1.9, "there.")]
    got = solve(Case({"l": face(0, 7, TALK), "r": face(0, 7, HEAR)}, {"a": [(0, 7)]}, words=words))
    assert got.bound() == {("a", "l")}
    (speaker,), (listener,) = got.of("l"), got.of("r")
    assert (speaker["state"], speaker["reason"], speaker["text"]) == ("speak", "synced_voice", "hello there.")
    assert (listener["state"], listener["partner"], listener["partner_track_id"]) == ("listen", "track:l", "l")
    assert speaker["partner_track_id"] == "r" and speaker["partner"] == "track:r"
    assert speaker["pair_id"] == listener["pair_id"] is not None
    assert min(speaker["confidence"], listener["confidence"]) > 0.8
    assert speaker["segment_id"] == "l-00000000"


def test_a_listener_to_a_voice_from_off_screen() -> None:
    got = solve(Case({"l": face(0, 7, HEAR)}, {"a": [(0, 7)]}))
    (segment,) = got.of("l")
    assert (segment["state"], segment["partner"], segment["partner_track_id"]) == ("listen", "voice:a", None)
    assert segment["pair_id"] is not None
    assert [(v["off_screen"], v["seen_s"]) for v in got.voices] == [(True, 0.0)]


def test_a_faint_voice_is_listened_to_all_the_same() -> None:
    (segment,) = solve(Case({"l": face(0, 7, HEAR)}, {"a": [(0, 7)]}, level_db=-58.0)).of("l")
    assert segment["state"] == "listen"


def test_silence_with_still_lips_is_idle() -> None:
    (segment,) = solve(Case({"l": face(0, 5, STILL)})).of("l")
    assert (segment["state"], segment["reason"], segment["pair_id"]) == ("idle", "silence", None)


def test_lips_without_a_voice_are_discarded_in_full_length() -> None:
    (segment,) = solve(Case({"l": face(0, 7, TALK)})).of("l")
    assert (segment["state"], segment["reason"], segment["duration_s"]) == ("discard", "lips_without_voice", 7.0)


def test_a_clip_ends_before_frames_mixed_with_the_next_shot() -> None:
    got = solve(Case({"l": face(0, 7, TALK)}, {"a": [(0, 7)]}, mixed_s=0.08))
    assert [(s["start_s"], s["end_s"]) for s in got.of("l")] == [(0.0, pytest.approx(6.92))]
    assert got.runs("l")[-1][1] == 7.0


def test_two_talkers_who_take_turns_each_get_their_voice() -> None:
    left = Face("s0", 0, 7.2, [(0, 3.6, 3.4), (3.6, 7.2, -1.0)])
    right = Face("s0", 0, 7.2, [(0, 3.6, -1.0), (3.6, 7.2, 3.4)])
    got = solve(Case({"l": left, "r": right}, {"a": [(0, 3.6)], "b": [(3.6, 7.2)]}))
    assert got.bound() == {("a", "l"), ("b", "r")}
    assert [x[2:] for x in got.runs("l")] == [("speak", "synced_voice"), ("listen", "heard_voice")]
    assert [x[2:] for x in got.runs("r")] == [("listen", "heard_voice"), ("speak", "synced_voice")]
    assert [got.runs(x)[0][1] for x in "lr"] == pytest.approx([3.6, 3.6], abs=0.3)


def test_two_mouths_that_speak_alike_under_one_voice_speak_together_and_own_nothing() -> None:
    turns = {"a": [(0, 3.4)], "b": [(4.0, 7.2)]}  # the telling of voices has a hole where speech goes on
    got = solve(Case({"l": face(0, 7.2, 3.0), "r": face(0, 7.2, 2.9)}, turns, speech=[(0, 7.2)]))
    assert got.bound() == set()
    assert {s["state"] for s in got.segments} == {"both"}


def test_shot_and_reverse_shot_keep_the_owner_of_a_voice() -> None:
    faces = {"s": face(0, 4, TALK, "s0"), "l": face(4, 8, HEAR, "s1"), "s2": face(8, 12, TALK, "s2")}
    got = solve(Case(faces, {"a": [(0, 12)]}))
    assert got.bound() == {("a", "s"), ("a", "s2")}
    assert [got.of(x)[0]["state"] for x in faces] == ["speak", "listen", "speak"]
    assert got.of("l")[0]["partner_track_id"] in {"s", "s2"}
    assert [(v["off_screen"], v["seen_s"]) for v in got.voices] == [(False, pytest.approx(8.0))]


def test_the_partner_is_the_owners_face_nearest_in_time() -> None:
    faces = {"a0": face(0, 4, TALK, "s0"), "b0": face(20, 24, HEAR, "s1"), "c0": face(24, 28, TALK, "s2")}
    got = solve(Case(faces, {"a": [(0, 4), (20, 28)]}))
    assert got.of("b0")[0]["partner_track_id"] == "c0"


def test_a_person_whose_track_breaks_within_a_shot_keeps_the_voice() -> None:
    faces = {"p0": face(0, 4, TALK), "p1": face(4.4, 9, TALK), "q": face(0, 9, HEAR)}
    got = solve(Case(faces, {"a": [(0, 9)]}))
    assert got.bound() == {("a", "p0"), ("a", "p1")}
    assert {s["state"] for s in got.of("p0") + got.of("p1")} == {"speak"}


def test_speaking_while_another_voice_overlaps_is_both() -> None:
    faces = {
        "l": Face("s0", 0, 9, [(0, 6, TALK), (6, 9, HEAR)]),
        "r": Face("s0", 0, 9, [(0, 3, HEAR), (3, 9, TALK)]),
    }
    got = solve(Case(faces, {"a": [(0, 6)], "b": [(3, 9)]}))
    middle = [s for s in got.segments if s["start_s"] >= 2.8 and s["end_s"] <= 6.2]
    assert {s["state"] for s in middle} == {"both"} and all(s["overlap_ratio"] > 0.9 for s in middle)


def test_a_pause_inside_speech_changes_nothing() -> None:
    lips = Face("s0", 0, 7, [(0, 3, TALK), (3, 3.3, STILL), (3.3, 7, TALK)])
    got = solve(Case({"l": lips, "r": face(0, 7, HEAR)}, {"a": [(0, 3), (3.3, 7)]}))
    assert [(s["state"], s["duration_s"]) for s in got.segments] == [("speak", 7.0), ("listen", 7.0)]


def test_lips_that_move_on_long_after_the_voice_have_none_there() -> None:
    runs = solve(Case({"l": face(0, 9, TALK)}, {"a": [(0, 5)]})).runs("l")
    assert [x[2:] for x in runs] == [("speak", "synced_voice"), ("discard", "lips_without_voice")]
    assert 5.0 <= runs[-1][0] <= 6.1 and runs[-1][1] == 9.0


def test_a_segment_says_how_much_of_it_is_in_its_state() -> None:
    lips = Face("s0", 0, 7, [(0, 3, TALK), (3, 3.8, STILL), (3.8, 7, TALK)])
    (segment,) = solve(Case({"l": lips}, {"a": [(0, 3), (3.8, 7)]})).of("l")
    assert segment["state"] == "speak" and segment["state_ratio"] == pytest.approx(6.2 / 7, abs=0.06)
    whole = solve(Case({"l": face(0, 7, TALK)}, {"a": [(0, 7)]})).of("l")
    assert [s["state_ratio"] for s in whole] == [1.0]


def test_a_voice_of_ones_own_is_nobody_to_listen_to() -> None:
    lips = Face("s0", 0, 9, [(0, 7, TALK), (7, 9, STILL)])
    got = solve(Case({"l": lips, "r": face(0, 9, HEAR)}, {"a": [(0, 9)]}))
    assert ("a", "l") in got.bound()
    assert not {s["partner"] for s in got.of("l")} & {"voice:a", "track:l"}
    assert {s["partner"] for s in got.of("r") if s["state"] == "listen"} == {"track:l"}


def test_a_face_that_was_not_measured_is_unsure_not_still() -> None:
    (segment,) = solve(Case({"l": Face("s0", 0, 5, [])}, {"a": [(0, 5)]})).of("l")
    assert (segment["state"], segment["reason"], segment["asd_mean"]) == ("discard", "unsure", None)
    assert segment["confidence"] == 0.0


def test_a_long_turn_is_cut_into_even_clips() -> None:
    got = solve(Case({"l": face(0, 10, TALK)}, {"a": [(0, 10)]}))
    assert [s["duration_s"] for s in got.of("l")] == [5.0, 5.0]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    def spans(end: float) -> list[tuple[float, float]]:
        marks = sorted(draw(st.lists(st.integers(0, round(end * 25)), max_size=8, unique=True)))
        return [(a / 25, b / 25) for a, b in itertools.pairwise(marks)][::2]

    faces = {}
    for i in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, 100)) / 25 + draw(st.sampled_from([0.0, 0.013]))
        end = start + draw(st.integers(1, 500)) / 25
        marks = [start, *sorted(draw(st.lists(st.floats(start, end), max_size=6))), end]
        scores = [(a, b, draw(st.floats(-4, 5))) for a, b in itertools.pairwise(marks)]
        faces[f"t{i}"] = Face(draw(st.sampled_from(["s0", "s1"])), start, end, scores)
    return Case(faces, {v: spans(25.0) for v in ("a", "b")})


@settings(deadline=None, max_examples=60)
@given(cases())
def test_whatever_happens_runs_and_segments_partition_every_track(case: Case) -> None:
    got = solve(case)
    assert len({s["segment_id"] for s in got.segments}) == len(got.segments)
    for name, f in case.faces.items():
        for rows in ([r for r in got.timeline if r["track_id"] == name], got.of(name)):
            rows = sorted(rows, key=lambda r: r["start_s"])
            assert (rows[0]["start_s"], rows[-1]["end_s"]) == (f.start_s, f.end_s)
            assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(rows))
            assert all(r["end_s"] > r["start_s"] and 0 <= r["confidence"] <= 1 for r in rows)
        assert all(s["duration_s"] <= 8.0 + 1e-6 for s in got.of(name))
    # A voice heard alone belongs to one face at a time.
    owners = [r for r in got.bindings if r["bound"]]
    for x, y in itertools.combinations(owners, 2):
        if x["speaker_id"] == y["speaker_id"]:
            a, b = case.faces[x["track_id"]], case.faces[y["track_id"]]
            assert a.shot != b.shot or min(a.end_s, b.end_s) <= max(a.start_s, b.start_s)
