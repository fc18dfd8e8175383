"""Voices to faces: the assignment on synthetic evidence."""

from __future__ import annotations

import table_rows

from schemas import tables as t
from schemas.tables.attribution import BindingRow
from stages.attribution.assign import assign, contested
from stages.attribution.attribution import solo_frames

SHOTS = {"left": "s0", "right": "s0", "other": "s1"}


def row(speaker: str, track: str, score: float, heard_s: float = 3.0) -> BindingRow:
    strength = (heard_s if score > 0 else 0.0) / (heard_s + 0.5)
    return table_rows.row(
        t.BINDINGS, speaker_id=speaker, track_id=track, asd_mean=score, heard_s=heard_s, strength=strength
    )


def bound(rows: list[BindingRow]) -> set[tuple[str, str]]:
    pairs = assign(rows, SHOTS, 0.5, 0.3)
    return {(p.speaker_id, p.track_id) for p in pairs if not contested(p, pairs, rows, SHOTS, 1.0, 0.5)}


def test_a_voice_belongs_to_the_face_that_speaks() -> None:
    assert bound([row("v0", "left", 3.4), row("v0", "right", -1.0)]) == {("v0", "left")}


def test_two_voices_get_the_assignment_that_fits_both() -> None:
    rows = [row("v0", "left", 3.0), row("v0", "right", 1.0), row("v1", "left", 1.5), row("v1", "right", 3.0)]
    assert bound(rows) == {("v0", "left"), ("v1", "right")}


def test_two_mouths_that_move_alike_leave_a_voice_contested() -> None:
    assert bound([row("v0", "left", 3.0), row("v0", "right", 2.8)]) == set()


def test_a_voice_over_still_faces_is_off_screen() -> None:
    assert bound([row("v0", "left", -1.0), row("v0", "right", -2.0)]) == set()


def test_a_voice_keeps_a_face_in_each_shot() -> None:
    assert bound([row("v0", "left", 3.0), row("v0", "other", 2.5)]) == {("v0", "left"), ("v0", "other")}


def test_overlapped_speech_is_nobodys_evidence() -> None:
    turns = [table_rows.row(t.TURNS, speaker_id=v, start_s=a, end_s=a + 2.0) for v, a in (("a", 0.0), ("b", 1.0))]
    solo = solo_frames(turns)
    assert solo["a"] == set(range(25)) and solo["b"] == set(range(50, 75))
