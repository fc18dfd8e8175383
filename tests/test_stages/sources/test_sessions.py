"""Sessions: partners across files, leaked voices, quiet microphones, and lists that name odd sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from session_factory import Bytes, conversation
from table_rows import row, source_row

from curation.engine.register import expand
from curation.memory import MemoryInputs, run_chain
from curation.pack.pack import across_files, kept_sides, pair_status
from curation.stage import WorkItem
from schemas import tables as t
from schemas.table import Table
from stages.sources.sessions import Sessions, SessionsSettings, members

A, B, C = "a" * 16, "b" * 16, "c" * 16
Runs = list[tuple[float, float, str]]


def tables(signatures: dict[str, Bytes], runs: dict[str, Runs], session: str | None = "call") -> dict[Table, Any]:
    """Return tables of one face a file whose segments are its runs of states."""
    timeline, segments, sounds = [], [], []
    for source, spans in runs.items():
        track = f"{source}-t0000"
        for start_s, end_s, state in spans:
            span = {"source_id": source, "track_id": track, "start_s": start_s, "end_s": end_s, "state": state}
            timeline.append(row(t.TIMELINE, **span))
            voice = f"voice:{source}-v00" if state == "listen" else None
            pair = f"{source}-p0000" if voice else None
            name = f"{track}-{round(start_s * 1000):08d}"
            segments.append(row(t.SEGMENTS, segment_id=name, partner=voice, pair_id=pair, **span))
    for source, levels in signatures.items():
        for n in range(0, len(levels), 1000):
            part = {"source_id": source, "n": n // 1000, "levels": levels[n : n + 1000].tobytes()}
            sounds.append(row(t.SOUND_SIGNATURES, **part))
    made = {
        t.INPUTS: [row(t.INPUTS, path=f"/{s}.mp4", source_id=s, session=session) for s in runs],
        t.SOURCES: [source_row(s) for s in runs],
        t.TIMELINE: timeline,
        t.SEGMENTS: segments,
        t.SOUND_SIGNATURES: sounds,
    }
    return {table: [table.from_rows(rows)] for table, rows in made.items()}


def run(parts: dict[Table, list[pa.Table]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return SESSIONS rows by source and SESSION_PAIRS rows by segment."""
    out = Sessions(SessionsSettings()).run(WorkItem(), MemoryInputs(Path(), parts)).tables
    return (
        {r["source_id"]: r for r in out[t.SESSIONS].to_pylist()},
        {r["segment_id"]: r for r in out[t.SESSION_PAIRS].to_pylist()},
    )


def alternating(length_s: float, offset_s: float, first: bool) -> Runs:
    """Return five-second turns; the second file's are moved by its offset."""
    out = []
    for i, start_s in enumerate(np.arange(0.0, length_s, 5.0) - offset_s):
        a, b = max(0.0, float(start_s)), min(length_s, float(start_s) + 5.0)
        if b - a > 0:
            out.append((a, b, "speak" if (i % 2 == 0) == first else "listen"))
    return out


def test_listeners_are_paired_with_who_speaks_in_the_other_file() -> None:
    first, second = conversation(1, 60.0, 2.0, 0.0, -25.0)
    files, pairs = run(
        tables({A: first, B: second}, {A: alternating(60.0, 0.0, True), B: alternating(60.0, 2.0, False)})
    )
    assert files[B]["offset_s"] == pytest.approx(2.0, abs=0.01)
    assert (files[A]["method"], files[B]["method"]) == ("reference", "sound")
    assert files[B]["reference_source_id"] == A
    assert {r["session_partner_track_id"] for r in pairs.values() if r["source_id"] == A} == {f"{B}-t0000"}
    by_exchange: dict[str, set[str]] = {}
    for r in pairs.values():
        by_exchange.setdefault(r["session_pair_id"], set()).add(r["source_id"])
        assert r["session_reason"] in ("partner_speaks", "partner_listens")
    assert all(sides == {A, B} for sides in by_exchange.values())


def test_a_leaked_voice_is_not_the_listeners() -> None:
    # The second person never speaks; the first one's voice, 30 dB fainter, was taken for theirs.
    rng = np.random.default_rng(0)
    first, _ = conversation(3, 20.0, 0.0, 0.0, -300.0)
    faint = np.maximum(first.astype(int) - 60, rng.integers(60, 70, first.shape)).astype(np.uint8)[150:]
    _, pairs = run(tables({A: first, B: faint}, {A: [(0.0, 20.0, "speak")], B: [(0.0, 18.5, "speak")]}))
    leaked, speaker = pairs[f"{B}-t0000-00000000"], pairs[f"{A}-t0000-00000000"]
    assert (leaked["session_state"], leaked["session_reason"]) == ("listen", "leaked_voice")
    assert leaked["level_gap_db"] < -15 and leaked["sound_match"] > 0.35
    assert speaker["session_state"] == "speak" and speaker["session_partner_track_id"] == f"{B}-t0000"
    assert leaked["session_pair_id"] == speaker["session_pair_id"]


def test_idle_under_a_voice_that_only_the_other_microphone_got_is_listening() -> None:
    first, second = conversation(4, 40.0, 1.0, 0.0, -25.0)
    files = {A: [(0.0, 40.0, "speak")], B: [(0.0, 20.0, "idle"), (20.0, 40.0, "discard")]}
    _, pairs = run(tables({A: first, B: second}, files))
    assert pairs[f"{B}-t0000-00000000"]["session_state"] == "listen"
    assert f"{B}-t0000-00020000" not in pairs


def test_two_who_speak_at_once_each_in_their_own_microphone_both_speak() -> None:
    first, second = conversation(5, 40.0, 0.0, 0.0, -25.0)
    _, pairs = run(tables({A: first, B: second}, {A: [(0.0, 40.0, "speak")], B: [(0.0, 40.0, "speak")]}))
    assert pairs == {}


def test_headphones_leave_no_evidence_and_no_pairs() -> None:
    first, second = conversation(6, 120.0, 3.0, 0.0, -300.0)
    runs = {A: alternating(120.0, 0.0, True), B: alternating(120.0, 3.0, False)}
    files, pairs = run(tables({A: first, B: second}, runs))
    assert pairs == {}
    assert {(r["method"], r["offset_s"]) for r in files.values()} == {("unrelated", None)}
    assert all(r["confidence"] < 0.6 for r in files.values())


def test_three_files_of_which_one_is_of_something_else() -> None:
    first, second = conversation(8, 60.0, -4.0, 0.0, -20.0)
    other, _ = conversation(9, 60.0, 0.0, 0.0, -20.0)
    runs = {A: [(0.0, 60.0, "speak")], B: [(0.0, 60.0, "listen")], C: [(0.0, 60.0, "listen")]}
    files, pairs = run(tables({A: first, B: second, C: other}, runs))
    assert {s: r["method"] for s, r in files.items()} == {A: "reference", B: "sound", C: "unrelated"}
    assert {r["source_id"] for r in pairs.values()} == {A, B}


def test_no_session_a_lone_file_and_a_file_without_sound() -> None:
    first, _ = conversation(2, 10.0, 0.0, 0.0, -20.0)
    assert run(tables({A: first}, {A: [(0.0, 10.0, "speak")]}, session=None)) == ({}, {})
    files, pairs = run(tables({A: first}, {A: [(0.0, 10.0, "speak")]}))
    assert (files[A]["method"], files[A]["confidence"], pairs) == ("alone", None, {})
    files, _ = run(tables({A: first}, {A: [(0.0, 10.0, "speak")], B: [(0.0, 10.0, "listen")]}))
    assert files[B]["method"] == "no_sound" and files[A]["method"] == "unrelated"


def test_the_same_file_twice_counts_once(media: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    clip = media / "session_talker.mp4"
    (tmp_path / "copy.mp4").write_bytes(clip.read_bytes())
    listed.write_text(f"path,session\n{clip},call\n{clip},call\n{tmp_path / 'copy.mp4'},call\n")
    named = expand([str(listed)])
    assert [n.session for n in named] == ["call", "call"]
    rows = [row(t.INPUTS, path=n.path, source_id=A, session=n.session) for n in named]
    assert members(rows) == {"call": [A]}
    assert members([*rows, row(t.INPUTS, path="/z", source_id=A, session="other")]) == {"call": [A]}


def test_the_dataset_takes_partner_and_exchange_from_the_session() -> None:
    seg = row(t.SEGMENTS, segment_id="s", track_id="x", partner="voice:v", pair_id="old", state="listen")
    across = {"session_partner": "track:y", "session_partner_track_id": "y", "session_pair_id": "new"}
    laid = across_files(seg, {"s": row(t.SESSION_PAIRS, segment_id="s", **across)})
    assert (laid.partner, laid.partner_track_id, laid.pair_id) == ("track:y", "y", "new")
    assert across_files(seg, {}) == seg
    assert pair_status(laid, kept_sides([laid])) == "orphan"


@pytest.mark.slow
def test_footage_of_two_files_is_one_exchange(media: Path) -> None:
    from states_case import stages  # here, since it imports every stage

    truth = json.loads((media / "session.truth.json").read_text())
    parts: dict[Table, list[pa.Table]] = {}
    for source, name in zip((A, B), truth["files"], strict=True):
        for table, found in run_chain(media / name, stages(), source_id=source, duration_s=8.0).items():
            parts.setdefault(table, []).extend(found)
    parts[t.INPUTS] = [t.INPUTS.from_rows(row(t.INPUTS, path=f"/{s}", source_id=s, session="call") for s in (A, B))]
    files, pairs = run(parts)
    assert files[B]["offset_s"] == pytest.approx(truth["second_starts_after_first_seconds"], abs=0.01)
    states = dict(zip((A, B), truth["states"].values(), strict=True))
    assert {r["source_id"]: r["session_state"] for r in pairs.values()} == states
    assert all(r["session_partner"] == f"track:{B if r['source_id'] == A else A}-t0000" for r in pairs.values())
    assert len({r["session_pair_id"] for r in pairs.values()}) == 1
