"""`lpm new`: write a working stage or back-end of a user's own, with its test, to begin from."""

from __future__ import annotations

import io
import keyword
import re
import sys
import tokenize
from importlib.machinery import PathFinder
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from schemas.extensions import VIEWS
from schemas.settings.use import OURS
from schemas.tables import TABLES
from stages import SHIPPED
from workflows.usage import UsageError

app = typer.Typer(no_args_is_help=True, help="Begin a stage or a back-end of your own in this folder.")
console = Console(soft_wrap=True)

Name = Annotated[str, typer.Argument(help="name of the module: small letters, digits and _")]
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@app.command()
def stage(name: Name) -> None:
    """Write a stage with a table of its own, and its test."""
    new(console, "stage", name, Path.cwd())


@app.command()
def annotator(name: Name) -> None:
    """Write a back-end (a voice activity detector), and its test."""
    new(console, "annotator", name, Path.cwd())


def new(out: Console, kind: str, name: str, folder: Path) -> None:
    """Write NAME.py and test_NAME.py of a `kind` ("stage" or "annotator") into a folder.

    Raises:
        UsageError: a name that no module can have or that is taken, or a file that is there already.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name in OURS:
        raise UsageError(f"{name!r} cannot be a module of yours: write small letters, digits and _, such as head_turns")
    example = f"example_{kind}"
    written = {
        folder / file.replace(example, name): _named(example, name, file)
        for file in (f"{example}.py", f"test_{example}.py")
    }
    for file in written:
        if file.exists():
            raise UsageError(f"{file.name} is there already; choose another name, or move it away")
    if taken := _taken(kind, name):
        raise UsageError(f"{name!r} is {taken}; choose another name, such as my_{name}")
    for file, text in written.items():
        file.write_text(text, encoding="utf-8")
    out.print(f"wrote {' and '.join(f.name for f in written)}; test it with `pytest test_{name}.py`", highlight=False)


def _taken(kind: str, name: str) -> str | None:
    """Say what has a name already, so that a module of that name would not be the one that is found."""
    if name in sys.stdlib_module_names:
        return "a module of Python's own"
    if kind == "stage" and (name in SHIPPED or name in TABLES or name in VIEWS):
        return "the name of a stage, table or view that is built in"
    spec = PathFinder.find_spec(name)
    if clash := _clash(kind, name):
        return f"no name for it, as {clash} would mean two things in the code"
    # A folder without code has no origin: a module of its name is imported before it.
    return None if spec is None or spec.origin is None else "a module that can be imported already"


def _clash(kind: str, name: str) -> str | None:
    """Return a name that the written code would give to two things, or that Python keeps to itself."""
    example = f"example_{kind}"
    code = [_template(file) for file in (f"{example}.py", f"test_{example}.py")]
    words = {
        w.string for c in code for w in tokenize.generate_tokens(io.StringIO(c).readline) if w.type == tokenize.NAME
    }
    marks = (_class(example), example.upper())
    made = sorted(w for w in words if any(mark in w for mark in marks))
    fresh = [_renamed(example, name, w) for w in made]
    others = words.difference(made)
    return next((w for i, w in enumerate(fresh) if w in others or keyword.iskeyword(w) or w in fresh[:i]), None)


def _template(file: str) -> str:
    return (files("workflows") / "new" / file).read_text(encoding="utf-8")


def _named(example: str, name: str, file: str) -> str:
    return _renamed(example, name, _template(file))


def _renamed(example: str, name: str, text: str) -> str:
    for old, fresh in ((example, name), (_class(example), _class(name)), (example.upper(), name.upper())):
        text = text.replace(old, fresh)
    return text


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
