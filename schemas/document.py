"""Write the data contract page from the table declarations, so that documentation and data cannot disagree.

`python -m schemas.document > docs/data-contract.md`; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from schemas.column import Column
from schemas.extensions import OURS
from schemas.table import Table
from schemas.tables import MANIFEST, TABLES
from schemas.units import packed_columns

_HEAD = """# Data contract

Every table of a dataset: file, key, and each column with type, unit and meaning. Made from `schemas/tables` by
`python -m schemas.document`; do not edit by hand.

Files: a *source*-grained table is `tables/<name>/bucket=<hh>/<source_id>.parquet`, a *window*-grained one has a
file a scan window, `<source_id>.w<nnnn>.parquet`, and a *dataset*-grained one is `tables/<name>/dataset.parquet`
(`manifest.parquet` at the root). All are plain Parquet; DuckDB, pandas and Arrow open them directly.

Times are seconds on the source's own clock: zero is the first video frame's presentation time. Intervals are
half-open. `k` counts a 25 Hz grid: time = k / 25 s. Ids nest: `<source_id>`, `<source_id>-s0000` (shot),
`<source_id>-t0000` (track), `<track_id>-<start in ms>` (segment and sample).
"""


def data_contract(own: Sequence[Table[Any]] = ()) -> str:
    """Return the page as Markdown; tables of a user's `own` stages come last."""
    parts = [_HEAD]
    known = OURS | {table.name for table in own}
    # The manifest of another dataset that is open in this process may hold more.
    strangers = {c.name for _, table, c in packed_columns() if table.name not in known}
    for table in (*(t for t in TABLES.values() if t.name in OURS), *own):
        parts.append(f"## {table.name}\n\n{_sentence(table)}\n\n| column | type | unit | meaning |\n|---|---|---|---|")
        parts += [_line(c) for c in table.columns if table.name != MANIFEST.name or c.name not in strangers]
        parts.append("")
    return "\n".join(parts)


def _sentence(table: Table) -> str:
    return f"{table.doc}. Key: {', '.join(f'`{k}`' for k in table.key)}. Grain: {table.grain}."


def _line(c: Column[Any]) -> str:
    kind = str(c.type).replace("|", "\\|") + (", null" if c.nullable else "")
    packed = f" (packed in `{c.packed.part}`{' and manifest' if c.packed.manifest else ''})" if c.packed else ""
    return f"| `{c.name}` | {kind} | {c.unit} | {c.doc}{packed} |".replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(data_contract())
