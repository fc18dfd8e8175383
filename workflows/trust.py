"""Code that a dataset keeps is executed only where its user knows it: a dataset may come from anybody.

Known is what lies in the working directory as it is kept, for that is where a workflow of the user's own would find it,
and what the user vouches for by `--trust-code`. A Python that a stage names is a program too.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from curation.engine.user_code import Code
from schemas.printable import printable
from schemas.settings.workflow import Workflow

TrustOption = Annotated[
    bool, typer.Option("--trust-code", help="execute the code that the dataset keeps, though it does not lie here")
]


class TrustError(ValueError):
    """A dataset keeps code that a command would execute, and that nobody vouched for."""


def check_code(target: str, code: Code, folder: Path) -> None:
    """Refuse to go on where a dataset keeps code (file name -> text) that is not in `folder` too.

    Raises:
        TrustError: names what would be executed, and what to do.
    """
    found = {name: _read(folder / name) for name in code}
    differing = [name for name, text in code.items() if found[name] != text]
    if differing:
        other = [name for name in differing if found[name] is not None]
        here = f" (here, {_listed(other)} is another)" if other else ""
        raise TrustError(
            f"{target} keeps code that this would execute and that does not lie here as it is kept there: "
            f"{_listed(differing)}{here}; read it under {target}/code, then add --trust-code, or go to the folder of "
            "your workflow, or name that with `lpm run --workflow`"
        )


def check_pythons(target: str, spec: Workflow, folder: Path, overrides: Collection[str] = ()) -> None:
    """Refuse to go on where the workflow that a dataset keeps runs a stage under a Python that is not in `folder`.

    `overrides` (`stage.python=PATH`) are the user's own choice. Raises TrustError.
    """
    chosen = {text.partition(".python=")[0].strip() for text in overrides if ".python=" in text}
    pythons = {s.python for name, s in spec.stages.items() if s.python and name not in chosen}
    strange = sorted(p for p in pythons if p != sys.executable and not Path(p).is_relative_to(folder))
    if strange:
        raise TrustError(
            f"the workflow in {target} runs a stage under {_listed(strange)}, which does not lie here; where that "
            "Python is yours, add --trust-code, or name one by --set STAGE.python=PATH"
        )


def _listed(names: Collection[str]) -> str:
    few = [printable(name) for name in sorted(names)][:5]
    return ", ".join(few) + (f" and {len(names) - len(few)} more" if len(names) > len(few) else "")


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
