"""Whole recordings written as samples without pictures: whose sound is where, what goes on, what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import conversations_case as case
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from typer.testing import CliRunner

from curation.dataset import Dataset
from curation.export.samples import ExportError
from curation.storage.store import Store
from lpm_train.batch import Conditioned
from lpm_train.config import Data
from lpm_train.data.chain_loader import ChainLoader, chains_of
from lpm_train.data.loader import Feed
from lpm_train.data.make import Encoders
from lpm_train.data.shards import Shards
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.codec import PatchCodec
from lpm_train.encoders.text import HashedWords
from schemas.samples.sample import Sample
from workflows.cli import app
from workflows.conversations.export import Written, export
from workflows.conversations.samples import Rules

ROOT = Path(__file__).resolve().parents[3]
RULES = Rules(piece_s=6.0, absent_s=5.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return case.write(tmp_path_factory.mktemp("talks"), [case.TALK])


@pytest.fixture(scope="module")
def out(made: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    written(made, folder)
    return folder


def written(dataset: Dataset, folder: Path, **given: Any) -> Written:
    return export(dataset, str(folder), **{"where": None, "rules": RULES, **given})


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "manifest.parquet").to_pylist()


def member(folder: Path, row: dict[str, Any], suffix: str) -> bytes:
    (place,) = (m for m in row["members"] if m["name"] == f"{row['segment_id']}.{suffix}")
    return (folder / "shards" / row["shard"]).read_bytes()[place["offset"] :][: place["size"]]


def heard(folder: Path, row: dict[str, Any], track: str) -> np.ndarray:
    """Return how loud each voice is in each tenth of a second, [2, T]; a sine of 0.2 gives 0.1."""
    wave, rate = soundfile.read(io.BytesIO(member(folder, row, f"{track}.flac")), dtype="float32")
    assert rate == 48_000 and len(wave) == row["n_frames"] * 1920
    steps = wave[: len(wave) // 4800 * 4800].reshape(-1, 4800)
    at_s = np.arange(4800) / 48_000
    waves = [np.exp(2j * np.pi * hz * at_s) for hz in case.PITCH_HZ.values()]
    return np.abs(np.stack([steps @ w for w in waves])) / 4800


def test_both_sides_of_a_conversation_are_written_from_its_sound(out: Path) -> None:
    found = rows(out)
    spans = [(r["segment_id"][17:], r["start_s"], r["end_s"]) for r in found]
    assert spans == [
        ("t0000-w000000", 2, 7), ("t0000-w000001", 7, 12), ("t0000-w000002", 30, 33),
        ("t0001-w000000", 4, 9.48), ("t0001-w000001", 9.48, 15),
    ]  # fmt: skip
    for row in found:
        record = Sample.model_validate_json(member(out, row, "json"))
        said, listened = heard(out, row, "speak") > 0.05, heard(out, row, "listen") > 0.05
        for i in range(len(said[0])):
            at = row["start_s"] + (i + 0.5) / 10
            run = next(r for r in record.states if r.end_s > at - row["start_s"])
            edges = [x for _, *turn in case.TALK.turns for x in turn] + [
                row["start_s"] + x for x in (run.start_s, run.end_s)
            ]
            if any(abs(at - edge) < 0.15 for edge in edges):
                continue
            talks = [any(v == voice and a <= at < b for v, a, b in case.TALK.turns) for voice in case.PITCH_HZ]
            speaks, listens = run.state in ("speak", "both"), run.state in ("listen", "both")
            assert said[:, i].tolist() == [speaks and x for x in talks], (row["segment_id"], at)
            assert listened[:, i].tolist() == [listens and x for x in talks], (row["segment_id"], at)
            if any(talks):  # else it may be a pause that belongs to what goes on around it
                assert [speaks, listens] == talks[:: 1 if row["identity_id"] == "p-0" else -1]


def test_a_sample_has_the_members_of_clips_but_no_pictures(made: Dataset, out: Path) -> None:
    with tarfile.open(next(out.glob("shards/*.tar"))) as tar:
        names = [m.name.partition(".")[2] for m in tar]
    assert names == ["speak.flac", "listen.flac", "json", "ref.jpg", "refs.tar"] * 5
    clips = {r["segment_id"]: r for r in made.query("SELECT * FROM manifest").to_arrow_table().to_pylist()}
    for row in rows(out):
        record = Sample.model_validate_json(member(out, row, "json"))
        like = clips[
            f"{row['track_id']}-{ {0: 2000 if row['start_s'] < 5 else 9000, 1: 5500}[int(row['track_id'][-1])]:08d}"
        ]
        assert (row["caption"], row["identity_id"], row["license"], row["split"]) == (
            like["caption"], like["identity_id"], like["license"], like["split"],
        )  # fmt: skip
        assert (row["width"], row["height"]) == (like["width"], like["height"])
        assert not any(r.overlaps_clip for r in record.references) and record.references
        assert row["member_sha256"] and row["shard_sha256"] and record.video.n_frames == row["n_frames"]
    first = Sample.model_validate_json(member(out, rows(out)[0], "json"))
    assert [(w.word, w.start_s) for w in first.words] == [("Hello", 0.1), ("there.", 0.6), ("Yes.", 4.0)]
    assert first.text == "Hello there. Yes." and first.category == "Conversation"
    assert {r.reason for r in first.states} == {"", "off_screen_heuristic"}  # the made timeline has no reasons


def test_equal_datasets_give_equal_bytes_on_one_process_or_two(made: Dataset, out: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    written(made, again)
    assert contents(again) == contents(out)
    two = case.write(tmp_path, [case.TALK, case.TALK])
    one, more = tmp_path / "one", tmp_path / "more"
    assert start(two, one).wait() == start(two, more, workers=2).wait() == 0
    assert len(list(one.glob("shards/*.tar"))) == 2 and contents(one) == contents(more)


CODE = """
import sys, time
from curation.dataset import Dataset
from workflows.conversations import export as e
from workflows.conversations.samples import Rules
e.SHARD_S, real = 10.0, e.write_members
def slow(*given):
    time.sleep(float(sys.argv[3]))
    return real(*given)
e.write_members = slow
e.export(Dataset(sys.argv[1]), sys.argv[2], None, Rules(6.0, 5.0), int(sys.argv[4]))
"""


def start(dataset: Dataset, folder: Path, wait_s: float = 0.0, workers: int = 1) -> subprocess.Popen[bytes]:
    """Start an export in a process of its own, a recording a shard, with a pause before each sample."""
    command = [sys.executable, "-c", CODE, dataset.store.uri, str(folder), str(wait_s), str(workers)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_what_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = case.write(tmp_path, [case.TALK, case.TALK, case.TALK])
    monkeypatch.setattr("workflows.conversations.export.SHARD_S", 10.0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    written(dataset, whole)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(dataset, cut, report=stop)
    assert not (cut / "manifest.parquet").exists()
    before = {f: f.stat().st_mtime_ns for f in cut.glob("shards/*.tar")}
    assert len(before) == 2
    assert written(dataset, cut).samples == 15 and contents(cut) == contents(whole)
    assert all(f.stat().st_mtime_ns == at for f, at in before.items())  # what was there was not written again


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_export_goes_on_to_the_same_bytes(after: int, tmp_path: Path) -> None:
    """Killed (-9) while it writes the shard after the `after`-th."""
    dataset = case.write(tmp_path, [case.TALK] * 3)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(dataset, whole).wait() == 0
    process = start(dataset, cut, 0.2)
    while len(list(cut.glob("shards/*.json"))) < after or not list(cut.glob("shards/.tmp-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert contents(cut) != contents(whole)
    assert start(dataset, cut).wait() == 0 and contents(cut) == contents(whole)


def test_recordings_that_cannot_be_read_are_named_and_the_others_are_written(tmp_path: Path) -> None:
    dataset = case.write(tmp_path, [case.TALK, None])
    folder = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", "conversations", dataset.store.uri, "--out", str(folder)])
    assert done.exit_code == 3 and f"left out: source {case.source_of(1)}" in done.output
    assert "no longer where it was registered" in done.output
    assert {r["source_id"] for r in rows(folder)} == {case.source_of(0)}
    assert json.loads((folder / "conversations.json").read_text())["left_out"].keys() == {case.source_of(1)}
    soundfile.write(tmp_path / "1.wav", case.sound(case.TALK), 48_000)  # it is found again
    done = CliRunner().invoke(app, ["export", "conversations", dataset.store.uri, "--out", str(folder)])
    assert done.exit_code == 0 and len({r["source_id"] for r in rows(folder)}) == 2


def test_silent_recordings_are_left_out(tmp_path: Path) -> None:
    from perform_case import write_silent

    dataset = case.write(tmp_path, [None])
    write_silent(tmp_path / "silent.mp4").rename(tmp_path / "0.wav")
    found = written(dataset, tmp_path / "out")
    assert found.samples == 0 and "no sound" in found.left[case.source_of(0)] and rows(tmp_path / "out") == []


def test_a_condition_chooses_people_and_other_folders_are_refused(made: Dataset, out: Path, tmp_path: Path) -> None:
    written(made, tmp_path / "one", where="identity_id = 'p-1'")
    assert {r["identity_id"] for r in rows(tmp_path / "one")} == {"p-1"}
    for given, said in (({"where": "identity_id = 'p-1'"}, "other settings"), ({"rules": Rules(piece_s=9)}, "other")):
        with pytest.raises(ExportError, match=said):
            written(made, out, **given)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(ExportError, match="not an empty folder"):
        written(made, tmp_path / "full")
    with pytest.raises(ExportError, match="not a condition"):
        written(made, tmp_path / "none", where="nothing = 1")
    with pytest.raises(ExportError, match="no such packed sample"):
        written(made, tmp_path / "none", where="false")


def test_rollouts_run_through_whole_conversations(made: Dataset, out: Path) -> None:
    """Clips of a second or so, which no gap of a second joins, are a conversation of ten seconds."""
    size = {"batch": 1, "max_refs": 2, "frames": 24, "height": 32, "width": 32}
    encoders = Encoders(codec=PatchCodec((4, 8, 8)), audio=LogMel(2, 16), text=HashedWords(8, 12))
    found = {}
    for root in (made.store.uri, str(out)):
        with Feed[Conditioned](Data(root=root, **size), encoders) as feed:
            found[root] = sorted(c.frames for c in chains_of(feed.shards, feed.clips, 1.0))
    assert found[made.store.uri] == [24, 24, 24] and found[str(out)] == [75, 250, 275]
    with ChainLoader(Data(root=str(out), **size), encoders, latents=60, gap_s=0.0, block=3) as source:
        cond = next(source).cond
    assert cond.frames == 60 and cond.speak_on_BF.any() and cond.listen_on_BF.any() and cond.ref_mask_BK.any()


def test_an_export_may_lie_on_an_object_store(bucket: str, made: Dataset, out: Path) -> None:
    uri = f"s3://{bucket}/talks"
    assert export(made, uri, None, RULES).samples == 5
    store = Store(uri)
    assert {n: store.read(n) for n in ("manifest.parquet", "shards/conversations-000000.tar")} == {
        n: (out / n).read_bytes() for n in ("manifest.parquet", "shards/conversations-000000.tar")
    }
    assert export(made, uri, None, RULES).samples == 5  # nothing left to do
    assert len(Shards(uri)) == 5
