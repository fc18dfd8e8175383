"""The error of a command whose arguments make no sense. Every family of commands raises it; `lpm` prints it.

And what is said of a path that was typed and cannot be used.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.files.places import local_path

_QUOTED = re.compile(r"(?:open local file|list directory) '(.*?)'")
"""Where Arrow's errors name a path."""


class UsageError(ValueError):
    """An argument that makes no sense; the message says what does."""


def refuse_empty_out(arguments: Sequence[str]) -> None:
    """Raise UsageError where --out names nothing, which as a path is the working directory."""
    if "--out=" in arguments or ("--out", "") in itertools.pairwise(arguments):
        raise UsageError("--out is empty, as a variable that is not set leaves it; name where to write")


def path_answer(e: OSError, arguments: Iterable[str]) -> str | None:
    """Return what is told of a path that was typed and cannot be used; None where the error is about another path.

    Who may read or write a path is no matter of the program's, whichever path it is.
    """
    path = _path_of(e)
    if path is None:
        return None
    if isinstance(e, PermissionError):
        return f"no permission for {path}; choose another path, or change who may use it"
    if not any(_about(path.absolute(), typed) for typed in _typed(arguments)):
        return None
    if isinstance(e, IsADirectoryError):
        return f"{path} is a folder, where a file is to be; name a file in it"
    if isinstance(e, (NotADirectoryError, FileExistsError)):
        barring = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)
        if barring is not None:
            return f"{barring} is a file, where a folder is to be; choose another path"
        return f"{path} exists; choose another path"
    if isinstance(e, FileNotFoundError):
        if not path.parent.exists():
            return f"there is no folder {path.parent}; make it, or choose another path"
        return f"there is no file or folder {path}; name one that is there"
    return None


def _path_of(e: OSError) -> Path | None:
    """Return the path that an error is about: of two, the one that was to become."""
    named = e.filename if e.filename2 is None else e.filename2
    if named is None and (quoted := _QUOTED.search(str(e))) is not None:
        named = quoted[1]
    return None if named is None or isinstance(named, int) else Path(os.fsdecode(named))


def _typed(arguments: Iterable[str]) -> Iterable[Path]:
    """Yield every argument, and every value of an option, as the absolute path that it would be."""
    for argument in arguments:
        option, _, value = argument.partition("=")
        path = local_path(value if value and option.startswith("-") else argument)
        if path is not None:
            yield Path(os.path.normpath(path.absolute()))


def _about(path: Path, typed: Path) -> bool:
    """Tell whether a path is the typed one, bars the way to it, or would lie in it were it no file."""
    return path == typed or (path in typed.parents and not path.is_dir()) or (typed in path.parents and typed.is_file())
