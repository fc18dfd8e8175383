"""`lpm new`: write a working stage or back-end of a user's own, with its test, to begin from."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from rich.console import Console

from schemas.settings.use import OURS
from workflows.usage import UsageError

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def new(out: Console, kind: str, name: str, folder: Path) -> None:
    """Write NAME.py and test_NAME.py of a `kind` ("stage" or "annotator") into a folder.

    Raises:
        UsageError: a name that no module can have, or a file that is there already.
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
    for file, text in written.items():
        file.write_text(text, encoding="utf-8")
    out.print(f"wrote {' and '.join(f.name for f in written)}; test it with `pytest test_{name}.py`", highlight=False)


def _named(example: str, name: str, file: str) -> str:
    text = (files("workflows") / "new" / file).read_text(encoding="utf-8")
    for old, fresh in ((example, name), (_class(example), _class(name)), (example.upper(), name.upper())):
        text = text.replace(old, fresh)
    return text


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
