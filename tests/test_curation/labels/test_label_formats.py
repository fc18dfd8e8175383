"""Formats of human labels: there and back, as other programs read and write them, wrong lines by their number."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conversation_case import SOURCE
from hypothesis import given, settings
from hypothesis import strategies as st
from pympi.Elan import Eaf

from curation.labels.formats import FORMATS, Entry, Format, Heard, LabelError, read, write
from curation.labels.label_studio import SET_UP
from schemas import tables as t

STATES = st.sampled_from(t.LABEL_STATES)


@st.composite
def timelines(draw: st.DrawFn) -> list[Entry]:
    out = []
    for track in range(draw(st.integers(1, 3))):
        ms = sorted(draw(st.sets(st.integers(0, 100_000), min_size=2, max_size=8)))
        out += [
            Entry(f"{SOURCE}-t{track:04d}", a / 1000, b / 1000, draw(STATES), SOURCE) for a, b in itertools.pairwise(ms)
        ]
    return out


@pytest.mark.parametrize("form", [f for f in FORMATS if f != "label-studio"])  # its export is not what it imports
@given(entries=timelines())
@settings(max_examples=30, deadline=None)
def test_export_import_export_is_identity(form: Format, entries: list[Entry]) -> None:
    text = write(entries, form)
    back = read(text, form, "x")
    assert write([*map(with_source, back)], form) == text
    kept = [e for e in entries if form != "rttm" or e.state in ("speak", "both")]
    assert len(back) == len(kept)
    key = lambda e: (e.track_id, e.start_s)  # noqa: E731
    for a, b in zip(sorted(kept, key=key), sorted(back, key=key), strict=True):
        assert a.track_id == b.track_id
        assert abs(a.start_s - b.start_s) < 1e-3 and abs(a.end_s - b.end_s) < 1e-3
        assert form == "rttm" or a.state == b.state


def with_source(e: Entry) -> Entry:
    return Entry(e.track_id, e.start_s, e.end_s, e.state, e.source_id or e.track_id[:16])


@given(names=st.lists(st.text(st.sampled_from("ab %25F\u00e9\u3000\u2028"), min_size=1), min_size=2, max_size=2))
@settings(deadline=None)
def test_rttm_carries_names_with_spaces(names: list[str]) -> None:
    source, who = names
    (line,) = write([Entry(who, 0.0, 1.0, "speak", source)], "rttm").splitlines()
    (back,) = read(line, "rttm", "x")
    assert len(line.split(" ")) == len(line.split()) == 10
    assert (back.source_id, back.track_id) == (source, who)


@pytest.mark.parametrize(("name", "word"), [("a", "a"), ("5%", "5%"), ("a b", "a%20b"), ("a%20b", "a%2520b")])
def test_only_names_that_need_it_are_changed_in_rttm(name: str, word: str) -> None:
    assert write([Entry(name, 0.0, 1.0, "speak")], "rttm").split()[7] == word


@given(note=st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20), x=st.floats(0, 1))
@settings(deadline=None)
@pytest.mark.parametrize("form", ["csv", "json"])
def test_csv_and_json_carry_everything(form: Format, note: str, x: float) -> None:
    one = Entry("a", 1.25, 2.5, "listen", SOURCE, "off_screen", note or None, "Ann", "2026-01-01T00:00:00", x, 0.5)
    assert write(read(write([one], form), form, "x"), form) == write([one], form)


VOICES = [("voice v0", 0.0, 1.2, "speaks"), ("words v0", 0.1, 0.4, "well"), ("words v0", 0.5, 0.9, "yes & no")]


def test_another_program_reads_the_elan_file_and_we_read_what_it_saves(tmp_path: Path) -> None:
    """pympi reads and writes .eaf as ELAN lays it out, and knows nothing of this project."""
    file = tmp_path / "timeline.eaf"
    entries = [Entry("a", 0.0, 1.25, "speak"), Entry("a", 1.25, 4.0, "listen"), Entry("b", 0.5, 3.0, "idle")]
    file.write_text(write(entries, "elan", {"": Heard("file:///videos/a talk.mp4", VOICES)}), encoding="utf-8")
    elan = Eaf(file)
    assert elan.get_annotation_data_for_tier("a") == [(0, 1250, "speak"), (1250, 4000, "listen")]
    assert elan.get_annotation_data_for_tier("b") == [(500, 3000, "idle")]
    assert elan.get_annotation_data_for_tier("voice v0") == [(0, 1200, "speaks")]
    assert elan.get_annotation_data_for_tier("words v0") == [(100, 400, "well"), (500, 900, "yes & no")]
    assert [m["MEDIA_URL"] for m in elan.media_descriptors] == ["file:///videos/a talk.mp4"]
    offered = [words[0][0] for words, _ in elan.get_cv_entries("states").values()]
    assert offered == list(t.LABEL_STATES), "the list that ELAN offers for a label"
    elan.remove_annotation("a", 2000)
    elan.add_annotation("a", 1250, 2500, "both")
    elan.to_file(str(tmp_path / "saved.eaf"))
    saved = read((tmp_path / "saved.eaf").read_text(encoding="utf-8"), "elan", "saved.eaf")
    found = {(e.track_id, e.start_s, e.end_s, e.state) for e in saved}
    assert found == {("a", 0.0, 1.25, "speak"), ("a", 1.25, 2.5, "both"), ("b", 0.5, 3.0, "idle")}


def test_label_studio_is_given_what_it_draws_and_its_annotations_are_read() -> None:
    entries = [Entry("a", 0.0, 1.2, "speak", SOURCE, center_x=0.25, center_y=0.5), Entry("a", 1.2, 4.0, "idle", SOURCE)]
    (task, _) = json.loads(write([*entries, Entry("b", 0.0, 2.0, "idle", "~other")], "label-studio", MEDIA))
    assert task["data"]["video"] == "http://here/x.mp4" and "25% from the left" in task["data"]["person"]
    (said,) = task.pop("predictions")
    spans = [(r["type"], r["value"]["ranges"], r["value"]["timelinelabels"]) for r in said["result"]]
    assert spans == [
        ("timelinelabels", [{"start": 1, "end": 30}], ["speak"]),
        ("timelinelabels", [{"start": 31, "end": 100}], ["idle"]),
    ]
    controls = {tag.get("name"): tag for tag in ElementTree.fromstring(SET_UP).iter() if tag.get("name")}
    assert {(r["from_name"], r["to_name"]) for r in said["result"]} == {("state", "video")} <= {tuple(sorted(controls))}
    assert [x.get("value") for x in controls["state"]] == list(t.LABEL_STATES) and controls["video"].get(
        "frameRate"
    ) == "25"
    said["result"][0]["value"]["ranges"][0]["end"] = 50
    said["result"][1]["value"]["ranges"][0]["start"] = 51
    done = {
        "id": 7,
        **task,
        "annotations": [{"was_cancelled": True}, {"result": said["result"], "was_cancelled": False}],
    }
    found = read(json.dumps([done]), "label-studio", "x.json")
    assert [(e.track_id, e.source_id, e.start_s, e.end_s, e.state) for e in found] == [
        ("a", SOURCE, 0.0, 2.0, "speak"),
        ("a", SOURCE, 2.0, 4.0, "idle"),
    ]


MEDIA = {SOURCE: Heard("http://here/x.mp4")}


BASE = '[{"track_id": "a", "start_s": 0, "end_s": 1, "state": "idle", "note": "NOTE"}]'
REGION = (
    '[{"id": "r", "type": "timelinelabels", "value": {"timelinelabels": ["idle"], "ranges": [{"start": 1, "end": 1'
    + "0" * 400
    + "}]}}]"
)


def studio(result: str) -> str:
    return f'[{{"annotations": [{{"result": {result}}}], "data": {{"track_id": "a"}}}}]'


def eaf(state: str, *origins: str) -> str:
    """A stretch of 1 to 2 s on tier a, beside media that begin at some offsets."""
    media = "".join(f'<MEDIA_DESCRIPTOR TIME_ORIGIN="{ms}"/>' for ms in origins)
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="t{s}" TIME_VALUE="{s}000"/>' for s in (1, 2))
    note = f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"><ANNOTATION_VALUE>{state}'
    tier = f'<TIER TIER_ID="a">{note}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></TIER>'
    return f"<X><HEADER>{media}</HEADER><TIME_ORDER>{slots}</TIME_ORDER>{tier}</X>"


@pytest.mark.parametrize(("origins", "start_s"), [((), 1.0), (("2000",), 3.0), (("2000", "2000"), 3.0)])
def test_elans_times_count_from_where_the_video_is_played_from(origins: tuple[str, ...], start_s: float) -> None:
    (found,) = read(eaf("idle", *origins), "elan", "x.eaf")
    assert (found.start_s, found.end_s) == (start_s, start_s + 1)


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("csv", "track_id,start_s,end_s,state\na,0,1,talk\n", "line 2: unknown state 'talk'; write one of speak"),
        ("csv", "track_id,start_s,end_s,state\na,0,1,idle\na,2,1,idle\n", "line 3: time 2 to 1 s"),
        ("csv", "track_id,start_s,end_s,state\na,nan,1,idle\n", "line 2: start_s is 'nan'"),
        ("csv", "track,start_s,end_s,state\na,0,1,idle\n", "unknown field 'track'"),
        ("csv", "track_id,start_s,end_s,state\na,0,1,idle,x\n", "unknown field 'more columns"),
        ("csv", "", "file: no header; its first line names the columns: track_id"),
        ("csv", "a,0,1,idle\na,1,2,idle\n", "file: no header"),
        ("json", '{"labels": [{"track_id": "a", "start_s": 0, "end_s": 1}]}', "label 1: no state"),
        ("json", "{", "line 1: not JSON"),
        ("rttm", "SPEAKER a 1 0.0\n", "line 1: 4 fields"),
        ("rttm", "SPEAKER x 1 0 1 <NA> <NA> anna b <NA> <NA>\n", "line 1: 11 fields.*a space within a name as %20"),
        ("audacity", "0.0 1.0 a:idle\n", "line 1: write start, end"),
        ("elan", "<!DOCTYPE x><x/>", "document type"),
        ("elan", "<x>", "not an .eaf file"),
        ("label-studio", "{}", "export the project as JSON"),
        ("label-studio", '[{"annotations": [], "data": {}}]', "task 1: it names no track_id"),
        ("label-studio", '[{"annotations": [{}, {}], "data": {"track_id": "a"}}]', "2 people annotated it"),
        ("csv", 'track_id,start_s,end_s,state\na,0,1,"' + "x" * 140_000, "line 2: not CSV .*quote that is not closed"),
        ("json", f'[{{"track_id": "a", "start_s": 0, "end_s": {"9" * 400}, "state": "idle"}}]', "label 1: end_s is 9"),
        ("json", f'[{{"track_id": "a", "start_s": 0, "end_s": {"9" * 5000}, "state": "idle"}}]', "number in it is too"),
        ("json", "[" * 200_000, "too deep"),
        ("json", BASE.replace("NOTE", "\\ud800"), "label 1: note holds U.D800"),
        ("json", BASE.replace("NOTE", "\\u0000"), "label 1: note holds U.0000"),
        ("label-studio", '[{"annotations": null, "data": {"track_id": "a"}}]', "task 1: `annotations` is no list"),
        ("label-studio", '[{"annotations": ["x"], "data": {"track_id": "a"}}]', "task 1: `annotations` is no list"),
        ("label-studio", '[{"annotations": [], "data": ["track_id"]}]', "task 1: it names no track_id"),
        ("label-studio", studio("null"), "task 1: `result` is no list"),
        ("label-studio", studio('["x"]'), "task 1: `result` is no list"),
        ("label-studio", studio(REGION), "task 1, region r: not one label with frames"),
        ("elan", eaf("hello"), "tier a, annotation a1: unknown state 'hello'.*begins with `voice ` or `words `"),
        ("elan", eaf("idle", "0", "40"), "different offsets .0, 40 ms"),
        ("elan", eaf("idle", "x"), "TIME_ORIGIN is 'x'"),
    ],
)
def test_wrong_lines_are_named(form: Format, text: str, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        read(text, form, "file")


def test_a_header_alone_is_a_file_without_labels() -> None:
    assert read("track_id,start_s,end_s,state\n", "csv", "file") == []
