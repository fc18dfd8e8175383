"""Which Python a stage names, and whether it fits: the same Python, PyArrow and, with Ray, Ray as this one.

Tables and ids go from one to the other as Arrow and pickles, and Ray refuses unequal versions itself, late and in other
words. Costs a tenth of a second a Python.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from curation.pythons import launch


class OtherPythonError(RuntimeError):
    """A Python that a stage names is not there or does not fit; the message says what to do."""


_PACKAGES = {"pyarrow": "PyArrow", "ray": "Ray"}
_PROBE = f"""
import json, sys
import importlib.metadata as m
found = {{"python": "%d.%d" % sys.version_info[:2]}}
for name in {list(_PACKAGES)}:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def located(written: str, folder: Path) -> str:
    """Return the path of the Python that a workflow names: its own path, or its environment's folder."""
    if not written:
        return ""
    # Links are kept: an environment's Python is a link to another, and is told by where it lies.
    path = Path(os.path.normpath(folder.absolute() / Path(written).expanduser()))
    return str(path / "bin" / "python" if path.is_dir() else path)


def command(python: str) -> list[str]:
    """Return the command that runs a module of ours, or a file, in another Python."""
    return [python, launch.__file__]


def executable(python: str) -> str:
    """Return Ray's `py_executable` for another Python."""
    return shlex.join(command(python))


def check(python: str, *, ray: bool = False) -> None:
    """Raise OtherPythonError where a Python is not there or another than this one in what matters."""
    if not os.access(python, os.X_OK) or Path(python).is_dir():
        raise OtherPythonError(
            f"there is no Python at {python}: write the path of a Python, or of its environment's folder, relative to "
            "the workflow's file (`make setup-full` makes .venv-full)"
        )
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True, cwd="/")
        there = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as e:
        raise OtherPythonError(f"{python} cannot be used: it is no Python 3.8 or newer ({e})") from e
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if there["python"] != here:
        raise OtherPythonError(
            f"{python} is Python {there['python']} and this is Python {here}; make that environment anew with "
            f"Python {here}, or name another"
        )
    for name, called in _PACKAGES.items():
        mine = _version(name)
        if there.get(name) != mine and (ray or name != "ray"):
            has = f"has {called} {there[name]}" if name in there else f"has no {called}"
            raise OtherPythonError(
                f"{python} {has} and this Python has {called} {mine}; install the same there: "
                f"{python} -m pip install {name}=={mine}, or name another"
            )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
