"""What commands write: refused before any work, or whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from train_data_case import dataset

from lpm_train.config import ConfigError
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE
from lpm_train.tools import cli
from lpm_train.tools.codec_fit import fit_codec
from lpm_train.tools.outputs import must_hold, must_spare, must_write

closed = pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")


def test_folders_of_what_will_be_written_are_made(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("{}")
    must_write(None, kept, str(tmp_path / "a" / "b" / "c.json"), "/dev/null")
    assert (tmp_path / "a" / "b").is_dir() and not any((tmp_path / "a" / "b").iterdir())
    assert kept.read_text() == "{}"


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    must_hold(tmp_path / "a" / "b")
    assert not any(tmp_path.iterdir())


@closed
def test_what_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    file, folder = tmp_path / "kept.json", tmp_path / "closed"
    file.touch(0o400)
    folder.mkdir(0o500)
    for place in (file, folder / "x.json"):
        with pytest.raises(ConfigError, match="cannot be written"):
            must_write(place)
    for place in (folder, folder / "run"):
        with pytest.raises(ConfigError, match="cannot be written to"):
            must_hold(place)


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    file, link, other = tmp_path / "a.png", tmp_path / "link.mp4", tmp_path / "b.png"
    file.write_bytes(b"a")
    link.symlink_to(file)
    must_spare([file, None, tmp_path / "none"], other)
    for given, out in (
        (file, file),
        (file, link),
        (link, file),
        (file, tmp_path / "x" / ".." / "a.png"),
        (other, other),
    ):
        with pytest.raises(ConfigError, match="is an input, and what is made would overwrite it"):
            must_spare([None, given], tmp_path / "c.png", out)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"out": "face.png"}, "face.png is an input"),
        ({"out": "said.wav", "speak": "said.wav"}, "said.wav is an input"),
        ({"out": "said.wav", "listen": "said.wav"}, "said.wav is an input"),
        ({"out": "more.png", "ref": ["view:more.png"]}, "more.png is an input"),
        *(({"seconds": s}, "--seconds") for s in (0.0, -1.0, float("inf"), float("nan"), 1e-9)),
    ],
)
def test_a_stream_refuses_before_any_work(
    given: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No model is looked for, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    for name in ("face.png", "more.png", "said.wav"):
        Path(name).write_bytes(name.encode())
    asked = {"image": Path("face.png"), "out": Path("new/out.mp4")} | given
    asked |= {k: Path(v) for k, v in asked.items() if k in ("out", "speak", "listen")}
    with pytest.raises(typer.Exit) as ended:
        cli.stream(Path("no_checkpoint"), **asked)
    err = capsys.readouterr().err
    assert ended.value.exit_code == 1 and err.startswith(f"lpm: {said}") and err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["face.png", "more.png", "said.wav"]
    assert all(p.read_bytes() == p.name.encode() for p in tmp_path.iterdir())


def test_a_codec_comes_under_its_name_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "codec.pt"
    small = {"steps": 1, "batch": 1}
    assert cli.codec(str(dataset()), str(out), channels=4, width=4, bucket="8x16x16", **small) == 0
    assert TinyVideoAE.load(out).channels == 4

    def broken(codec: TinyVideoAE, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(TinyVideoAE, "save", broken)
    with pytest.raises(OSError, match="the disk is full"):
        fit_codec(dataset(), out, TinyConfig(channels=4, width=4), (8, 16, 16), **small)
    assert TinyVideoAE.load(out).channels == 4 and list(out.parent.iterdir()) == [out]
