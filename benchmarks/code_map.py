"""Write the page "where things live": every module of the product with the sentence that it opens with.

    python benchmarks/code_map.py > docs/code-map.md

A test holds the page against the code.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "workflows": "The command line and what ships with it: workflows, policies, templates.",
    "stages": "What is measured, step by step: pure functions from tables and media to tables.",
    "annotators": "The models and rules that stages ask, each behind a protocol.",
    "curation": "The engine: reading and writing datasets, running stages, deciding, packing, checking.",
    "schemas": "The contract: tables, columns, vocabularies, the sample, policies.",
    "lpm_train": "The trainer that consumes the shards.",
}
_HEAD = """# Where things live

Every module and the sentence that it opens with, made by `python benchmarks/code_map.py`; do not edit by hand. Imports
go down only: `workflows -> stages -> {annotators, curation} -> schemas`. A folder is a room: a family of modules,
headed by what it says of itself; tests lie in rooms of the same names under `tests/`.
"""


def opening(file: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    text = " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    end = text.find(". ")
    return (text if end < 0 else text[: end + 1]).replace("|", "\\|").replace("<", "&lt;")


def rooms(package: str) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the folders of a package with the modules in each, the package itself first."""
    found = sorted((ROOT / package).rglob("*.py"), key=lambda file: (file.parent, file))
    for folder, files in groupby(found, key=lambda file: file.parent):
        yield folder, [f for f in files if f.name != "__init__.py"]


def code_map() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for package, about in PACKAGES.items():
        parts.append(f"## {package}\n\n{about}\n")
        for folder, files in rooms(package):
            if folder != ROOT / package:
                said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
                inside = " ".join(said.split())
                parts.append(f"### {folder.relative_to(ROOT).as_posix()}\n\n{inside}\n")
            if files:
                parts.append("| module | what it is |\n|---|---|")
                parts += [f"| `{file.name}` | {opening(file)} |" for file in files]
                parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(code_map())
