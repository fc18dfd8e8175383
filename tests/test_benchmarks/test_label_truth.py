"""`accuracy.py --truth labels` to its end: everything that can be corrected, against the machine alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import correct_case as case
import label_truth
import pytest

from curation.engine.run import locked
from curation.labels import corrections, identities

ROOT = Path(__file__).resolve().parents[2]


def scored(out: Path, found: Path) -> tuple[str, dict[str, Any]]:
    command = [sys.executable, ROOT / "benchmarks" / "accuracy.py", "--dataset", out, "--truth", "labels"]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests' / 'support'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--json", found], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, json.loads(found.read_text())


@pytest.mark.slow
def test_what_people_said_of_everything_is_held_against_the_machine_alone(tmp_path: Path) -> None:
    out, found = tmp_path / "out", tmp_path / "found.json"
    data = case.go(out, *(case.video(tmp_path / f"{s}.mp4", s) for s in (12.0, 12.4)), workflow=case.MET)
    left, _, other, _ = [x for (x,) in data.query("SELECT track_id FROM tracks ORDER BY 1").fetchall()]
    source = left[:16]
    names = dict(data.query("SELECT track_id, identity_id FROM track_identities").fetchall())
    said, _ = scored(out, found)
    assert "no human labels in this dataset" in said
    corrections.states(data, left, [(0.0, 2.0, "speak"), (2.0, 3.0, "idle")], "ann")  # of 75 frames 25 were wrong
    corrections.voice(data, f"{source}-v0", 1.0, left, "ann")  # as the machine has it
    corrections.voice(data, f"{source}-v1", 5.0, None, "ann")  # it gave this one to the face on the right
    corrections.word(data, source, 0.2, 0.7, "word0", "ann")
    corrections.word(data, source, 1.2, 1.7, "another", "ann")
    corrections.cut(data, source, None, 6.0, "ann")
    with locked(data.store):
        identities.merge(data, names[left], names[other], "ann", min_overlap_s=identities.min_overlap_s(data))
    for again in (False, True):  # what a run makes of the labels does not count as the machine's
        if again:
            case.go(out, workflow=case.MET)
            with locked(data.store):
                one = dict(data.query("SELECT track_id, identity_id FROM track_identities").fetchall())[other]
                identities.split(data, one, {other}, "ben")
        said, counted = scored(out, found)
        assert "accuracy 0.6667 over 75 frames" in said and counted["accuracy"] == pytest.approx(2 / 3)
        assert counted["voices"] == {"right": 1, "labels": 2} and counted["words"] == {"right": 1, "labels": 2}
        assert counted["cuts"] == {"right": 0, "labels": 1, "missed": 1, "wrong": 0}
        assert counted["people"] == {"taken_for_two": 1, "taken_for_one": int(again)}
        assert "cuts: 0 of 1 right" in said and "people: 1 taken for two" in said


def test_of_captions_each_field_counts_once_by_the_newest_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = case.go(tmp_path / "out", case.video(tmp_path / "talk.mp4"))
    clip = data.query("SELECT min(segment_id) FROM segments WHERE state = 'speak'").fetchall()[0][0]
    found = {"caption": "Somebody, here.", "hair": "grey"}
    monkeypatch.setattr(label_truth, "machine_captions", lambda dataset, source_id: {clip: found})
    assert label_truth.captions_right(data) == {"right": 0, "labels": 0}
    corrections.caption(data, clip, "prose", "somebody here", "ann")
    corrections.caption(data, clip, "hair", "blond", "ann")
    assert label_truth.captions_right(data) == {"right": 1, "labels": 2}
    corrections.caption(data, clip, "hair", "grey", "ben")
    assert label_truth.captions_right(data) == {"right": 2, "labels": 2}
