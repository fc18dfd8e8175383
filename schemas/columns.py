"""Shorthand for declaring columns, so that the table pages read like a data dictionary. Costs nothing."""

from __future__ import annotations

import pyarrow as pa

from schemas.table import Column


def text(name: str, doc: str, *, null: bool = False) -> Column:
    """Declare a UTF-8 string column."""
    return Column(name, pa.string(), doc, nullable=null)


def texts(name: str, doc: str) -> Column:
    """Declare a list-of-strings column."""
    return Column(name, pa.list_(pa.string()), doc)


def real(name: str, doc: str, unit: str = "", *, null: bool = False) -> Column:
    """Declare a float32 column: scores, ratios, pixels."""
    return Column(name, pa.float32(), doc, unit, null)


def seconds(name: str, doc: str, *, null: bool = False) -> Column:
    """Declare a float64 column of seconds on the source's clock."""
    return Column(name, pa.float64(), doc, "s", null)


def count(name: str, doc: str, unit: str = "", *, null: bool = False) -> Column:
    """Declare an int64 column."""
    return Column(name, pa.int64(), doc, unit, null)


def index(name: str, doc: str) -> Column:
    """Declare an int32 column of indices on a grid."""
    return Column(name, pa.int32(), doc)


def flag(name: str, doc: str, *, null: bool = False) -> Column:
    """Declare a boolean column."""
    return Column(name, pa.bool_(), doc, nullable=null)


def blob(name: str, doc: str, *, null: bool = False) -> Column:
    """Declare a binary column."""
    return Column(name, pa.binary(), doc, nullable=null)


def reals(name: str, doc: str, unit: str = "", *, null: bool = False) -> Column:
    """Declare a list-of-float32 column."""
    return Column(name, pa.list_(pa.float32()), doc, unit, null)


SOURCE = text("source_id", "first 16 hex digits of the SHA-256 of the source file's bytes")
SHOT = text("shot_id", "shot, `<source_id>-s<n>` in order of time")
TRACK = text("track_id", "face track, `<source_id>-t<n>`; never crosses a cut")
TRACKLET = text("tracklet_id", "a window's piece of a track, `<source_id>-w<window>-<n>`")
SEGMENT = text("segment_id", "segment of a track, `<track_id>-<start in ms>`; also the sample's key")
K = index("k", "index on the source's 25 Hz grid; time = k / 25 s")
T = seconds("t_s", "presentation time of the frame that was measured for this grid point")
START = seconds("start_s", "start, inclusive")
END = seconds("end_s", "end, exclusive")
DURATION = seconds("duration_s", "end_s - start_s")
ANNOTATOR = text("annotator", "which annotator measured this row; a heuristic says so in its name")
