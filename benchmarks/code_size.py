"""How large the product's code is, by package, at one or more revisions: lines, longest function, public names.

    python benchmarks/code_size.py REVISION [REVISION ...] [--json FILE]

Lines are those that hold code: no blanks, comments or docstrings. A function's length counts the same way. Public names
are the functions, classes and constants of modules that do not begin with an underscore. Rows without a type are the
places that say `dict[str, Any]` or `Mapping[str, Any]`, or call `to_pylist`. Costs a second a revision.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import record

PACKAGES = ("schemas", "curation", "annotators", "stages", "workflows", "lpm_train")
_LOOSE = re.compile(r"\b(?:dict|Mapping)\[str, Any\]|\.to_pylist\(")


@dataclass
class Size:
    """Counts of one package."""

    files: int = 0
    lines: int = 0
    largest_flat_folder: int = 0
    longest_function: int = 0
    functions_over_50: int = 0
    public_names: int = 0
    untyped_rows: int = 0


def sources(revision: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the product's modules at a revision."""
    git = ("git", "-C", str(Path(__file__).parent))
    listed = subprocess.run(
        [*git, "ls-tree", "-r", "--name-only", "--full-tree", revision], capture_output=True, text=True, check=True
    )
    for path in listed.stdout.split("\n"):
        if path.endswith(".py") and path.split("/")[0] in PACKAGES:
            shown = subprocess.run([*git, "show", f"{revision}:{path}"], capture_output=True, text=True, check=True)
            yield path, shown.stdout


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that hold code."""
    said: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            said |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.split("\n"), 1)
    return {n for n, line in lines if line.strip() and not line.lstrip().startswith("#") and n not in said}


def names(tree: ast.Module) -> set[str]:
    """Return what a module offers."""
    out = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        out |= {t.id for t in targets if isinstance(t, ast.Name)}
    return {name for name in out if not name.startswith("_")}


def sizes(revision: str) -> dict[str, Size]:
    """Measure every package of a revision."""
    out = {package: Size() for package in PACKAGES}
    folders: dict[str, int] = {}
    for path, text in sources(revision):
        size, tree = out[path.split("/")[0]], ast.parse(text)
        code = code_lines(text, tree)
        folders[path.rpartition("/")[0]] = folders.get(path.rpartition("/")[0], 0) + 1
        size.files += 1
        size.lines += len(code)
        size.public_names += len(names(tree))
        size.untyped_rows += len(_LOOSE.findall(text))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = len(code & set(range(node.lineno, (node.end_lineno or node.lineno) + 1)))
                size.longest_function = max(size.longest_function, length)
                size.functions_over_50 += length > 50
    for folder, n in folders.items():
        size = out[folder.split("/")[0]]
        size.largest_flat_folder = max(size.largest_flat_folder, n)
    return out


def main() -> None:
    """Print a table a revision, and write them all."""
    parser = record.parser(__doc__)
    parser.add_argument("revisions", nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = {revision: {p: asdict(s) for p, s in sizes(revision).items()} for revision in args.revisions}
    for revision, packages in result.items():
        print(revision)
        for package, found in packages.items():
            print(f"  {package:11}", "  ".join(f"{name} {value}" for name, value in found.items()))
    record.write(args.json, {**record.today_here(), "revisions": result})


if __name__ == "__main__":
    main()
