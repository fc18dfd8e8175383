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
LEFT = {
    "curation/check/result.py": "what `--json` prints",
    "curation/check/rows.py": "rows of others' tables",
    "curation/cluster/engine_ray.py": "Ray's batches",
    "curation/cluster/lane_worker.py": "Ray's batches",
    "curation/cluster/ray_resources.py": "Ray's options",
    "curation/dataset.py": "dataset.json",
    "curation/decisions/predicate_functions.py": "DuckDB's syntax tree",
    "curation/decisions/progress.py": "relations that are no table of the dataset",
    "curation/decisions/rules.py": "DuckDB's syntax tree",
    "curation/engine/register.py": "people's lists and sidecars",
    "curation/engine/fingerprints.py": "rows of any kind of unit, hashed whole",
    "curation/engine/workflow.py": "settings from YAML",
    "curation/forget/strip.py": "tables as any version wrote them",
    "curation/export/fiftyone.py": "another tool's files",
    "curation/export/lerobot.py": "another tool's files",
    "curation/labels/formats.py": "other tools' files",
    "curation/labels/label_studio.py": "another tool's files",
    "curation/media/probe.py": "what a container says",
    "curation/memory.py": "ids of any kind of unit",
    "curation/search_index.py": "an index's own columns",
    "curation/engine/source_state.py": "labels of any kind",
    "curation/engine/fetch.py": "two columns of one registered file",
    "curation/review/tune.py": "what the page is sent",
    "curation/review/watch.py": "a caption as JSON",
    "curation/plan/rates.py": "lines of a log",
    "curation/labels/corrections.py": "a caption's value",
    "curation/storage/checked.py": "any JSON with its own hash",
    "curation/storage/writers/lease.py": "lease.json",
    "curation/verify/samples.py": "a packed record as JSON",
    "curation/verify/files.py": "two columns of one table",
    "curation/verify/shards.py": "members of a tar",
    "workflows/commands/plan.py": "what `--json` prints",
    "schemas/column.py": "what typed values are made with",
    "schemas/extensions.py": "a declaration in JSON",
    "schemas/settings/parts.py": "settings from YAML",
    "schemas/row.py": "what typed rows are made with",
    "schemas/table.py": "what typed rows are made with",
    "schemas/settings/use.py": "settings from YAML",
    "schemas/settings/workflow.py": "settings from YAML",
    "curation/publish/card.py": "a card's front matter",
    "curation/publish/croissant.py": "JSON-LD",
    "workflows/commands/identities.py": "what `--json` prints",
    "workflows/commands/jobs.py": "workflow.json",
    "workflows/commands/query.py": "results of any query",
    "workflows/performing/hearing.py": "a back-end as a setting gives it",
    "workflows/performing/told.py": "performance.json",
    "workflows/performing/voices.py": "voices.json, which people may write",
    "workflows/recipe.py": "a recipe's files, which are of no dataset",
    "workflows/replay.py": "a recipe's files, which are of no dataset",
}
"""Files with values that have no class: no table's rows, or of a table that is not known before. Can only shrink."""
NO_ROWS = {
    "source_state.py": ('entry["file"]', 'wrote["sha256"]'),  # a commit's
    "status.py": ('step["stage"]',),  # a line of the log
    "commits.py": ("def _facts",),  # a commit's
    "newest.py": ('step["', 'run["', 'r["', '["started"]', "dict[str, Any]"),  # run.json, and lines of the log
    "compacted.py": ('p["name"]',),  # the footer of a file
    "files.py": ('e["file"]: e["sha256"]',),  # a commit's
    "samples.py": ('(suffix := m["name"]',),  # a member of a tar
    "clips.py": ("for member in row.members",),  # members of a tar
    "shards.py": ('name, offset, size = m["name"], m["offset"], m["size"]',),  # a member of a tar
    "dataset_step.py": ('keep["source_id"]',),  # what is kept by any table
    "registry.py": ("settings: Mapping[str, Any]",),
    "speech.py": ('heard["', 'scores["'),  # kinds of sound
    "packing.py": ('.tracks["',),  # sounds
}
"""What looks like an untyped row in some files and is none."""
COLUMNS = {c.name for table in t.TABLES.values() for c in table.row.columns}


def _loose(file: Path) -> list[str]:
    """Return the lines of a file that hold rows without a class or name a column in a string."""
    found = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        if not any(known in line for known in NO_ROWS.get(file.name, ())):
            found += [line.strip()] if LOOSE.search(line) or COLUMNS & set(NAMED.findall(line)) else []
    return found


def test_rows_have_classes_and_columns_are_named_by_them() -> None:
    files = [file for room in ("schemas", "curation", "stages", "workflows") for file in (ROOT / room).rglob("*.py")]
    found = {str(file.relative_to(ROOT)): _loose(file) for file in files if not file.name.startswith("test_")}
    assert not {file: lines for file, lines in found.items() if lines and file not in LEFT}
    assert not [file for file in LEFT if not found.get(file)], "take these off the list"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_renamed_column_is_an_error_of_mypy(tmp_path: Path) -> None:
    """Ten columns are renamed where they are declared: each is an error in code that reads or writes them."""
    for name in ("schemas", "curation", "annotators", "stages", "workflows", "lpm_train", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    if (ROOT / ".mypy_cache").is_dir():  # of a run before: what it says of libraries holds here too
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / "cache")
    known = [(table.row, c.name) for table in t.TABLES.values() for c in table.row.columns]
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
    errors = [line for line in done.stdout.split("\n") if "error:" in line and not line.startswith("schemas/tables/")]
    for row, column in chosen:
        about = re.compile(rf'"(?:type\[)?{row.__name__}\b.*"{column}"|"{column}".*"(?:type\[)?{row.__name__}\b')
        assert any(about.search(line) for line in errors), (row.__name__, column)
