"""`lpm new`: a name that could not be found as its user's own is refused, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from workflows.commands.new import new
from workflows.usage import UsageError


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("stage", "Head", "cannot be a module of yours"),
        ("stage", "import", "cannot be a module of yours"),
        ("stage", "curation", "cannot be a module of yours"),
        ("stage", "json", "a module of Python's own"),
        ("annotator", "json", "a module of Python's own"),
        ("stage", "numpy", "can be imported already"),
        ("stage", "table", "would mean two things"),
        ("stage", "work_item", "would mean two things"),
        ("stage", "h", "would mean two things"),
        ("stage", "units_tracks", "stage, table or view"),
        ("annotator", "pytest", "can be imported already"),
        ("stage", "tracks", "built in"),
        ("stage", "face_frames", "built in"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path: Path, kind: str, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        new(Console(quiet=True), kind, name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "name"), [("stage", "head_turns"), ("annotator", "tracks"), ("annotator", "plain")])
def test_a_name_that_nothing_importable_has_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plain").mkdir()  # a folder without code is no module that would be found first
    new(Console(quiet=True), kind, name, tmp_path)
    assert {f.name for f in tmp_path.glob("*.py")} == {f"{name}.py", f"test_{name}.py"}
    with pytest.raises(UsageError, match="is there already"):
        new(Console(quiet=True), kind, name, tmp_path)
