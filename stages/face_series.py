"""Per-track arrays from the window-grained face rows: a track's pieces joined, in order of time.

Stages that look at one person over time (captions, crops, portraits' expressions) start here. Only the columns asked
for are kept, so a three-hour source costs some megabytes a column and face.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Columns = dict[str, npt.NDArray[Any]]

SURE = 0.7
"""Detector score from which a face is seen though no landmarks fit it: in profile, or looking down at a table."""


def tracklets_of(tracklets: pa.Table) -> dict[str, str]:
    """Return track_id by tracklet_id."""
    ids, tracks = tracklets["tracklet_id"].to_pylist(), tracklets["track_id"].to_pylist()
    return {str(a): str(b) for a, b in zip(ids, tracks, strict=True)}


def track_series(
    parts: Iterable[pa.Table], track_of: Mapping[str, str], columns: Sequence[str], width: int = 52
) -> dict[str, Columns]:
    """Return, for each track of `track_of`, the columns as arrays in order of `k`.

    Numbers become float64 [n] (null = nan), `k` int64 [n], lists of numbers float32 [n, width] (empty = nan), flags
    bool [n]. Where two pieces of a track hold the same k, the later window's row counts.
    """
    pieces: dict[str, list[Columns]] = defaultdict(list)
    known = pa.array(sorted(track_of), pa.string())
    for part in parts:
        mine = part.filter(pc.is_in(part["tracklet_id"], known))
        if not mine.num_rows:
            continue
        arrays = {name: _array(mine[name].combine_chunks(), width) for name in columns}
        names: Any = mine["tracklet_id"].dictionary_encode().combine_chunks()
        codes = np.asarray(names.indices)
        for code, tracklet in enumerate(names.dictionary.to_pylist()):
            rows = codes == code
            pieces[track_of[tracklet]].append({name: a[rows] for name, a in arrays.items()})
    return {track: _joined(found) for track, found in sorted(pieces.items())}


def between(series: Columns, ks: range) -> Columns:
    """Return the rows whose `k` lies in a range of grid points."""
    lo, hi = np.searchsorted(series["k"], [ks.start, ks.stop])
    return {name: a[lo:hi] for name, a in series.items()}


def between_or_nearest(series: Columns, ks: range) -> Columns:
    """Return the rows whose `k` lies in a range of grid points; where there are none, the one nearest to its middle."""
    part = between(series, ks)
    if len(part["k"]) or not len(series["k"]):
        return part
    nearest = int(np.argmin(np.abs(series["k"] - (ks.start + ks.stop - 1) / 2)))
    return {name: a[nearest : nearest + 1] for name, a in series.items()}


def boxes(series: Columns) -> npt.NDArray[np.float64]:
    """Return face boxes [n, 4] (x, y, w, h) in pixels from columns x, y, w, h."""
    return np.stack([series[c] for c in "xywh"], axis=1)


def _joined(pieces: list[Columns]) -> Columns:
    whole = {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}
    order = np.argsort(whole["k"], kind="stable")
    k = whole["k"][order]
    order = order[np.append(k[1:] != k[:-1], True)]  # the last of equal ones
    return {name: a[order] for name, a in whole.items()}


def _array(column: Any, width: int) -> npt.NDArray[Any]:
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
