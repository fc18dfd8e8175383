"""Run a module of this very openlpm in another Python: `PYTHON launch.py MODULE_OR_FILE ARGUMENT...`.

Our packages are found where this file lies, whatever else is installed there under their names, and nothing else of
that folder is: the other environment keeps its own torch, and needs no openlpm. Imports the standard library alone.
"""

from __future__ import annotations

import importlib.machinery
import runpy
import sys
from pathlib import Path

_CURATION = Path(__file__).resolve().parents[1]
ROOT = str(_CURATION.parent)
PACKAGES = runpy.run_path(str(_CURATION / "shadowed.py"))["PACKAGES"]


class _Ours:
    """Finds our packages in one folder."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.PathFinder.find_spec(name, [ROOT]) if path is None and name in PACKAGES else None


def main() -> None:
    """Run what is named, with the arguments after it, as Python itself would."""
    beside = str(Path(__file__).parent)
    sys.path[:] = [p for p in sys.path if p != beside]  # a script's folder comes first, and holds no packages here
    sys.meta_path.insert(0, _Ours())  # type: ignore[arg-type]
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
