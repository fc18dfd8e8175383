"""Voices as files: what is written is read again, what is wrong is said with its line, and two are chosen of many."""

from __future__ import annotations

from pathlib import Path

import pytest
from diarization_score import parse_rttm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotators.protocols_speech import Turn
from workflows.performing.voices import as_json, as_rttm, read_voices, spoken_s, the_two, to_ms, within
from workflows.usage import UsageError

spans = st.tuples(st.floats(0, 9_000), st.floats(0.001, 60), st.sampled_from(["a", "b", "speaker_2"]))
any_turns = st.lists(spans.map(lambda x: Turn(x[0], x[0] + x[1], x[2])), min_size=1, max_size=30)


def rttm(*turns: tuple[str, float, float]) -> list[Turn]:
    return [Turn(start_s, end_s, who) for who, start_s, end_s in turns]


@given(any_turns)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50, deadline=None
)
def test_what_is_written_is_read_again(tmp_path: Path, turns: list[Turn]) -> None:
    kept = to_ms(turns)
    if not kept:
        return
    for name, text in (("v.rttm", as_rttm(turns, "a talk")), ("v.json", as_json(turns, {"by": {}}))):
        (tmp_path / name).write_text(text)
        found = read_voices(tmp_path / name)
        assert [(t.start_s, t.end_s, t.speaker) for t in found] == [(t.start_s, t.end_s, t.speaker) for t in kept]


def test_others_programs_read_the_rttm() -> None:
    turns = rttm(("a", 0.5, 2.0), ("b", 1.75, 3.0))
    assert parse_rttm(as_rttm(turns, "my talk")) == [(0.5, 2.0, "a"), (1.75, 3.0, "b")]


def test_names_with_blanks_stay_one_field_and_come_back(tmp_path: Path) -> None:
    turns = rttm(("Anna B", 0.5, 2.0), ("100% b", 1.75, 3.0))
    text = as_rttm(turns, "my talk")
    assert {len(line.split()) for line in text.splitlines()} == {10}
    (tmp_path / "v.rttm").write_text(text)
    assert [t.speaker for t in read_voices(tmp_path / "v.rttm")] == ["Anna B", "100% b"]


def test_comments_and_other_lines_of_rttm_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "v.rttm"
    file.write_text(";; made by hand\nSPKR-INFO x 1 <NA> <NA> <NA> unknown a <NA>\n\nSPEAKER x 1 1.0 0.5 <NA> <NA> a\n")
    assert read_voices(file) == [Turn(1.0, 1.5, "a")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SPEAKER x 1 1.0\n", "line 1 is no turn, since it has too few words"),
        ("\nSPEAKER x 1 one 0.5 <NA> <NA> a\n", "line 2 is no turn, since could not convert"),
        ("SPEAKER x 1 1.0 -0.5 <NA> <NA> a\n", "it lasts from 1 s to 0.5 s"),
        ("SPEAKER x 1 nan 0.5 <NA> <NA> a\n", "a time is no number"),
        ("0.0 1.0 a\n", "does not begin with SPEAKER"),
        ("", "holds no turn"),
        ('{"turns": [{"voice": "a"}]}', "holds no turns"),
        ("{", "holds no turns"),
        ('{"turns": 3}', "holds no turns"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "v").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_voices(tmp_path / "v")


def test_a_file_that_is_not_there_or_of_another_recording(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the voices"):
        read_voices(tmp_path / "none.rttm")
    (tmp_path / "v.rttm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text"):
        read_voices(tmp_path / "v.rttm")
    within(rttm(("a", 0, 10.05)), 10.0, tmp_path / "v.rttm")
    with pytest.raises(UsageError, match=r"speak until 12 s, but the recording ends at 10.00 s"):
        within(rttm(("a", 0, 12)), 10.0, tmp_path / "v.rttm")


def test_two_of_them() -> None:
    two = rttm(("x", 0, 1), ("y", 1, 2))
    assert [t.speaker for t in the_two(two, None)] == ["a", "b"]
    assert [t.speaker for t in the_two(two, "y,x")] == ["b", "a"]
    named = rttm(("b", 0, 1), ("a", 1, 2), ("other", 2, 3))
    assert [t.speaker for t in the_two(named, None)] == ["b", "a", "other"]
    three = [*two, *rttm(("z", 2, 3), ("x", 3, 4))]
    assert [t.speaker for t in the_two(three, "x,z")] == ["a", "other", "b", "a"]
    assert [t.speaker for t in the_two(three, "x+y,z")] == ["a", "b", "a"]


def test_a_cough_is_nobody_of_the_two_but_heard() -> None:
    turns = rttm(("x", 0, 3), ("z", 3, 3.5), ("y", 4, 7))
    assert [t.speaker for t in the_two(turns, None, least_s=2.0)] == ["a", "other", "b"]
    assert [t.speaker for t in the_two(turns, "z,y", least_s=2.0)] == ["other", "a", "b"]
    with pytest.raises(UsageError, match="3 voices were heard"):
        the_two(turns, None)
    with pytest.raises(UsageError, match="3 voices were heard"):  # two of them are too short to be told from coughs
        the_two(rttm(("x", 0, 3), ("z", 3, 3.5), ("y", 4, 5)), None, least_s=2.0)


@pytest.mark.parametrize(
    ("turns", "speakers", "said"),
    [
        ([], None, "no voice was heard"),
        ([("x", 0, 1)], None, "one voice was heard .x 1.0 s.*--voices"),
        ([("x", 0, 1), ("y", 1, 2), ("z", 2, 4)], None, "3 voices were heard .*z 2.0 s.*--speakers X,Y"),
        ([("x", 0, 1), ("y", 1, 2)], "x", "name two voices"),
        ([("x", 0, 1), ("y", 1, 2)], "x,x", "name two voices"),
        ([("x", 0, 1), ("y", 1, 2)], "x,", "name two voices"),
        ([("x", 0, 1), ("y", 1, 2)], "x,q", "no voice is called 'q'"),
    ],
)
def test_not_two_is_said_with_what_to_do(
    turns: list[tuple[str, float, float]], speakers: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        the_two(rttm(*turns), speakers)


def test_turns_cut_where_another_sets_in_are_one() -> None:
    cut = rttm(("a", 0, 1), ("a", 1, 2.0004), ("b", 1, 2), ("a", 2.0, 3), ("a", 3.002, 4), ("b", 5, 5.0001))
    assert [(t.speaker, t.start_s, t.end_s) for t in to_ms(cut)] == [("a", 0, 3), ("b", 1, 2), ("a", 3.002, 4)]


def test_a_voice_that_talks_over_itself_counts_once() -> None:
    assert spoken_s(rttm(("a", 0, 2), ("a", 1, 3), ("b", 0, 1))) == {"b": 1, "a": 3}
