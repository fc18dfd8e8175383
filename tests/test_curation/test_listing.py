"""What is named holds more than videos: everything that is left out is counted, and said."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pytest
from engine_case import GOOD
from toy import write_sources

from curation import listing
from curation.engine.register import InputError, expand
from curation.listing import left_out
from workflows import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos, what is none, and what nobody can read."""
    home = write_sources(tmp_path / "in", a=GOOD)
    (home / "deeper").mkdir()
    (home / "deeper" / "b.MKV").write_text("b")
    for name in ("notes.txt", "more.TXT", "a.srt", "README", "a.rights.json"):
        (home / name).write_text("{}")
    (home / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (home / "round.mp4").symlink_to(home / "round.mp4")
    (home / "linked").symlink_to(tmp_path)
    os.mkfifo(home / "pipe.mp4")
    return home


def test_what_a_folder_holds_beside_videos_is_counted(folder: Path) -> None:
    skipped: Counter[str] = Counter()
    assert [Path(n.path).name for n in expand([str(folder)], None, skipped)] == ["a.mp4", "b.MKV"]
    assert skipped == {
        ".txt": 2, ".srt": 1, "README": 1, listing.BROKEN: 2, listing.LINKED: 1, listing.SPECIAL: 1,
    }  # fmt: skip
    said = left_out(skipped)
    assert said.startswith("8 left out: 2 .txt, 2 broken links, ") and "1 links to folders" in said


def test_what_cannot_be_read_is_counted_and_the_rest_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who runs tests may be root, to whom nothing is shut.
    shut, look, may = folder / "deeper", os.scandir, os.access

    def scandir(path: Path) -> Any:
        if Path(path) == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (folder / "c.mp4").write_text("c")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "c.mp4" and may(path, mode))
    skipped: Counter[str] = Counter()
    assert [Path(n.path).name for n in expand([str(folder)], None, skipped)] == ["a.mp4"]
    assert skipped[listing.SHUT] == 1 and skipped[listing.LOCKED] == 1
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"no video in folder .* 1 folders without permission to read"):
        expand([str(folder)])


def test_what_a_pattern_names_beside_files_is_counted(folder: Path) -> None:
    (folder / "x.json").write_text("{}")
    skipped: Counter[str] = Counter()
    assert len(expand([f"{folder}/*"], None, skipped)) == 5  # named outright: whatever it is called
    assert skipped == {
        listing.FOLDERS: 1, listing.LINKED: 1, listing.BROKEN: 2, listing.SPECIAL: 1, ".json": 1,
    }  # fmt: skip


@pytest.fixture
def beside_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video, a dataset beside it under two names, and one of somebody else's."""
    for name in ("a.mp4", "dsreal/report/clips/b.mp4", "theirs/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "dsreal" / "dataset.json").write_text('{"format": 1, "name": "openlpm"}')
    (tmp_path / "theirs" / "dataset.json").write_text('{"labels": []}')
    (tmp_path / "ds").symlink_to("dsreal")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("own", [None, "ds", "dsreal", "new"])
@pytest.mark.parametrize("named", [".", "**/*.mp4", "*/../**/*.mp4"])
def test_what_a_dataset_holds_is_no_input_unless_it_is_named_outright(
    beside_datasets: Path, named: str, own: str | None
) -> None:
    skipped: Counter[str] = Counter()
    assert {Path(n.path).name for n in expand([named], own, skipped)} == {"a.mp4", "c.mp4"}
    assert skipped[listing.DATASETS] == 1
    assert len(expand(["ds/report/clips/b.mp4"], own)) == 1


@pytest.mark.parametrize(
    ("named", "own", "taken"),
    [("ds", None, 0), ("ds/*/*/*", None, 0), ("ds/report", None, 1), ("ds/report/*/*", None, 1),
     ("ds/report", "ds", 0), ("ds/report/*/*", "dsreal", 0)],
)  # fmt: skip
def test_a_folder_in_another_dataset_is_taken_where_it_is_named_outright(
    beside_datasets: Path, named: str, own: str | None, taken: int
) -> None:
    if taken:
        assert len(expand([named], own)) == taken
    else:
        with pytest.raises(InputError, match="1 datasets that lpm made"):
            expand([named], own)


def test_an_empty_input_is_refused() -> None:
    with pytest.raises(InputError, match="an input is empty"):
        expand([""])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the server's own
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_a_prefix_holds_beside_videos_is_counted(bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    names = (
        "a.mp4",
        "deep/b.MOV",
        "notes.txt",
        "list.csv",
        "deep/LICENSE",
        "out/clips/c.mp4",
        "outer/d.mp4",
        "none/LICENSE",
    )
    for name in names:
        client.put_object(Bucket=bucket, Key=f"v/{name}", Body=b"x")
    skipped: Counter[str] = Counter()
    named = expand([f"s3://{bucket}/v/"], f"s3://{bucket}/v/out", skipped)
    assert len(named) == 4  # there is no dataset under out/, so all that is there is the user's
    assert skipped == {".txt": 1, ".csv": 1, "LICENSE": 2}
    client.put_object(Bucket=bucket, Key="v/out/dataset.json", Body=b"{}")
    named = expand([f"s3://{bucket}/v/"], f"s3://{bucket}/v/out/", skipped)
    assert [n.path.rpartition("/v/")[2] for n in named] == ["a.mp4", "deep/b.MOV", "outer/d.mp4"]
    client.put_object(Bucket=bucket, Key="v/out/workflow.json", Body=b"{}")  # then it is seen to be one by anybody
    skipped.clear()
    assert len(expand([f"s3://{bucket}/v/"], None, skipped)) == 3 and skipped[listing.DATASETS] == 1
    with pytest.raises(InputError, match=r"no video under .*1 left out: 1 LICENSE; looked for"):
        expand([f"s3://{bucket}/v/none"])


def test_lpm_plan_says_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", str(folder)])
    assert "8 left out: 2 .txt" in capsys.readouterr().out.replace("\n", " ")
