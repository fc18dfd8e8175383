"""A column: its Arrow type, unit and meaning, and the type of its values for the checker. Declared inside a `Row`.

Costs nothing on rows: their values lie before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.packed import Packed

if TYPE_CHECKING:
    import pandas as pd

V = TypeVar("V")


class TableError(ValueError):
    """Rows that do not fit their table's declaration."""


class Column(Generic[V]):
    """One column: `unit` is empty for dimensionless values and identifiers. On a row it reads as the row's value.

    Inside SQL, `f"{SegmentRow.start_s} < 1"`, it stands for its name.
    """

    __slots__ = ("doc", "name", "nullable", "packed", "type", "unit")

    def __init__(
        self, type_: pa.DataType, doc: str, unit: str = "", nullable: bool = False, packed: Packed | None = None
    ) -> None:
        self.name = ""
        self.type, self.doc, self.unit, self.nullable, self.packed = type_, doc, unit, nullable, packed

    def __repr__(self) -> str:
        return f"Column({self.name}: {self.type})"

    def __str__(self) -> str:
        return self.name

    @property
    def absent(self) -> V:
        """What stands for a value of a clip of which nothing was measured."""
        kind, mark = self.type, self.packed
        out: Any = None if mark is None else mark.absent
        if out is None and not self.nullable:
            out = "" if pa.types.is_string(kind) else [] if pa.types.is_list(kind) else None
        return cast(V, out)

    @overload
    def __get__(self, row: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, row: object, owner: Any) -> V: ...
    def __get__(self, row: Any, owner: Any) -> Any:
        # A row's own dict comes first, so this runs for the class, and for a row that lacks the value.
        if row is None:
            return self
        raise AttributeError(f"this {owner.__name__} was read without its column {self.name!r}")

    if TYPE_CHECKING:

        def __set__(self, row: Any, value: V) -> None: ...

    @overload
    def of(self, table: pa.Table) -> pa.ChunkedArray[Any]: ...
    @overload
    def of(self, table: pd.DataFrame) -> pd.Series[Any]: ...
    def of(self, table: Any) -> Any:
        """Return this column of an Arrow table, or of a pandas frame that was made from one."""
        return table[self.name]

    def values(self, table: pa.Table) -> list[V]:
        """Return its values as Python objects."""
        out: Any = table[self.name].to_pylist()
        return cast(list[V], out)

    @overload
    def array(self: Column[int], table: pa.Table) -> npt.NDArray[np.integer[Any]]: ...
    @overload
    def array(self: Column[float], table: pa.Table) -> npt.NDArray[np.floating[Any]]: ...
    @overload
    def array(self: Column[float | None], table: pa.Table) -> npt.NDArray[np.floating[Any]]: ...
    @overload
    def array(self: Column[bool], table: pa.Table) -> npt.NDArray[np.bool_]: ...
    @overload
    def array(self, table: pa.Table) -> npt.NDArray[Any]: ...
    def array(self, table: pa.Table) -> npt.NDArray[Any]:
        """Return its values as NumPy, [N]; null numbers are nan."""
        out: npt.NDArray[Any] = table[self.name].to_numpy()
        return out
