"""What people said of voices, words, captions and cuts, laid over what the machine found: the pure parts."""

from __future__ import annotations

import itertools
import json

import pytest
from conversation_case import SOURCE, Case, Face
from hypothesis import example, given
from hypothesis import strategies as st
from table_rows import row

from curation.labels.apply import LABELLED, reworded, said_words, with_cuts
from curation.memory import MemoryInputs, run_chain
from schemas import tables as t
from schemas.samples.caption import PerformanceCaption
from schemas.tables.labels import CaptionLabelRow, VoiceLabelRow, WordLabelRow
from stages.attribution.attribution import Attribution, AttributionSettings
from stages.performance.labels import labels_of, with_labels

WORDS = [[n, n + 0.8, f"w{n}", n] for n in range(5)]


def texts(words: list[list[object]]) -> list[object]:
    return [w[2] for w in words]


def test_a_word_is_changed_taken_out_put_in_and_several_become_one() -> None:
    assert texts(reworded(WORDS, [(1.0, 1.8, "one")])) == ["w0", "one", "w2", "w3", "w4"]
    assert texts(reworded(WORDS, [(1.0, 1.8, None)])) == ["w0", "w2", "w3", "w4"]
    assert texts(reworded(WORDS, [(1.9, 1.95, "new")])) == ["w0", "w1", "new", "w2", "w3", "w4"]
    joined = reworded(WORDS, [(1.0, 3.0, "both")])
    assert joined[1] == [1, 2.8, "both", 1] and len(joined) == 4
    assert texts(reworded(joined, [(1.0, 2.8, "again")])) == ["w0", "again", "w3", "w4"], "the newest is on top"
    assert texts(reworded([], [(1.0, 2.0, "x")])) == ["x"]


@given(st.lists(st.tuples(st.floats(0, 6), st.floats(0.01, 2), st.sampled_from([None, "a", "b"])), max_size=6))
@example([(0.25, 0.125, "a"), (0.25, 1.0, "a")])
def test_words_stay_in_order_whatever_is_said(said: list[tuple[float, float, str | None]]) -> None:
    out = reworded(WORDS, [(a, a + length, text) for a, length, text in said])
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(out))
    again = reworded(out, [(a, a + length, text) for a, length, text in said[-1:]])
    assert texts(again) == texts(out), "saying the last thing again changes nothing"


def test_corrected_words_are_certain_and_keep_their_voice() -> None:
    words = [
        row(t.WORDS, source_id=SOURCE, n=n, start_s=n, end_s=n + 0.5, word=f"w{n}", speaker_id="v") for n in range(3)
    ]
    label: WordLabelRow = row(t.WORD_LABELS, source_id=SOURCE, start_s=1.0, end_s=1.5, word="right", labelled_at="1")
    out = said_words(words, [label])
    assert [w.word for w in out] == ["w0", "right", "w2"] and [w.n for w in out] == [0, 1, 2]
    assert (out[1].probability, out[1].speaker_id, out[1].annotator) == (1.0, "v", LABELLED) and out[0] == words[0]
    assert said_words(words, []) == words


@given(st.lists(st.floats(0, 20), max_size=5), st.floats(0.2, 19))
def test_cuts_are_taken_out_and_put_in(found: list[float], at: float) -> None:
    assert at in with_cuts(found, [(at, at + 0.04, True)])
    none = with_cuts(found, [(at, at + 0.04, True), (at - 0.12, at + 0.12, False)])
    assert all(abs(x - at) > 0.119 for x in none) and none == sorted(none)


# ------------------------------------------------------------------------------------------------ voices

TALK = Case(
    {"a": Face("s", 0.0, 8.0, [(0, 4, 3.0), (4, 8, -3.0)]), "b": Face("s", 0.0, 8.0, [(0, 4, -3.0), (4, 8, 3.0)])},
    {"v0": [(0.0, 4.0)], "v1": [(4.0, 8.0)]},
)


def bound(*labels: VoiceLabelRow) -> set[tuple[str, str]]:
    from pathlib import Path

    tables = TALK.tables()
    tracks = t.TRACKS.rows(tables[t.TRACKS][0])
    placed = [x.but(center_x=0.25 + 0.5 * i, center_y=0.5) for i, x in enumerate(tracks)]
    parts = {**tables, t.TRACKS: [t.TRACKS.from_rows(placed)], t.VOICE_LABELS: [t.VOICE_LABELS.from_rows(list(labels))]}
    done = run_chain(Path("unused"), [Attribution(AttributionSettings())], source_id=SOURCE, tables=parts)
    rows = t.BINDINGS.rows(MemoryInputs(Path("unused"), done).read(t.BINDINGS))
    return {(r.speaker_id, r.track_id) for r in rows if r.bound}


def voice(track: str | None, name: str = "v0", **more: object) -> VoiceLabelRow:
    x = {"a": 0.25, "b": 0.75}.get(track or "")
    said = {"speaker_id": name, "start_s": 0.0, "end_s": 4.0, "track_id": track, "center_x": x, "labelled_at": "1"}
    return row(t.VOICE_LABELS, **{"source_id": SOURCE, "center_y": None if x is None else 0.5, **said, **more})


def test_a_voice_goes_to_the_face_that_a_person_names_and_the_face_lets_go_of_its_own() -> None:
    assert bound() == {("v0", "a"), ("v1", "b")}
    assert bound(voice("b")) == {("v0", "b")}, "one voice and one face among faces seen together"
    assert bound(voice(None)) == {("v1", "b")}
    swapped = bound(voice("b"), voice("a", "v1", start_s=4.0, end_s=8.0, label_id="2"))
    assert swapped == {("v0", "b"), ("v1", "a")}
    assert bound(voice("b"), voice("a", label_id="2", labelled_at="2")) == {("v0", "a"), ("v1", "b")}, "the newest"


def test_a_voice_and_a_face_are_found_under_other_ids() -> None:
    assert bound(voice("b", "v7")) == {("v0", "b")}, "by the time at which it is heard"
    assert bound(voice("gone", center_x=0.75, center_y=0.5)) == {("v0", "b")}, "by its place"
    assert bound(voice("a", center_x=0.75)) == {("v0", "b")}, "an id that names somebody elsewhere now"


# ------------------------------------------------------------------------------------------------ captions


def caption(**values: object) -> PerformanceCaption:
    return PerformanceCaption.model_validate(
        {"state": "listen", "shot_type": "medium", "prose": "A person listens.", "annotator": "signals",
         "time_invariant": True, **values}
    )  # fmt: skip


def field(name: str, value: object, **more: object) -> CaptionLabelRow:
    said = {"track_id": "a", "start_s": 0.0, "end_s": 4.0, "center_x": 0.3, "center_y": 0.5, "author": "ann"}
    return row(t.CAPTION_LABELS, **{**said, "field": name, "value": json.dumps(value), **more})


def test_a_field_that_a_person_gave_is_in_the_caption() -> None:
    got, unfit = with_labels(caption(), [field("gaze", "left"), field("gaze", "camera"), field("emotions", ["joy"])])
    assert (got.gaze, unfit[1:]) == ("camera", []) and got.annotator == "signals+human_label"
    assert with_labels(caption(), []) == (caption(), [])


def test_a_field_that_does_not_fit_any_more_is_told_and_left_out() -> None:
    got, unfit = with_labels(caption(), [field("prose", "First she nods, then she smiles.")])
    assert got == caption() and "ann gave prose" in unfit[0] and "time words" in unfit[0]


@pytest.mark.parametrize(
    ("start_s", "end_s", "x", "about"), [(0, 4, 0.3, True), (0, 3, 0.32, True), (3, 8, 0.3, False), (0, 4, 0.7, False)]
)
def test_a_caption_is_that_of_the_clip_which_shares_most_of_its_time_and_face(
    start_s: float, end_s: float, x: float, about: bool
) -> None:
    segment = row(t.SEGMENTS, track_id="z", start_s=start_s, end_s=end_s)
    track = row(t.TRACKS, track_id="z", center_x=x, center_y=0.5)
    assert bool(labels_of(segment, track, [field("gaze", "left")])) == about
