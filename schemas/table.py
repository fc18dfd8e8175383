"""What a table is: named, documented, typed columns with a key; rows are validated where they are made.

A table's Arrow schema, its documentation page and its SQL view all come from this one declaration.
Building a table costs a cast and a sort.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

Grain = Literal["source", "window", "dataset"]


class TableError(ValueError):
    """Rows that do not fit their table's declaration."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `unit` is empty for dimensionless values and identifiers."""

    name: str
    type: pa.DataType
    doc: str
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A named table with a key; `grain` is what one stored file holds: a source, a window of it, or all."""

    name: str
    doc: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    grain: Grain = "source"
    schema: pa.Schema = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        if len(set(names)) != len(names):
            raise TableError(f"table {self.name}: a column is declared twice")
        missing = [k for k in self.key if k not in names]
        if missing:
            raise TableError(f"table {self.name}: key columns {missing} are not declared")
        fields = [pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns]
        object.__setattr__(self, "schema", pa.schema(fields))

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.name, self.doc, self.key, self.columns, self.grain)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in declared order."""
        return tuple(c.name for c in self.columns)

    def empty(self) -> pa.Table:
        """Return a table with no rows."""
        return self.schema.empty_table()

    def from_rows(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Build a validated table from row mappings, sorted by key.

        Raises:
            TableError: unknown or missing columns, a null where none may be, a wrong type, a repeated key.
        """
        rows = list(rows)
        known = set(self.column_names)
        for row in rows:
            if row.keys() != known:
                extra, missing = sorted(row.keys() - known), sorted(known - row.keys())
                raise TableError(f"table {self.name}: unknown columns {extra}, missing columns {missing}")
        return self.from_columns({c: [row[c] for row in rows] for c in self.column_names})

    def from_columns(self, columns: Mapping[str, Sequence[Any] | Any]) -> pa.Table:
        """Build a validated table from column sequences (lists, NumPy or Arrow arrays), sorted by key."""
        known = set(self.column_names)
        if columns.keys() != known:
            extra, missing = sorted(columns.keys() - known), sorted(known - columns.keys())
            raise TableError(f"table {self.name}: unknown columns {extra}, missing columns {missing}")
        arrays = []
        for c in self.columns:
            try:
                value = columns[c.name]
                array = value if isinstance(value, pa.Array) else pa.array(value, type=c.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as e:
                raise TableError(f"table {self.name}, column {c.name} ({c.type}): {e}") from e
            if array.type != c.type:
                array = array.cast(c.type)
            if not c.nullable and array.null_count:
                raise TableError(f"table {self.name}, column {c.name}: {array.null_count} nulls where none may be")
            arrays.append(array)
        return self.validated(pa.Table.from_arrays(arrays, schema=self.schema))

    def validated(self, table: pa.Table) -> pa.Table:
        """Return `table` sorted by key, after checking its schema and that no key repeats."""
        if not table.schema.equals(self.schema):
            raise TableError(f"table {self.name}: schema differs from its declaration:\n{table.schema}")
        if table.num_rows > 1:
            table = table.sort_by([(k, "ascending") for k in self.key]).combine_chunks()
            keys = table.select(list(self.key))
            if keys.group_by(list(self.key)).aggregate([]).num_rows != keys.num_rows:
                raise TableError(f"table {self.name}: a key {self.key} repeats")
        return table


def _rebuild(name: str, doc: str, key: tuple[str, ...], columns: tuple[Column, ...], grain: Grain) -> Table:
    return Table(name, doc, key, columns, grain)
