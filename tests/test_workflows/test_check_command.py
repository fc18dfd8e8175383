"""`lpm check`, `sync`, `states` and `people` as their users meet them: answers, files, exit codes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from foreign_case import Foreign

from curation.check.foreign import samples
from curation.media.audio import read_audio
from schemas import tables as t
from workflows.checking import check
from workflows.cli import main


def code_of(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "{root}/none"), "no such file or folder"),
        (("check", "{root}/empty"), "no clip in"),
        (("check", "{root}/set", "--ignore", "colour"), "there are: unreadable"),
        (("check", "{root}/set", "--limit", "lateness=3"), "there are: rate_gap"),
        (("check", "{root}/set", "--field", "identity"), "--field"),
        (("check", "{root}/set", "--out", "{root}/empty"), "holds no check"),
        (("check", "{root}/set", "--out", "{root}/empty/a.txt"), "holds no check"),
        (("check", "{root}/set", "--out", "{root}/empty/a.txt/x"), "is a file, or lies in one"),
        (("check", "{root}/set", "--out", ""), "--out is empty"),
        (("check", ""), "FOREIGN is empty"),
    ],
)
def test_what_cannot_be_checked_exits_with_2(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty/a.txt", "set/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert code_of(*(a.format(root=tmp_path) for a in arguments)) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")


def test_what_an_earlier_check_left_is_not_checked_under_another_name_of_its_folder(tmp_path: Path) -> None:
    for name in ("a.mp4", "left/joined/b.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "out").symlink_to("left")
    assert [s.name for s in samples(str(tmp_path), tmp_path / "out" / "media", Counter())] == ["a.mp4"]


def test_a_fault_of_the_programs_exits_with_2_and_shows_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("unexpected")

    monkeypatch.setattr(check, "run", broken)
    assert code_of("check", str(tmp_path)) == 2
    assert "TypeError: unexpected" in capsys.readouterr().err


def test_the_exit_code_tells_whether_there_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.mp4").write_text(name)

    def measured(_: Any, named: list[Any], target: str, **__: Any) -> Any:
        f = Foreign(Path(target))
        for n in named:
            f.change(t.INPUTS, f"/{Path(n.path).stem}.mp4", path=n.path)
        f.change(t.SYNC, "a", offset_ms=200.0)
        f.check()
        return check.Dataset(target)

    monkeypatch.setattr(check, "measured", measured)
    out = tmp_path / "out"
    assert code_of("check", str(tmp_path / "set"), "--out", str(out)) == 1
    shown = capsys.readouterr().out
    assert "2 clips found = 2 checked + 0 not readable" in shown and "a.mp4" in shown
    assert {p.name for p in out.iterdir()} >= {"index.html", "findings.parquet", "clips.parquet", "check.json"}
    assert code_of("check", str(tmp_path / "set"), "--out", str(out), "--ignore", "offset", "--json") == 0
    assert json.loads(capsys.readouterr().out)["summary"]["found"] == 2


@pytest.mark.slow
def test_a_real_set_from_files_to_findings_and_one_file_to_its_answers(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, root = media / "talkers" / "real_map.mp4", tmp_path / "set"
    root.mkdir()
    with av.open(str(source)) as whole, av.open(str(root / "talker.mp4"), "w") as mute:
        picture = mute.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                mute.mux(packet)
    voice = read_audio(source, 0.0, 5.0, 48000)
    assert voice is not None
    soundfile.write(root / "talker.speak.flac", np.zeros_like(voice), 48000)
    soundfile.write(root / "talker.listen.flac", voice, 48000)
    shutil.copy(media / "bad_text.mp4", root / "broken.mp4")
    before = {p.name: p.read_bytes() for p in root.iterdir()}
    assert code_of("check", str(root), "--out", str(tmp_path / "out")) == 1
    rows = pq.read_table(tmp_path / "out" / "findings.parquet").to_pylist()
    assert {(r["clip"], r["finding"]) for r in rows} == {("broken.mp4", "unreadable"), ("talker.mp4", "swapped_tracks")}
    assert {p.name: p.read_bytes() for p in root.iterdir()} == before, "what is checked is left alone"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" in page and "<script" not in page

    def answer(*arguments: str) -> Any:
        capsys.readouterr()
        assert code_of(*arguments, "--out", str(tmp_path / "one"), "--json") == 0
        return json.loads(capsys.readouterr().out)

    people = answer("people", str(source), "--portraits", str(tmp_path / "portraits"))["people"]
    assert len(people) == 1 and Path(people[0]["portrait"]).read_bytes()[:2] == b"\xff\xd8"
    (timeline,) = answer("states", str(source))["people"]
    assert timeline["seconds"]["speak"] == pytest.approx(5.0, abs=0.3)
    sync = answer("sync", str(source))["best"]
    assert abs(sync["offset_ms"] - 40) < 40 and sync["own_voice"] > 0.99
    assert code_of("sync", str(media / "bad_text.mp4")) == 1
    assert "not a video" in capsys.readouterr().err
