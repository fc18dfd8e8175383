"""Shorthand for declaring columns, so that the table pages read like a data dictionary. Costs nothing."""

from __future__ import annotations

from typing import Any, Literal, overload

import pyarrow as pa

from schemas.column import Column
from schemas.packed import Packed


@overload
def text(doc: str, *, null: Literal[False] = False, packed: Packed | None = None) -> Column[str]: ...
@overload
def text(doc: str, *, null: Literal[True], packed: Packed | None = None) -> Column[str | None]: ...
def text(doc: str, *, null: bool = False, packed: Packed | None = None) -> Column[Any]:
    """Declare a UTF-8 string column."""
    return Column(pa.string(), doc, nullable=null, packed=packed)


def texts(doc: str, *, packed: Packed | None = None) -> Column[list[str]]:
    """Declare a list-of-strings column."""
    return Column(pa.list_(pa.string()), doc, packed=packed)


@overload
def real(doc: str, unit: str = "", *, null: Literal[False] = False, packed: Packed | None = None) -> Column[float]: ...
@overload
def real(doc: str, unit: str = "", *, null: Literal[True], packed: Packed | None = None) -> Column[float | None]: ...
def real(doc: str, unit: str = "", *, null: bool = False, packed: Packed | None = None) -> Column[Any]:
    """Declare a float32 column: scores, ratios, pixels."""
    return Column(pa.float32(), doc, unit, null, packed)


@overload
def seconds(doc: str, *, null: Literal[False] = False, packed: Packed | None = None) -> Column[float]: ...
@overload
def seconds(doc: str, *, null: Literal[True], packed: Packed | None = None) -> Column[float | None]: ...
def seconds(doc: str, *, null: bool = False, packed: Packed | None = None) -> Column[Any]:
    """Declare a float64 column of seconds on the source's clock."""
    return Column(pa.float64(), doc, "s", null, packed)


@overload
def count(doc: str, unit: str = "", *, null: Literal[False] = False, packed: Packed | None = None) -> Column[int]: ...
@overload
def count(doc: str, unit: str = "", *, null: Literal[True], packed: Packed | None = None) -> Column[int | None]: ...
def count(doc: str, unit: str = "", *, null: bool = False, packed: Packed | None = None) -> Column[Any]:
    """Declare an int64 column."""
    return Column(pa.int64(), doc, unit, null, packed)


def index(doc: str, *, packed: Packed | None = None) -> Column[int]:
    """Declare an int32 column of indices on a grid."""
    return Column(pa.int32(), doc, packed=packed)


@overload
def flag(doc: str, *, null: Literal[False] = False, packed: Packed | None = None) -> Column[bool]: ...
@overload
def flag(doc: str, *, null: Literal[True], packed: Packed | None = None) -> Column[bool | None]: ...
def flag(doc: str, *, null: bool = False, packed: Packed | None = None) -> Column[Any]:
    """Declare a boolean column."""
    return Column(pa.bool_(), doc, nullable=null, packed=packed)


@overload
def blob(doc: str, *, null: Literal[False] = False) -> Column[bytes]: ...
@overload
def blob(doc: str, *, null: Literal[True]) -> Column[bytes | None]: ...
def blob(doc: str, *, null: bool = False) -> Column[Any]:
    """Declare a binary column."""
    return Column(pa.binary(), doc, nullable=null)


@overload
def reals(
    doc: str, unit: str = "", *, null: Literal[False] = False, packed: Packed | None = None
) -> Column[list[float]]: ...
@overload
def reals(
    doc: str, unit: str = "", *, null: Literal[True], packed: Packed | None = None
) -> Column[list[float] | None]: ...
def reals(doc: str, unit: str = "", *, null: bool = False, packed: Packed | None = None) -> Column[Any]:
    """Declare a list-of-float32 column."""
    return Column(pa.list_(pa.float32()), doc, unit, null, packed)


def source_id() -> Column[str]:
    """Declare the id of a source."""
    return text("first 16 hex digits of the SHA-256 of the source file's bytes")


def shot_id() -> Column[str]:
    """Declare the id of a shot."""
    return text("shot, `<source_id>-s<n>` in order of time")


def track_id() -> Column[str]:
    """Declare the id of a face track."""
    return text("face track, `<source_id>-t<n>`; never crosses a cut")


def tracklet_id() -> Column[str]:
    """Declare the id of a tracklet."""
    return text("a window's piece of a track, `<source_id>-w<window>-<n>`")


def segment_id() -> Column[str]:
    """Declare the id of a segment."""
    return text("segment of a track, `<track_id>-<start in ms>`; also the sample's key")


def grid_index() -> Column[int]:
    """Declare a point of the 25 Hz grid."""
    return index("index on the source's 25 Hz grid; time = k / 25 s")


def frame_time() -> Column[float]:
    """Declare the time of a frame."""
    return seconds("presentation time of the frame that was measured for this grid point")


def start_s() -> Column[float]:
    """Declare the start of an interval."""
    return seconds("start, inclusive")


def end_s() -> Column[float]:
    """Declare the end of an interval."""
    return seconds("end, exclusive")


def duration_s() -> Column[float]:
    """Declare the length of an interval."""
    return seconds("end_s - start_s")


def annotator(*, packed: Packed | None = None) -> Column[str]:
    """Declare what measured a row."""
    return text("which annotator measured this row; a heuristic says so in its name", packed=packed)
