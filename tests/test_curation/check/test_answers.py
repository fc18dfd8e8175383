"""Answers about one file, from made tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_case import Foreign

from curation.check import answers
from curation.dataset import Dataset, DatasetError
from schemas import tables as t


def test_sync_states_and_people_of_one_file(tmp_path: Path) -> None:
    f = Foreign(tmp_path / "set", "a")
    sid, tid = f.id("a"), f"{f.id('a')}-t0000"
    f.add(t.TRACK_IDENTITIES, track_id=tid, source_id=sid, identity_id="p-1", annotator="linkage")
    f.add(t.TRACKLETS, tracklet_id=f"{sid}-w0-0", source_id=sid, track_id=tid)
    for k, quality in ((0, 0.2), (25, 0.9)):
        f.add(t.PORTRAITS, source_id=sid, tracklet_id=f"{sid}-w0-0", k=k, image=f"jpeg {k}".encode())
        f.add(t.FACE_EMBEDDINGS, source_id=sid, track_id=tid, k=k, embedding=[1.0], quality=quality)
    f.check()
    dataset = Dataset(tmp_path / "set")
    sync = answers.sync(dataset)
    assert sync.best is not None and sync.faces == [sync.best]
    assert (sync.best.offset_ms, sync.best.confidence, sync.best.person) == (20.0, 0.5, "t0000")
    (timeline,) = answers.states(dataset)
    assert timeline.seconds == {"speak": 5.0} and timeline.runs[0].reason == "synced_voice"
    (person,) = answers.people(dataset, tmp_path / "portraits")
    assert (person.person, person.seen_s, [p.track for p in person.places]) == ("p-1", 5.0, ["t0000"])
    assert Path(str(person.portrait)).read_bytes() == b"jpeg 25", "the best portrait"
    answers.refuse_unreadable(dataset)


def test_no_face_has_no_offset_and_a_broken_file_its_reason(tmp_path: Path) -> None:
    f = Foreign(tmp_path, "a")
    f.rows[t.TRACKS], f.rows[t.SYNC] = [], []
    f.add(t.ERRORS, source_id=f.id("a"), unit_id=f.id("a"), stage="probe", message="it is no video; copy it again")
    assert f.found() == {("a", "unreadable")}
    assert answers.sync(Dataset(tmp_path)).best is None
    with pytest.raises(DatasetError, match="copy it again"):
        answers.refuse_unreadable(Dataset(tmp_path))
