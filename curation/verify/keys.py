"""Are the keys of the dataset's own tables unique, and can the tables be read?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from curation.dataset import Dataset
from curation.verify.few import NAMED, Said
from curation.verify.finding import Finding, Mend
from schemas import tables as t
from schemas.table import Table


def doubled(dataset: Dataset) -> Iterator[Finding]:
    """Say which tables of the whole dataset hold a key twice; within a source's tables, writing them refuses it."""
    for table in (t.MANIFEST, *(x for x in t.TABLES.values() if x.grain == "dataset" and x is not t.MANIFEST)):
        if not dataset.files(table):
            continue
        try:
            found = _twice(dataset, table)
        except Exception as e:
            yield Finding(f"table {table.name} cannot be read: {str(e).partition(chr(10))[0]}")
            continue
        mend = (Mend("pack", "manifest.parquet"),) if table is t.MANIFEST else ()
        for key, n, _ in found:
            yield Finding(f"table {table.name} holds {n} rows of {key}; each key may be there once", mend)
        for _, _, keys in found[:1]:
            if keys > NAMED:
                more = f"{keys - NAMED} more: table {table.name} holds several rows of ...; each key may be there once"
                yield Finding(Said(more, keys - NAMED), mend)


def _twice(dataset: Dataset, table: Table[Any]) -> list[tuple[str, int, int]]:
    """Return a few of the keys that are there several times: key, its rows, and how many such keys there are."""
    keys = ", ".join(f'"{k}"' for k in table.key)
    name = f"concat_ws(' ', {keys})"
    doubled = f'SELECT {name} AS _key, count(*) AS _rows FROM "{table.name}" GROUP BY {keys} HAVING count(*) > 1'
    sql = f"SELECT _key, _rows, count(*) OVER () FROM ({doubled}) ORDER BY 1 LIMIT ?"
    with contextlib.closing(dataset.connect(tables=[table])) as con:
        return [(str(key), int(n), int(of)) for key, n, of in con.execute(sql, [NAMED]).fetchall()]
