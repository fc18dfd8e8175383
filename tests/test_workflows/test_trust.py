"""A dataset may come from anybody: its code and its Pythons are executed where its user vouches for them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_case import GOOD, go
from toy import write_sources

from workflows import cli

CODE = "from pathlib import Path\nPath({mark!r}).touch()\nclass Evil: ...\n"
WITHOUT = (
    ("query", "{out}", "SELECT count(*) FROM tracks"),
    ("status", "{out}"),
    ("explain", "{out}", "{source}"),
    ("report", "{out}"),
    ("schema", "tracks", "{out}"),
    ("verify", "{out}"),
    ("decide", "{out}", "--policy", "default", "--dry-run"),
)
"""They read tables, and whatever they come to, they need no stage."""
WITH = (
    ("pack", "{out}"),
    ("pack", "{out}", "--dry-run"),
    ("verify", "{out}", "--repair"),
    ("forget", "{out}", "{source}", "--dry-run"),
    ("recipe", "export", "{out}", "--out", "recipe"),
    ("run", "--out", "{out}", "--engine", "local"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    go(write_sources(root / "in", good=GOOD), root / "out")
    return root / "out"


class Foreign:
    """A dataset of somebody else's, whose code leaves a mark where it is executed."""

    def __init__(self, made: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self.mark, self._capsys = folder / "out", folder / "mark", capsys
        shutil.copytree(made, self.out)
        self.code = CODE.format(mark=str(self.mark))
        (self.out / "code").mkdir()
        (self.out / "code" / "evil.py").write_text(self.code)
        (self.source,) = (p.name.partition(".")[0] for p in (self.out / "tables" / "sources").rglob("*.parquet"))

    def stage(self, **changes: Any) -> None:
        """Change the first stage of the workflow that the dataset keeps."""
        file = self.out / "workflow.json"
        stored = json.loads(file.read_text())
        first = next(iter(stored["workflow"]["stages"].values()))
        first.update(changes)
        file.write_text(json.dumps(stored))

    def lpm(self, *arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([a.format(out=self.out, source=self.source) for a in arguments])
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())


@pytest.fixture
def foreign(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Foreign:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    found = Foreign(made, tmp_path, capsys)
    found.stage(use="evil:Evil")
    return found


@pytest.mark.parametrize("command", WITHOUT, ids=lambda c: c[0])
def test_commands_that_read_execute_nothing_of_a_dataset(foreign: Foreign, command: tuple[str, ...]) -> None:
    _, said = foreign.lpm(*command)
    assert not foreign.mark.exists() and "Traceback" not in said


@pytest.mark.parametrize("command", WITH, ids=lambda c: " ".join(c[:2]))
def test_commands_that_need_stages_say_what_they_would_execute(foreign: Foreign, command: tuple[str, ...]) -> None:
    code, said = foreign.lpm(*command)
    assert code == 1 and not foreign.mark.exists()
    assert "keeps code that this would execute" in said and ": evil.py;" in said and "--trust-code" in said, said


def test_code_that_no_stage_names_is_not_left_where_a_library_would_find_it(foreign: Foreign) -> None:
    foreign.stage(use="toy:ToyProbe")
    code, said = foreign.lpm("pack", "{out}", "--dry-run")
    assert code == 1 and "evil.py" in said


def test_who_vouches_for_it_or_has_it_is_not_asked(foreign: Foreign) -> None:
    code, said = foreign.lpm("pack", "{out}", "--trust-code")
    assert code == 1 and "evil:Evil is no stage" in said and foreign.mark.exists()  # so it was imported
    foreign.mark.unlink()
    sys.modules.pop("evil")
    Path("evil.py").write_text(foreign.code)
    assert "evil:Evil is no stage" in foreign.lpm("pack", "{out}")[1] and foreign.mark.exists()
    Path("evil.py").write_text(foreign.code + "# changed since\n")
    assert "here, evil.py is another" in foreign.lpm("pack", "{out}")[1]


def test_a_python_that_a_dataset_names_is_a_program_too(foreign: Foreign) -> None:
    (foreign.out / "code" / "evil.py").unlink()
    other = foreign.out.parent / "python"
    other.write_text(f"#!/bin/sh\ntouch {foreign.mark}\n")
    other.chmod(0o755)
    foreign.stage(use="toy:ToyProbe", python=str(other))
    for command in (WITH[0], WITH[-1]):
        code, said = foreign.lpm(*command)
        assert code == 1 and "which does not lie here" in said and not foreign.mark.exists(), said
    assert foreign.lpm(*WITH[-1], "--trust-code")[0] != 0 and foreign.mark.exists()
