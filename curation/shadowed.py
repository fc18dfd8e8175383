"""Whether the packages that would be imported are this distribution's: names such as `schemas` are easily taken.

A folder `schemas` beside a script, or on PYTHONPATH, comes before the installed package, with an `__init__.py` or
without. Uses the standard library alone, since it runs before anything else is imported. Costs a few lookups of files.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("schemas", "curation", "annotators", "stages", "workflows", "lpm_train")


def refuse_strangers() -> None:
    """Check every package of the distribution.

    Raises:
        ImportError: a folder or file elsewhere has the name of one of them and would be imported in its place.
    """
    home = Path(__file__).resolve().parents[1]  # also where this file is run by its place, without its package
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
        strange = next((Path(p) for p in places if Path(p).resolve().parent not in (home, home / name)), None)
        if strange is not None:
            raise ImportError(
                f"{strange.parent if strange.name == '__init__.py' else strange} stands before OpenLPM's own package "
                f"{name!r} in {home}: rename it, or run from elsewhere"
            )
