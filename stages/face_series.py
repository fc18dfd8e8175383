"""Per-track arrays from the window-grained face rows: a track's pieces joined, in order of time.

Stages that look at one person over time (captions, crops, portraits' expressions) start here. Only the columns asked
for are kept, so a three-hour source costs some megabytes a column and face.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.column import Column
from schemas.tables.scan import FaceFrameRow, PortraitRow
from schemas.tables.tracks import TrackletRow

BOX = (FaceFrameRow.x, FaceFrameRow.y, FaceFrameRow.w, FaceFrameRow.h)
"""Columns of a face's box, in pixels."""

SURE = 0.7
"""Detector score from which a face is seen though no landmarks fit it: in profile, or looking down at a table."""


@dataclass(frozen=True, slots=True)
class Series:
    """Columns of one person's rows as arrays of one length, in order of `k`: `series[FaceFrameRow.yaw_deg]`."""

    k: npt.NDArray[np.int64]
    """increasing grid points [n]"""
    arrays: Mapping[Column[Any], npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.k)

    def __contains__(self, column: Column[Any]) -> bool:
        return column in self.arrays

    def __getitem__(self, column: Column[Any]) -> npt.NDArray[Any]:
        return self.arrays[column]

    def part(self, rows: slice | npt.NDArray[Any]) -> Series:
        """Return some of the rows: a slice, indices, or a mask."""
        return Series(self.k[rows], {column: a[rows] for column, a in self.arrays.items()})


def tracklets_of(tracklets: pa.Table) -> dict[str, str]:
    """Return track_id by tracklet_id."""
    return dict(zip(TrackletRow.tracklet_id.values(tracklets), TrackletRow.track_id.values(tracklets), strict=True))


def track_series(
    parts: Iterable[pa.Table],
    track_of: Mapping[str, str],
    columns: Sequence[Column[Any]],
    row: type[FaceFrameRow] | type[PortraitRow] = FaceFrameRow,
    width: int = 52,
) -> dict[str, Series]:
    """Return, for each track of `track_of`, columns of the table of `row`, read window by window.

    Numbers become float64 [n] (null = nan), lists of numbers float32 [n, width] (empty = nan), flags bool [n]. Where
    two pieces of a track hold the same k, the later window's row counts.
    """
    pieces: dict[str, list[Series]] = defaultdict(list)
    known = pa.array(sorted(track_of), pa.string())
    for part in parts:
        mine = part.filter(pc.is_in(row.tracklet_id.of(part), known))
        if not mine.num_rows:
            continue
        whole = Series(_array(row.k.of(mine), width), {column: _array(column.of(mine), width) for column in columns})
        names: Any = row.tracklet_id.of(mine).dictionary_encode().combine_chunks()
        codes = np.asarray(names.indices)
        for code, tracklet in enumerate(names.dictionary.to_numpy(zero_copy_only=False)):
            pieces[track_of[tracklet]].append(whole.part(codes == code))
    return {track: _joined(found) for track, found in sorted(pieces.items())}


def between(series: Series, ks: range) -> Series:
    """Return the rows whose `k` lies in a range of grid points."""
    lo, hi = np.searchsorted(series.k, [ks.start, ks.stop])
    return series.part(slice(lo, hi))


def between_or_nearest(series: Series, ks: range) -> Series:
    """Return the rows whose `k` lies in a range of grid points; where there are none, the one nearest to its middle."""
    part = between(series, ks)
    if len(part) or not len(series):
        return part
    nearest = int(np.argmin(np.abs(series.k - (ks.start + ks.stop - 1) / 2)))
    return series.part(slice(nearest, nearest + 1))


def boxes(series: Series) -> npt.NDArray[np.float64]:
    """Return face boxes [n, 4] (x, y, w, h) in pixels."""
    return np.stack([series[c] for c in BOX], axis=1)


def row_at(series: Series, k: int) -> int | None:
    """Return the index of the row of a grid point; None where it has none."""
    at = int(np.searchsorted(series.k, k))
    return at if at < len(series) and series.k[at] == k else None


def _joined(pieces: list[Series]) -> Series:
    ks = np.concatenate([p.k for p in pieces])
    whole = Series(ks, {c: np.concatenate([p[c] for p in pieces]) for c in pieces[0].arrays})
    order = np.argsort(ks, kind="stable")
    k = ks[order]
    return whole.part(order[np.append(k[1:] != k[:-1], True)])  # the last of equal ones


def _array(chunks: Any, width: int) -> npt.NDArray[Any]:
    column = chunks.combine_chunks()
    if pa.types.is_list(column.type):
        out = np.full((len(column), width), np.nan, np.float32)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
        wrong = set(np.unique(lengths).tolist()) - {0, width}
        if wrong:
            raise ValueError(f"lists of {sorted(wrong)} numbers where {width} were expected")
        out[lengths == width] = np.asarray(column.flatten()).reshape(-1, width)
        return out
    if pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), bool)
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    return np.asarray(column.to_numpy(zero_copy_only=False), object)
