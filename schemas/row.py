"""Rows as classes: a column is declared once, and its name and type hold in Arrow, in Python and for the type checker.

In a subclass `WordRow` that declares `word: Column[str] = c.text("as recognised")`, `WordRow.word` is the column
(`WordRow.word.array(table)` are its values as NumPy) and `row.word` a value. A misspelt or renamed column is an error
of mypy. Making a row costs about as much as a dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self, dataclass_transform

from schemas import columns as c
from schemas.column import Column, TableError


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(
        Column,
        c.text,
        c.texts,
        c.real,
        c.seconds,
        c.count,
        c.index,
        c.flag,
        c.blob,
        c.reals,
        c.source_id,
        c.shot_id,
        c.track_id,
        c.tracklet_id,
        c.segment_id,
        c.grid_index,
        c.frame_time,
        c.start_s,
        c.end_s,
        c.duration_s,
        c.annotator,
    ),
)
class Row:
    """A row of a table: subclasses declare the columns in order; the docstring says what one row is."""

    columns: ClassVar[tuple[Column[Any], ...]] = ()
    _names: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Column)}
        for name, column in own.items():
            if column.name:
                raise TableError(f"{cls.__name__}.{name} is column {column.name!r} of another row: declare it anew")
            column.name = name
        cls.columns = (*cls.columns, *own.values())
        cls._names = frozenset(c.name for c in cls.columns)
        if len(cls._names) != len(cls.columns):
            raise TableError(f"{cls.__name__}: a column is declared twice")

    def __init__(self, **values: Any) -> None:
        """Take a value for every column. Raises TableError for unknown and missing ones."""
        if values.keys() != self._names:
            raise mismatch(type(self).__name__, values.keys(), self._names)
        self.__dict__ = values

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Wrap values that are known to be those of a row (perhaps not all); the dict is the row's from then on."""
        row = cls.__new__(cls)
        row.__dict__ = values
        return row

    def but(self, **changes: Any) -> Self:
        """Return the row with some values changed. Raises TableError for unknown columns."""
        if not changes.keys() <= self._names:
            raise mismatch(type(self).__name__, changes.keys(), self._names)
        return self.of({**self.__dict__, **changes})

    def __getitem__(self, name: str) -> object:
        """Return a value by its column's name, for code that learns names at run time."""
        return self.__dict__[name]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value): `dict(row)`."""
        return iter(self.__dict__.items())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self)})"


def mismatch(what: str, given: Any, known: Any) -> TableError:
    """Return the error of names that are not those of the declared columns."""
    return TableError(f"{what}: unknown columns {sorted(given - known)}, missing columns {sorted(known - given)}")
