"""A dataset of another format is refused by every command, in a sentence that says what to do, and left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import lpm
from engine_case import GOOD
from packed_toy import made
from toy import write_sources

from curation import Dataset
from curation.dataset import DatasetError


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("former")
    out = made(root / "in", root / "out")
    facts = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    (out / "dataset.json").write_text(json.dumps({**facts, "format": 0}), encoding="utf-8")
    return Path(out)


COMMANDS = {
    "query": ["query", "OUT", "SELECT 1"],
    "status": ["status", "OUT"],
    "explain": ["explain", "OUT", "0" * 16],
    "decide": ["decide", "OUT", "--policy", "default"],
    "pack": ["pack", "OUT"],
    "verify": ["verify", "OUT"],
    "repair": ["verify", "OUT", "--repair"],
    "report": ["report", "OUT"],
    "run": ["run", "IN", "--out", "OUT"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_refused_in_a_sentence(former: Path, tmp_path: Path, command: str) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    before = {f: f.stat().st_mtime_ns for f in sorted(former.rglob("*")) if f.is_file()}
    done = lpm(*({"OUT": str(former), "IN": str(folder)}.get(x, x) for x in COMMANDS[command]))
    said = done.stdout + done.stderr
    assert done.returncode not in (0, None) and "Traceback" not in said
    words = " ".join(said.split())
    assert "format 0" in words, words
    assert "the version of openlpm that wrote it" in words, words
    assert {f: f.stat().st_mtime_ns for f in sorted(former.rglob("*")) if f.is_file()} == before


def test_it_is_refused_in_python_too(former: Path) -> None:
    with pytest.raises(DatasetError, match=r"has dataset format 0, this program reads 1; use the version"):
        Dataset(former)
