"""Named pipelines and policies as YAML, and the `lpm` command line."""

import runpy
from pathlib import Path

# By its place and not by its name: `curation` may be the very package that a folder elsewhere stands in for.
_shadowed = runpy.run_path(str(Path(__file__).parents[1] / "curation" / "shadowed.py"))
try:
    _shadowed["refuse_strangers"]()
except ImportError as e:
    raise SystemExit(f"lpm: {e}") from None
