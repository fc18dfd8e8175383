"""A dataset as its users see it: every table under its own name in DuckDB, pandas or Arrow.

    from curation import Dataset
    Dataset("OUT").query("SELECT state, count(*) FROM manifest GROUP BY state").df()

Views are made over the Parquet files, so nothing is copied; the same files open with plain DuckDB and pandas.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from curation.compacted import Part
from curation.decide import unit_tables, view_sql
from curation.store import Store, StoreError, table_file
from schemas import tables as t
from schemas.extensions import declare, from_json
from schemas.table import Table
from schemas.units import UNITS

FORMAT_VERSION = 1
"""Raised when the layout of a dataset changes incompatibly."""


class DatasetError(ValueError):
    """Something that is not a dataset, or a query that cannot run."""


class Dataset:
    """A dataset opened for reading."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a directory, or an `s3://` prefix. Raises DatasetError where there is none that can be read."""
        self.store = Store(os.fspath(path))
        try:
            self.info: dict[str, Any] | None = self.store.read_json("dataset.json")
        except OSError as e:
            raise DatasetError(f"cannot read {path}: {e}") from e
        if self.info is None:
            raise DatasetError(f"{path} is not a dataset (it has no dataset.json); make one with `lpm run`")
        if self.info.get("format") != FORMAT_VERSION:
            raise DatasetError(
                f"{path} has dataset format {self.info.get('format')}, this program reads {FORMAT_VERSION}; "
                "use the version of openlpm that wrote it"
            )
        for table in (self.store.read_json("workflow.json") or {}).get("tables", []):
            declare(from_json(table))

    def files(self, table: Table) -> list[str]:
        """Return the names of a table's files as `Store.read_table` takes them, compacted or not."""
        return list(self._parts(table))

    def _parts(self, table: Table) -> dict[str, Part | None]:
        if table.grain == "dataset":
            name = table_file(table)
            return {name: None} if self.store.exists(name) else {}
        return self.store.tables(f"tables/{table.name}")

    def table(self, table: Table, columns: list[str] | None = None) -> pa.Table:
        """Return a whole table as Arrow, sorted by key."""
        parts = self._parts(table)
        if not parts:
            return table.empty().select(columns or list(table.column_names))
        rows = self._dataset(table, parts).to_table(columns=columns)
        keys = [k for k in table.key if k in rows.column_names]
        return rows.sort_by([(k, "ascending") for k in keys]) if keys else rows

    def _dataset(self, table: Table, parts: Mapping[str, Part | None]) -> pads.Dataset:
        """Return the parts as one Arrow dataset: small files whole, of compact files the row groups that count."""
        fs, form = self.store.filesystem(), pads.ParquetFileFormat()
        groups: dict[str, list[int]] = {}
        for part in parts.values():
            if part is not None:
                groups.setdefault(part.file, []).extend(part.groups)
        fragments = [form.make_fragment(self.store.path(n), fs) for n, part in parts.items() if part is None]
        for file, wanted in sorted(groups.items()):
            if wanted:
                fragments.append(form.make_fragment(self.store.path(file), fs, row_groups=sorted(wanted)))
        return pads.FileSystemDataset(fragments, table.schema, form, fs)

    def _plain_files(self, parts: Mapping[str, Part | None]) -> list[str] | None:
        """Return the files whose every row counts, or None while some compact file holds hidden rows."""
        live: dict[str, set[str]] = {}
        for name, part in parts.items():
            if part is not None:
                live.setdefault(part.file, set()).add(name)
        if any(names != {p.name for p in self.store.compacted.parts(file)} for file, names in live.items()):
            return None
        return sorted([n for n, part in parts.items() if part is None] + list(live))

    def connect(self, catalog: str = ":memory:") -> duckdb.DuckDBPyConnection:
        """Open DuckDB with one view a table, and `units_<kind>` views that show what policy rules see."""
        con = duckdb.connect(catalog)
        for table in t.TABLES.values():
            self._create_view(con, table, persistent=catalog != ":memory:")
        con.execute(
            "CREATE OR REPLACE VIEW rights AS SELECT source_id, any_value(license) AS license, "
            "any_value(rights_holder) AS rights_holder, any_value(consent) AS consent FROM inputs GROUP BY source_id"
        )
        for kind in UNITS:
            con.execute(f"CREATE OR REPLACE VIEW units_{kind} AS {view_sql(kind, '{}', presence=False)}")
        return con

    def _create_view(self, con: duckdb.DuckDBPyConnection, table: Table, persistent: bool) -> None:
        parts = self._parts(table)
        files = self._plain_files(parts) if parts and self.store.local else None
        if files:
            listed = ", ".join("'" + self.store.path(f).replace("'", "''") + "'" for f in files)
            rows = f"SELECT * FROM read_parquet([{listed}])"
            if self._older(table, files):
                rows = f"{_no_rows(table)} UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name=true)"
            con.execute(f'CREATE OR REPLACE VIEW "{table.name}" AS {rows}')
        elif parts and not persistent:
            con.register(table.name, self._dataset(table, parts))
        elif parts and self.store.local:
            raise StoreError(f"{table.name} holds rows that newer files replace; `lpm compact` clears them away")
        else:
            con.execute(f'CREATE OR REPLACE VIEW "{table.name}" AS {_no_rows(table)}')

    def _older(self, table: Table, files: list[str]) -> bool:
        """Say whether files lack columns, as an older version of the program wrote them; looks at both ends."""
        wanted = set(table.column_names)
        return any(not wanted <= set(pq.read_schema(self.store.path(f)).names) for f in {files[0], files[-1]})

    def query(self, sql: str) -> duckdb.DuckDBPyRelation:
        """Run SQL and return a DuckDB relation (`.df()`, `.arrow()`, `.fetchall()`).

        Raises:
            DatasetError: the SQL does not parse, or names something that does not exist.
        """
        try:
            relation = self.connect().sql(sql)
        except duckdb.Error as e:
            raise DatasetError(f"query failed: {e}") from e
        if relation is None:
            raise DatasetError("the query returns no rows; write a SELECT")
        return relation

    def unit_tables(self) -> dict[str, pa.Table]:
        """Return the tables that policy rules look at, whole, by name."""
        out = {table.name: self.table(table) for table in unit_tables() if table.name in t.TABLES}
        inputs = self.table(t.INPUTS).to_pylist()
        first = {row["source_id"]: row for row in reversed(inputs)}
        rights = next(table for table in unit_tables() if table.name == "rights")
        out["rights"] = rights.from_rows({c: row[c] for c in rights.column_names} for row in first.values())
        return out

    def write_catalog(self) -> None:
        """(Re)build catalog.duckdb, a DuckDB file of views over the dataset's files; local datasets only."""
        if not self.store.local:
            return
        path = self.store.local_path("catalog.duckdb")
        temporary = path.with_name(".tmp-catalog.duckdb")
        temporary.unlink(missing_ok=True)
        try:
            self.connect(str(temporary)).close()
            temporary.replace(path)
        except (OSError, duckdb.IOException) as e:
            raise StoreError(f"cannot write {path}: {e}") from e


def _no_rows(table: Table) -> str:
    casts = ", ".join(f'CAST(NULL AS {_sql_type(c.type)}) AS "{c.name}"' for c in table.columns)
    return f"SELECT {casts} WHERE false"


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return _sql_type(kind.value_type) + "[]"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{f.name}" {_sql_type(f.type)}' for f in kind) + ")"
    names = {
        pa.string(): "VARCHAR", pa.float32(): "FLOAT", pa.float64(): "DOUBLE", pa.int64(): "BIGINT",
        pa.int32(): "INTEGER", pa.bool_(): "BOOLEAN", pa.binary(): "BLOB",
    }  # fmt: skip
    return names[kind]
