"""Whose voices truth files name, and what a diarization's errors are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diarization_score import diarization_errors, summed
from hypothesis import given
from hypothesis import strategies as st
from voice_truth import heard, of_spans, told_apart, voice_truths


def person(name: str, state: str | None) -> dict[str, Any]:
    return {"person": name, "state": state, "x": [0.4, 0.6]}


@pytest.mark.parametrize(
    ("span", "names"),
    [
        ({"voice": None, "people": [person("a", "idle")]}, set()),
        ({"voice": "a", "people": [person("a", "speak")]}, {"a"}),
        ({"voice": "a+b", "people": [person("a", "both"), person("b", "both")]}, {"a", "b"}),
        ({"voice": "a", "heard": ["a", "b"], "people": [person("a", "both")]}, {"a", "b"}),
        ({"voice": "off", "voice_who": "c", "people": [person("a", "listen")]}, {"c"}),
        ({"voice": "off", "people": []}, {"off"}),
        ({"voice": "unknown", "people": [person("a", None)]}, None),
        ({"voice": "some_file", "people": [person("a", "speak")]}, {"some_file"}),
    ],
)
def test_a_span_names_its_voices(span: dict[str, Any], names: set[str] | None) -> None:
    assert heard(span) == names


def test_what_nobody_claims_is_not_scored() -> None:
    made = {
        "shots": [
            {"start": 0, "end": 1, "voice": None, "people": []},
            {"start": 1, "end": 2, "voice": "a", "people": []},
        ]
    }
    truth = of_spans(made)
    assert truth.unknown == ((0.0, 1.0),) and truth.turns == ((1.0, 2.0, "a"),)


def test_files_with_truth_are_found_and_a_file_of_two_voices_names_nobody(tmp_path: Path) -> None:
    spans = [{"start": n, "end": n + 1, "voice": who, "people": [person(who, "speak")]} for n, who in enumerate("ab")]
    for name, shots in {
        "pair": spans,
        "cut": [spans[0] | {"voice": "pair", "people": [person("c", "listen")]}],
    }.items():
        (tmp_path / f"{name}.mp4").touch()
        (tmp_path / f"{name}.truth.json").write_text(json.dumps({"shots": shots}))
    (tmp_path / "lost.truth.json").write_text(json.dumps({"shots": spans}))
    found = voice_truths(tmp_path)
    assert {p.name for p in found} == {"pair.mp4", "cut.mp4"}
    assert [p.name for p in told_apart(found)] == ["pair.mp4"]


turns = st.lists(
    st.tuples(st.floats(0, 9), st.floats(0.1, 1.0), st.sampled_from("abc")).map(lambda t: (t[0], t[0] + t[1], t[2])),
    min_size=1, max_size=6,
)  # fmt: skip


@given(turns, turns)
def test_errors_are_parts_of_the_rate_and_add_up_over_files(
    truth: list[tuple[float, float, str]], found: list[tuple[float, float, str]]
) -> None:
    errors = diarization_errors(truth, found, 10.0)
    assert min(errors.missed_s, errors.false_s, errors.confused_s) >= 0
    assert summed([errors, errors]).rate == pytest.approx(errors.rate)
    assert diarization_errors(truth, truth, 10.0).rate == 0
    assert diarization_errors(truth, found, 10.0, [(0.0, 10.0)]).true_s == 0


def test_each_kind_of_error_is_counted_as_such() -> None:
    truth = [(0.0, 4.0, "a"), (4.0, 8.0, "b"), (6.0, 7.0, "a")]
    found = [(0.0, 3.0, "x"), (4.0, 6.0, "y"), (6.0, 8.0, "x"), (8.0, 9.0, "y")]
    errors = diarization_errors(truth, found, 10.0)
    assert (errors.true_s, errors.false_s) == pytest.approx((9.0, 1.0))
    assert (errors.missed_s, errors.confused_s) == pytest.approx((2.0, 1.0))
    assert (errors.overlap_true_s, errors.overlap_found_s) == pytest.approx((1.0, 0.0))
