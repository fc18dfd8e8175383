"""Human labels: import all or nothing, override in pairing, resume of what is touched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import lpm
from conversation_case import SOURCE, Case, Face
from engine_case import GOOD, go, snapshot
from pympi.Elan import Eaf
from table_rows import row
from toy import CALLS, ToyPairing, filled, write_sources

from curation import Dataset
from curation.labels import labels
from curation.labels.formats import SUFFIXES, Entry, Format, LabelError
from curation.memory import MemoryInputs, run_chain
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.tables.labels import LabelRow
from schemas.tables.tracks import TrackRow
from stages.attribution.attribution import Attribution, AttributionSettings
from stages.pairing.labels import match
from stages.pairing.pairing import Pairing, PairingSettings

CASE = Case(
    {"a": Face("s", 0.0, 10.0, [(0.0, 10.0, 2.0)]), "b": Face("s", 0.0, 10.0, [(0.0, 10.0, -1.0)])},
    {"v": [(0.0, 10.0)]},
)


def label(**values: object) -> LabelRow:
    given = {
        "label_id": "1",
        "source_id": SOURCE,
        "track_id": "a",
        "state": "listen",
        "author": "x",
        "labelled_at": "1",
    }
    return row(t.LABELS, **{**given, **values})


def paired(*rows: LabelRow) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    tables = CASE.tables() | {t.LABELS: [t.LABELS.from_rows(rows)]}
    stages = [Attribution(AttributionSettings()), Pairing(PairingSettings())]
    inputs = MemoryInputs(Path("x"), run_chain(Path("x"), stages, source_id=SOURCE, tables=tables))
    return inputs.read(t.TIMELINE).to_pylist(), inputs.read(t.SEGMENTS).to_pylist()


def test_a_label_overrides_exactly_its_time_however_short() -> None:
    timeline, segments = paired(label(start_s=3.0, end_s=3.08, partner="off_screen"))
    mine = [r for r in timeline if r["track_id"] == "a"]
    assert [(r["start_s"], r["end_s"], r["state"]) for r in mine] == [
        (0.0, 3.0, "speak"), (3.0, 3.08, "listen"), (3.08, 10.0, "speak")
    ]  # fmt: skip
    assert (mine[1]["reason"], mine[1]["confidence"], mine[1]["partner"]) == ("human_label", 1.0, "off_screen")
    assert any(s["state"] == "listen" and s["reason"] == "human_label" for s in segments)


def test_the_newest_label_holds_and_equal_states_keep_their_reasons() -> None:
    timeline, segments = paired(
        label(start_s=2.0, end_s=6.0, state="idle"),
        label(label_id="2", start_s=4.0, end_s=8.0, state="speak", labelled_at="2"),
    )
    got = [(r["start_s"], r["end_s"], r["state"], r["reason"]) for r in timeline if r["track_id"] == "a"]
    assert got == [
        (0.0, 2.0, "speak", "synced_voice"), (2.0, 4.0, "idle", "human_label"), (4.0, 8.0, "speak", "human_label"),
        (8.0, 10.0, "speak", "synced_voice"),
    ]  # fmt: skip
    assert (4.0, 10.0) in [(s["start_s"], s["end_s"]) for s in segments]  # a clip is not cut where nothing changes


def test_a_label_finds_its_person_under_another_track_id() -> None:
    def track(name: str, a: float, b: float, x: float) -> TrackRow:
        return row(t.TRACKS, track_id=name, start_s=a, end_s=b, center_x=x, center_y=0.5)

    said = label(track_id="old", start_s=2.0, end_s=8.0, center_x=0.3, center_y=0.5)
    halves = [track("p", 0.0, 5.0, 0.32), track("q", 5.0, 10.0, 0.28), track("other", 0.0, 10.0, 0.7)]
    assert sorted(match(said, halves)) == ["p", "q"]
    assert match(said, [track("old", 0.0, 9.0, 0.8), track("p", 0.0, 9.0, 0.3)]) == ["p"]  # the id names another now
    assert match(said, [track("p", 9.0, 10.0, 0.3)]) == []


class LabelledPairing(ToyPairing):
    reads = (*ToyPairing.reads, t.LABELS)

    def run(self, item, inputs):  # type: ignore[no-untyped-def]
        self.seen = inputs.read(t.LABELS).num_rows
        outputs = super().run(item, inputs)
        rows = outputs.tables[t.SEGMENTS].to_pylist()
        for r in rows[: self.seen]:
            r["text"] = "labelled"
        outputs.tables[t.SEGMENTS] = t.SEGMENTS.from_rows(rows)
        return outputs


def test_an_import_makes_its_sources_pairing_and_what_follows_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toy.ToyPairing", LabelledPairing)
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 7.0})
    out = tmp_path / "out"
    go(folder, out)
    data = Dataset(str(out))
    track = data.query("SELECT t.track_id, t.source_id FROM tracks t JOIN inputs i USING (source_id) "
                       "WHERE i.name = 'a.mp4' AND median_face_px > 100").fetchall()[0]  # fmt: skip
    file = tmp_path / "x.txt"
    file.write_text(f"1.0\t2.5\t{track[0]}:listen\n")
    entries = labels.read_files([file], None)
    assert labels.take_in(data, entries, "Ann") == labels.Imported(1, 0, 1)
    before = snapshot(out, "tables")
    assert labels.take_in(data, entries, "Ann") == labels.Imported(0, 1, 0)
    assert snapshot(out, "tables") == before
    go(None, out)
    assert CALLS["toy_pairing"] == 1 and CALLS["toy_packing"] == 1 and "toy_active" not in CALLS, CALLS
    assert Dataset(str(out)).table(t.LABELS).num_rows == 1
    before = snapshot(out)
    lpm("compact", str(out))
    go(None, out)
    assert not CALLS
    assert labels.take_in(Dataset(str(out)), entries, "Ann") == labels.Imported(0, 1, 0)
    corrected = [Entry(str(track[0]), 2.0, 3.0, "idle")]
    labels.take_in(Dataset(str(out)), corrected, "Ann")
    labels.take_in(Dataset(str(out)), [Entry(str(track[0]), 1.5, 2.2, "speak")], "Ben")
    rows = Dataset(str(out)).table(t.LABELS).to_pylist()
    got = sorted((r["author"], r["start_s"], r["end_s"], r["state"]) for r in rows)
    assert got == [("Ann", 1.0, 2.0, "listen"), ("Ann", 2.0, 3.0, "idle"), ("Ben", 1.5, 2.2, "speak")]
    explained = lpm("explain", str(out), str(track[0]))
    assert not explained.stderr
    said = explained.stdout
    assert "human label: speak" in said and "by Ben at 20" in said
    assert "human labels: 3 over 2.7 s by Ann, Ben" in lpm("status", str(out)).stdout
    assert "labels" not in lpm("verify", str(out), "--no-media").stdout


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "there is no such file"),
        ("latin.csv", b"track_id\n\xe9", "not UTF-8 text"),
        ("nothing", {}, "a folder without label files"),
        ("others", {"a.pfsx": b""}, "a folder without label files"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_reason(
    tmp_path: Path, name: str, content: bytes | dict[str, bytes] | None, words: str
) -> None:
    file = tmp_path / name
    if isinstance(content, dict):
        file.mkdir()
        for inner, data in content.items():
            (file / inner).write_bytes(data)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(LabelError, match=words) as told:
        labels.read_files([file], None)
    assert "Errno" not in str(told.value)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two sources, with timelines of every state."""
    root = tmp_path_factory.mktemp("two")
    go(write_sources(root / "in", a=GOOD, b={**GOOD, "duration_s": 7.0}), root / "out")
    store, sources = Store(str(root / "out")), set(Dataset(str(root / "out")).table(t.TRACKS)["source_id"].to_pylist())
    for sid in sources:
        rows = [
            filled(
                t.TIMELINE, source_id=sid, track_id=f"{sid}-t0000", start_s=float(n), end_s=n + 1.0, state=state,
                partner=None,
            )
            for n, state in enumerate(("speak", "both", "listen", "idle"))
        ]  # fmt: skip
        store.write_table(table_file(t.TIMELINE, sid), t.TIMELINE, t.TIMELINE.from_rows(rows))
    return root / "out"


@pytest.fixture
def data(two: Path, tmp_path: Path) -> Dataset:
    return Dataset(str(shutil.copytree(two, tmp_path / "data")))


@pytest.mark.parametrize(("form", "name"), [(f, f"c{s}") for s, f in SUFFIXES.items()])
def test_what_was_exported_and_not_changed_changes_nothing(
    data: Dataset, tmp_path: Path, form: Format, name: str
) -> None:
    out = tmp_path / name
    labels.export(data, out, form)
    assert out.is_dir() == (form in ("elan", "audacity"))
    entries = labels.read_files([out], None)
    assert len({e.track_id for e in entries}) == 2
    assert labels.take_in(data, entries, "Bob", changes_only=True) == labels.Imported(0, 0, 0)


def test_a_turn_of_rttm_is_a_change_where_nobody_speaks(data: Dataset, tmp_path: Path) -> None:
    track = labels.timeline(data)[0].track_id
    file = tmp_path / "r.rttm"
    file.write_text(
        "".join(f"SPEAKER x 1 {n} 1.0 <NA> <NA> {track} <NA> <NA>\n" for n in range(4)).replace("x", track[:16])
    )
    assert labels.take_in(data, labels.read_files([file], None), "Bob", changes_only=True).added == 2
    got = {(r["start_s"], r["state"]) for r in data.table(t.LABELS).to_pylist()}
    assert got == {(2.0, "speak"), (3.0, "speak")}
    both = [Entry(track, 1.0, 2.0, "speak")]  # of a format that tells `both` from `speak`
    assert labels.take_in(data, both, "Ann", changes_only=True).added == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Entry("{t}", 1.0, 99.0, "idle", where="l 2"), "l 2: 1-99 s lies outside of"),
        (Entry("{t}9", 1.0, 2.0, "idle", where="l 2"), "l 2: unknown track"),
        (Entry("{t}", 1.0, 2.0, "idle", "nobody.mp4", where="l 2"), "l 2: unknown source"),
        (Entry("{t}", 0.5, 2.0, "idle", where="l 2"), "overlaps"),
        (Entry("{t}", 1.0, 2.0, "idle", partner="banana"), "l 2: unknown partner 'banana'; write track:ID or voice:ID"),
        (Entry("{t}", 1.0, 2.0, "idle", partner="track:" + "f" * 16), "l 2: unknown partner"),
        (Entry("{t}", 1.0, 2.0, "idle", partner="track:{t}"), "l 2: partner .* is the person themself"),
        (Entry("{t}9", 1.0, 2.0, "idle", center_x=5.0, center_y=-3.0), "l 2: center_x 5, center_y -3 is outside"),
    ],
)
def test_one_wrong_label_leaves_nothing_behind(tmp_path: Path, wrong: Entry, words: str) -> None:
    go(write_sources(tmp_path / "in", a=GOOD), tmp_path / "out")
    data = Dataset(str(tmp_path / "out"))
    name = str(data.table(t.TRACKS)["track_id"][0])
    partner = wrong.partner and wrong.partner.format(t=name)
    bad = replace(wrong, track_id=wrong.track_id.format(t=name), partner=partner, where="l 2")
    with pytest.raises(LabelError, match=words):
        labels.take_in(data, [Entry(name, 0.0, 1.0, "idle", where="l 1"), bad], "Ann")
    assert data.table(t.LABELS).num_rows == 0
    assert np.isfinite(bad.end_s)


def test_a_partner_of_the_same_source_is_taken(data: Dataset) -> None:
    track = labels.timeline(data)[0].track_id
    sid = track[:16]
    voice = filled(t.TURNS, source_id=sid, speaker_id=f"{sid}-v0", start_s=0.0, end_s=1.0)
    data.store.write_table(table_file(t.TURNS, sid), t.TURNS, t.TURNS.from_rows([voice]))
    named = [
        Entry(track, float(n), n + 1.0, "listen", partner=p) for n, p in enumerate(("off_screen", f"voice:{sid}-v0"))
    ]
    assert labels.take_in(data, named, "Ann").added == 2
    assert labels.take_in(data, labels.timeline(data, sid), "Bob", changes_only=True).added == 0


def test_elan_is_given_the_words_as_people_corrected_them(data: Dataset, tmp_path: Path) -> None:
    track = labels.timeline(data)[0].track_id
    sid = track[:16]
    heard = [
        filled(t.WORDS, source_id=sid, n=n, start_s=a, end_s=a + 0.4, word=w, guess=w, speaker_id="v")
        for n, (a, w) in enumerate(((0.0, "wreck"), (1.0, "beach")))
    ]
    data.store.write_table(table_file(t.WORDS, sid), t.WORDS, t.WORDS.from_rows(heard))
    said = filled(t.WORD_LABELS, source_id=sid, start_s=1.0, end_s=1.4, word="speech")
    data.store.write_table(table_file(t.WORD_LABELS, sid), t.WORD_LABELS, t.WORD_LABELS.from_rows([said]))
    labels.export(data, tmp_path / "x.eaf", "elan", sid)
    words = Eaf(tmp_path / "x.eaf").get_annotation_data_for_tier("words v")
    assert words == [(0, 400, "wreck"), (1000, 1400, "speech")]


def test_labels_where_nobody_is_seen_are_counted(data: Dataset) -> None:
    track = t.TRACKS.rows(data.table(t.TRACKS))[0]
    far = (track.center_x + 0.5) % 1
    placed = [
        Entry("here", 0.0, 1.0, "idle", track.source_id, center_x=track.center_x, center_y=track.center_y),
        Entry("far", 0.0, 1.0, "idle", track.source_id, center_x=far, center_y=track.center_y),
    ]
    assert labels.take_in(data, placed, "Ann") == labels.Imported(2, 0, 1, nowhere=1)


@pytest.mark.parametrize(("form", "name"), [(f, f"c{s}") for s, f in SUFFIXES.items()])
def test_labels_at_a_place_come_back_though_no_track_has_their_id(
    data: Dataset, tmp_path: Path, form: Format, name: str
) -> None:
    """Most formats tell no place, and two sources may have one id."""
    sources = sorted({e.source_id for e in labels.timeline(data)})
    spans = (("anna", 0.0, 1.0), ("anna", 2.0, 3.0), ("ben", 0.5, 2.5))
    placed = [
        Entry(who, a, b, "speak", sid, center_x=0.9, center_y=0.1 * n + a / 10)
        for n, sid in enumerate(sources, 1)
        for who, a, b in spans
    ]
    assert labels.take_in(data, placed, "Ann").added == 6
    labels.export(data, tmp_path / name, form)
    entries = labels.read_files([tmp_path / name], None)
    assert sum(e.track_id in ("anna", "ben") for e in entries) == 6
    assert labels.take_in(data, entries, "Bob", changes_only=True) == labels.Imported(0, 0, 0)
    assert labels.take_in(data, [e for e in entries if e.track_id in ("anna", "ben")], "Bob").added == 6
    rows = t.LABELS.rows(data.table(t.LABELS))
    found = [
        sorted((r.source_id, r.track_id, r.start_s, r.end_s, r.center_x, r.center_y) for r in rows if r.author == who)
        for who in ("Ann", "Bob")
    ]
    assert found[0] == found[1]


def test_an_id_of_several_sources_is_told_where_the_file_names_none(data: Dataset, tmp_path: Path) -> None:
    sources = sorted({e.source_id for e in labels.timeline(data)})
    labels.take_in(
        data, [Entry("anna", 0.0, 1.0, "idle", sid, center_x=0.5, center_y=0.5) for sid in sources], "Ann"
    )  # fmt: skip
    file = tmp_path / "one.txt"
    file.write_text("0.0\t1.0\tanna:speak\n")
    with pytest.raises(LabelError, match=rf"labels of 2 sources are under 'anna'; .*NAME\.{sources[0]}\.SUFFIX"):
        labels.take_in(data, labels.read_files([file], None), "Bob")
    with pytest.raises(LabelError, match="begins as ELAN's tiers of what is heard do"):
        labels.take_in(data, [Entry("voice of Ann", 0.0, 1.0, "idle", sources[0], center_x=0.5, center_y=0.5)], "Bob")
