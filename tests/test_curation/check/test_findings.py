"""Each finding on made tables: a healthy clip gives none, and each defect gives its own and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from foreign_case import Foreign

from curation.check import result
from curation.check.errors import CheckError
from curation.check.limits import Limits, limits_from
from curation.check.page import render
from curation.check.rules import FINDINGS, QUESTIONS
from curation.dataset import Dataset
from schemas import tables as t
from schemas.table import Table

Spoil = Callable[[Foreign, str], None]


def _face(f: Foreign, clip: str, identity: str, vector: list[float]) -> None:
    f.declare(clip, identity=identity)
    sid = f.id(clip)
    f.add(t.FACE_EMBEDDINGS, track_id=f"{sid}-t0000", source_id=sid, k=0, embedding=vector, annotator="net")


def _second(f: Foreign, clip: str, start_s: float, end_s: float, identity: str = "q") -> None:
    sid = f.id(clip)
    f.add(
        t.TRACKS, track_id=f"{sid}-t0001", source_id=sid, start_s=start_s, end_s=end_s, duration_s=end_s - start_s,
        visible_ratio=1.0, face_area=0.05, median_face_px=70.0,
    )  # fmt: skip
    for track, who in (("t0000", "p"), ("t0001", identity)):
        f.add(t.TRACK_IDENTITIES, track_id=f"{sid}-{track}", source_id=sid, identity_id=who, annotator="linkage")


def _after_cut(f: Foreign, clip: str, identity: str) -> None:
    f.change(t.TRACKS, clip, end_s=2.0, duration_s=2.9)
    _second(f, clip, 2.0, 4.8, identity)


def _levels(f: Foreign, clip: str, speak_db: float, listen_db: float, state: str | None = None) -> None:
    f.declare(clip, tracks=True, declared_state=state)
    for channel, level in ((0, speak_db), (1, listen_db)):
        for k in range(125):
            f.add(t.CHANNEL_FRAMES, source_id=f.id(clip), channel=channel, k=k, level_db=level)


def _declare(**values: object) -> Spoil:
    return lambda f, clip: f.declare(clip, **values)


def _measure(table: Table[Any], **values: object) -> Spoil:
    return lambda f, clip: f.change(table, clip, **values)


SPOILT: tuple[tuple[str, Spoil], ...] = (
    ("wrong_rate", _declare(declared_fps=30.0)),
    ("wrong_rate", _declare(declared_rate_hz=16000.0)),
    ("wrong_rate", _declare(declared_duration_s=6.0)),
    ("wrong_rate", _declare(declared_n_frames=150.0)),
    ("wrong_rate", _measure(t.SOURCES, audio_duration_s=6.0)),
    ("silent_track", _measure(t.SOURCES, has_audio=False)),
    ("silent_track", _measure(t.AUDIO, silence_ratio=1.0)),
    ("silent_track", _measure(t.TIMELINE, state="discard", reason="lips_without_voice")),
    ("silent_track", lambda f, clip: _levels(f, clip, -20.0, -90.0, "both")),
    ("swapped_tracks", lambda f, clip: _levels(f, clip, -90.0, -20.0)),
    ("offset", _measure(t.SYNC, offset_ms=200.0)),
    ("offset", _measure(t.SYNC, offset_ms=-200.0)),
    ("cut", lambda f, clip: f.add(t.CUTS, source_id=f.id(clip), t_s=2.0, annotator="jump-cut-heuristic")),
    ("two_people", lambda f, clip: _second(f, clip, 0.0, 5.0)),
    ("two_people", lambda f, clip: _after_cut(f, clip, "q")),
    ("dubbed", _measure(t.TIMELINE, state="discard", reason="foreign_voice")),
    ("duplicate", _measure(t.DUPLICATES, near_duplicate_of=Foreign.id("a"), distance=0.01)),
    ("no_face", _measure(t.TRACKS, visible_ratio=0.0)),
    ("unreadable", _declare(reason="no video among its members")),
    ("unreadable_metadata", _declare(facts_error="a.json: Expecting value")),
)
HARMLESS: tuple[Spoil, ...] = (
    lambda f, clip: _jerk(f, clip),
    _measure(t.SOURCES, fps=24.98),
    _measure(t.SYNC, offset_ms=300.0, own_voice=0.2),  # somebody else's voice: no offset of theirs
    _measure(t.SYNC, offset_ms=300.0, evidence_s=1.0),
    lambda f, clip: _levels(f, clip, -20.0, -90.0),
    lambda f, clip: _second(f, clip, 4.8, 5.0),
    lambda f, clip: _after_cut(f, clip, "p"),
    _declare(declared_state="listen"),
)


def _jerk(f: Foreign, clip: str) -> None:
    f.add(t.CUTS, source_id=f.id(clip), t_s=2.0, annotator="jump-cut-heuristic")
    f.add(t.FRAMES, source_id=f.id(clip), k=0, camera_motion=0.05)


NAMES = "abcdefghijklmnopqrstuvwxyz"


def test_a_defect_is_found_by_its_name_and_nothing_else_is(tmp_path: Path) -> None:
    f = Foreign(tmp_path, NAMES[: len(SPOILT)] + "z")
    for clip, (_, spoil) in zip(NAMES, SPOILT, strict=False):
        spoil(f, clip)
    done = f.check()
    wanted = {(clip, finding) for clip, (finding, _) in zip(NAMES, SPOILT, strict=False)}
    assert {(x.clip, x.finding) for x in done.findings} == wanted and len(done.findings) == len(SPOILT)
    assert (done.found, done.checked, done.unreadable) == (len(SPOILT) + 1, len(SPOILT), 1)
    assert all(x.says and "{" not in x.says for x in done.findings)
    assert [x.finding for x in done.findings if x.heuristic] == ["cut"]


def test_every_finding_is_spoilt_here() -> None:
    assert {q.finding for q in QUESTIONS} - {"wrong_identity"} <= {finding for finding, _ in SPOILT}
    assert all(not q.limit or q.limit in Limits.model_fields for q in QUESTIONS)


def test_a_healthy_clip_and_what_is_within_limits_or_unsure_have_no_finding(tmp_path: Path) -> None:
    f = Foreign(tmp_path, NAMES[: len(HARMLESS)] + "z")
    for clip, spoil in zip(NAMES, HARMLESS, strict=False):
        spoil(f, clip)
    assert f.found() == set()


def test_a_rate_that_most_clips_have_is_the_datasets_own(tmp_path: Path) -> None:
    f = Foreign(tmp_path / "one", "abcdef")
    for clip in f.clips:
        clip["declared_fps"] = None
    f.change(t.SOURCES, "a", fps=30.0)
    assert f.found() == {("a", "wrong_rate")}
    few = Foreign(tmp_path / "two", "abc")
    for clip in few.clips:
        clip["declared_fps"] = None
    few.change(t.SOURCES, "a", fps=30.0)
    assert few.found() == set()


def test_the_same_bytes_twice_are_one_source_and_two_clips(tmp_path: Path) -> None:
    f = Foreign(tmp_path)
    f.add(t.INPUTS, path="/c.mp4", source_id=f.id("a"), name="c.mp4")
    f.clips.append({"clip": "c", "path": "/c.mp4", "tracks": False})
    done = f.check()
    assert [(x.clip, x.other, x.finding) for x in done.findings] == [("c", "a", "duplicate")]
    assert (done.found, done.checked) == (3, 3)


def test_exchanged_labels_are_found_and_right_ones_are_not(tmp_path: Path) -> None:
    f = Foreign(tmp_path, "abcdefg")
    for clip, identity, vector in (
        ("a", "anna", [1.0, 0.0]), ("b", "anna", [0.99, 0.05]), ("c", "anna", [0.98, 0.1]),
        ("d", "bea", [0.0, 1.0]), ("e", "bea", [0.05, 0.99]), ("f", "bea", [0.1, 0.98]),
        ("g", "anna", [0.02, 0.99]),
    ):  # fmt: skip
        _face(f, clip, identity, vector)
    done = f.check(same_face=0.75, other_face=1.1)
    assert [(x.clip, x.expected, x.finding) for x in done.findings] == [("g", "anna", "wrong_identity")]
    assert done.findings[0].other in {"d", "e", "f"}


def test_one_id_of_two_people_is_found_where_neither_is_known_otherwise(tmp_path: Path) -> None:
    f = Foreign(tmp_path)
    _face(f, "a", "anna", [1.0, 0.0])
    _face(f, "b", "anna", [-1.0, 0.0])
    assert f.found() == {("a", "wrong_identity"), ("b", "wrong_identity")}


def test_a_face_with_the_voice_of_somebody_else_is_dubbed(tmp_path: Path) -> None:
    f = Foreign(tmp_path, "abcd")
    for clip, voice in (("a", [1.0, 0.0]), ("b", [0.9, 0.3]), ("c", [0.95, 0.2]), ("d", [0.0, 1.0])):
        _face(f, clip, "anna", [1.0, 0.0])
        sid = f.id(clip)
        f.add(t.TRACK_IDENTITIES, track_id=f"{sid}-t0000", source_id=sid, identity_id="p", annotator="linkage")
        f.add(t.SPEAKERS, speaker_id=f"{sid}-v00", source_id=sid, speech_s=4.0, embedding=voice, annotator="net")
    assert f.found() == {("d", "dubbed")}


def test_copies_move_alike_and_other_takes_do_not(tmp_path: Path) -> None:
    f = Foreign(tmp_path, "abc")
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 125, 4))
    for clip, moves in (("a", first), ("b", first + 0.05 * rng.normal(size=first.shape)), ("c", other)):
        sid = f.id(clip)
        f.add(t.TRACKLETS, tracklet_id=f"{sid}-w0-0", source_id=sid, track_id=f"{sid}-t0000")
        for k, (mouth, eye, yaw, pitch) in enumerate(moves.tolist()):
            values = {"mouth_open": mouth, "eye_open": eye, "yaw_deg": yaw, "pitch_deg": pitch}
            f.add(t.FACE_FRAMES, source_id=sid, tracklet_id=f"{sid}-w0-0", k=k, has_mesh=True, **values)
    f.change(t.DUPLICATES, "b", near_duplicate_of=f.id("a"))
    f.change(t.DUPLICATES, "c", near_duplicate_of=f.id("a"))
    assert f.found() == {("b", "duplicate")}


def test_what_a_check_leaves_can_be_read_again(tmp_path: Path) -> None:
    f = Foreign(tmp_path / "dataset")
    f.change(t.SYNC, "a", offset_ms=200.0)
    f.declare("b", reason="<script>alert(1)</script>\x1b[2J")
    done = f.check()
    told = result.summary(done, {("fps", "frame_rate"): 2}, {".txt": 1})
    assert told.found == told.checked + told.unreadable == 2 and told.without_finding == 0
    text = result.as_json(done, told, Limits())
    result.write(tmp_path, done, text)
    rows = pq.read_table(tmp_path / result.FINDINGS).to_pylist()
    assert [(r["clip"], r["finding"], r["value"], r["threshold"]) for r in rows] == [
        ("a", "offset", 200.0, 140.0),
        ("b", "unreadable", None, None),
    ]
    assert pq.read_table(tmp_path / result.CLIPS).num_rows == 2
    page = render(Dataset(tmp_path / "dataset"), "theirs", done, told, Limits())
    assert "<script" not in page and "\x1b" not in page and "+200 ms" in page


def test_limits_are_named_and_checked() -> None:
    assert limits_from(["offset_ms=80"], same_face=0.3).model_dump()["offset_ms"] == 80.0
    with pytest.raises(CheckError, match="there are: rate_gap"):
        limits_from(["offset=80"])
    with pytest.raises(CheckError, match="offset_ms"):
        limits_from(["offset_ms=soon"])
    assert FINDINGS[0] == "unreadable"
