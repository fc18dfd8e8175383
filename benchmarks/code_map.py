"""Write the page "where things live": every module of the product with the sentence that it opens with.

    python benchmarks/code_map.py > docs/code-map.md

A test holds the page against the code.
"""

from __future__ import annotations

import ast
import sys
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
go down only: `workflows -> stages -> {annotators, curation} -> schemas`. Modules that begin with one word belong
together: `pairing_states` is a part of the stage `pairing`.
"""


def opening(file: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    text = " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    end = text.find(". ")
    return (text if end < 0 else text[: end + 1]).replace("|", "\\|").replace("<", "&lt;")


def code_map() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for package, about in PACKAGES.items():
        parts.append(f"## {package}\n\n{about}\n\n| module | what it is |\n|---|---|")
        for file in sorted((ROOT / package).rglob("*.py")):
            said = opening(file)
            if said and file.name != "__init__.py":
                parts.append(f"| `{file.relative_to(ROOT).as_posix()}` | {said} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(code_map())
