"""What a table is: a row class, a name and a key; rows are validated where they are made.

A table's Arrow schema, its documentation page and its SQL view all come from the row class.
Building a table costs a cast and a sort.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, Literal

import pyarrow as pa
from typing_extensions import TypeVar

from schemas.column import Column, TableError
from schemas.row import Row, mismatch

Grain = Literal["source", "window", "dataset"]
R = TypeVar("R", bound=Row, default=Any)

__all__ = ["Column", "Grain", "Row", "Table", "TableError"]


class Table(Generic[R]):
    """A named table of rows with a key; `grain` is what one stored file holds: a source, a window of it, or all."""

    def __init__(self, row: type[R], name: str, key: Sequence[Column[Any]], grain: Grain = "source") -> None:
        """Name a table of rows of a class. Raises TableError for a key column that the class does not declare."""
        strangers = [k.name for k in key if k not in row.columns]
        if strangers:
            raise TableError(f"table {name}: key columns {strangers} are not declared")
        self.row, self.name, self.grain = row, name, grain
        self.key = tuple(k.name for k in key)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Table) and self.name == other.name and self.schema == other.schema

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Table({self.name})"

    @property
    def doc(self) -> str:
        """What one row is, from the row class."""
        return " ".join((inspect.getdoc(self.row) or "").split()).removesuffix(".")

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The columns in declared order."""
        return self.row.columns

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in declared order."""
        return tuple(c.name for c in self.columns)

    @property
    def described(self) -> pa.Schema:
        """The Arrow schema with each column's meaning and unit as the metadata of its field."""
        said: list[dict[bytes | str, bytes | str]] = [
            {"comment": c.doc, **({"unit": c.unit} if c.unit else {})} for c in self.columns
        ]
        return pa.schema([f.with_metadata(m) for f, m in zip(self.schema, said, strict=True)])

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return _schema(self.columns)

    def empty(self) -> pa.Table:
        """Return a table with no rows."""
        return self.schema.empty_table()

    def rows(self, table: pa.Table) -> list[R]:
        """Return the rows of an Arrow table as Python objects: about a kilobyte each, so not for frames of hours."""
        return [self.row.of(values) for values in table.to_pylist()]

    def from_rows(self, rows: Iterable[R] | Iterable[Mapping[str, Any]]) -> pa.Table:
        """Build a validated table, sorted by key, from rows (or, where names are learnt at run time, mappings).

        Raises:
            TableError: unknown or missing columns, a null where none may be, a wrong type, a repeated key.
        """
        values = [dict(row) for row in rows]
        known = set(self.column_names)
        for row in values:
            if row.keys() != known:
                raise mismatch(f"table {self.name}", row.keys(), known)
        return self.from_columns({c: [row[c] for row in values] for c in self.column_names})

    def from_columns(self, columns: Mapping[str, Any] | Mapping[Column[Any], Any]) -> pa.Table:
        """Build a validated table from columns (lists, NumPy or Arrow arrays), sorted by key. Raises TableError."""
        given = {c.name if isinstance(c, Column) else c: values for c, values in columns.items()}
        known = set(self.column_names)
        if given.keys() != known:
            raise mismatch(f"table {self.name}", given.keys(), known)
        return self.validated(
            pa.Table.from_arrays([self._array(c, given[c.name]) for c in self.columns], schema=self.schema)
        )

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

    def _array(self, c: Column[Any], values: Any) -> pa.Array[Any]:
        try:
            array = values if isinstance(values, pa.Array) else pa.array(values, type=c.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as e:
            raise TableError(f"table {self.name}, column {c.name} ({c.type}): {e}") from e
        if array.type != c.type:
            array = array.cast(c.type)
        if not c.nullable and array.null_count:
            raise TableError(f"table {self.name}, column {c.name}: {array.null_count} nulls where none may be")
        return array


@lru_cache(maxsize=1024)
def _schema(columns: tuple[Column[Any], ...]) -> pa.Schema:
    return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in columns])
