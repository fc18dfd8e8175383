"""What commands write: refused before any work, or whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from train_data_case import dataset

from lpm_train.config import ConfigError
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE
from lpm_train.tools import cli
from lpm_train.tools.codec_fit import fit_codec
from lpm_train.tools.outputs import must_hold, must_write

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
