"""Code names columns by their declarations, so that a renamed or misspelt column is an error of mypy."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import tables as t

ROOT = Path(__file__).resolve().parents[2]
LOOSE = re.compile(r"\.to_pylist\(|\.to_pydict\(|\b(?:Mapping|dict)\[str, Any\]")
NAMED = re.compile(r"""(?<!Literal)\[f?["'](\w+)["']""")
NO_ROWS = {
    "identity_registry.py": ("settings: Mapping[str, Any]",),
    "speech.py": ('heard["', 'scores["'),  # kinds of sound
    "packing.py": ('.tracks["',),  # sounds
}
"""What looks like an untyped row in some files and is none."""
BY_NAME = (t.MANIFEST, t.DECISIONS, t.ERRORS, t.FORGOTTEN)
"""Tables that are still made of columns' names; a list that can only become shorter."""


def _lines() -> list[tuple[str, str]]:
    """Return (place, line) of the stages' code, without what is known to be no row."""
    out = []
    for file in sorted((ROOT / "stages").rglob("*.py")):
        for n, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            if not any(known in line for known in NO_ROWS.get(file.name, ())):
                out.append((f"{file.relative_to(ROOT)}:{n}", line))
    return out


def test_stages_have_no_rows_without_a_class() -> None:
    assert not [(place, line.strip()) for place, line in _lines() if LOOSE.search(line)]


def test_stages_name_no_column_in_a_string() -> None:
    columns = {name for table in t.TABLES.values() for name in table.column_names}
    found = [(place, name) for place, line in _lines() for name in NAMED.findall(line) if name in columns]
    assert not found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_renamed_column_is_an_error_of_mypy(tmp_path: Path) -> None:
    """Ten columns are renamed where they are declared: each is an error in code that reads or writes them."""
    for name in ("schemas", "curation", "annotators", "stages", "workflows", "lpm_train", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    known = [(table.row, c) for table in t.TABLES.values() if table not in BY_NAME for c in table.column_names]
    chosen = random.Random(0).sample(known, 10)
    for row, column in chosen:
        file = tmp_path / f"{row.__module__.replace('.', '/')}.py"
        head, body = file.read_text(encoding="utf-8").split(f"class {row.__name__}(Row):", 1)
        body = body.replace(f"\n    {column}: Column[", f"\n    renamed_{column}: Column[", 1)
        file.write_text(f"{head}class {row.__name__}(Row):{body}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.split("\n") if "error:" in line and not line.startswith("schemas/")]
    for row, column in chosen:
        about = re.compile(rf'"(?:type\[)?{row.__name__}\b.*"{column}"|"{column}".*"(?:type\[)?{row.__name__}\b')
        assert any(about.search(line) for line in errors), (row.__name__, column)
