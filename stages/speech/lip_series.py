"""A track's lips over time, and its lip-audio sync, read in bounded pieces.

Lip shapes come from the landmarks beside the crops, as 16-bit numbers: 14 MB an hour and track. The sound of a track is
read a minute at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotators.lips.lip_shape import LIP_NUMBERS, lip_shape
from annotators.lips.lip_signals import moving_mean
from annotators.lips.lip_sync_model import MAX_LAG_FRAMES, LearnedLipSync, SyncTrace, blocks, joined, lag_index
from schemas.tables.attribution import SyncFrameRow
from schemas.tables.scan import FaceCropRow
from schemas.time import GRID_HZ

FloatArray = npt.NDArray[np.float32]
Sound = Callable[[int, int], FloatArray]
"""Sound under `n` grid points from the `first` on: (first, n) to [n * 640] samples."""
_LANDMARK_SCALE = 8.0
_LANDMARK_BYTES = 478 * 2 * 2


def lips_of_tracks(
    part: pa.Table, track_of: Mapping[str, str]
) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
    """Yield (track_id, k [n], lip shapes [n, 80]) of one window of FACE_CROPS, of the rows with landmarks."""
    known = pa.array(sorted(track_of), pa.string())
    mine: Any = part.select([c.name for c in (FaceCropRow.tracklet_id, FaceCropRow.k, FaceCropRow.landmarks)])
    wanted = pc.is_in(FaceCropRow.tracklet_id.of(mine), known)
    mine = mine.filter(pc.and_(wanted, pc.is_valid(FaceCropRow.landmarks.of(mine)))).sort_by(FaceCropRow.k.name)
    owners = np.array([track_of[t] for t in FaceCropRow.tracklet_id.values(mine)], object)
    for track_id in sorted(set(owners)):
        rows = mine.take(np.flatnonzero(owners == track_id))
        marks = [m for m in FaceCropRow.landmarks.values(rows) if m is not None]
        wrong = {len(m) for m in marks} - {_LANDMARK_BYTES}
        if wrong:
            raise ValueError(f"landmarks of {wrong.pop()} bytes where {_LANDMARK_BYTES} belong: scan the source again")
        points = np.frombuffer(b"".join(marks), "<i2").reshape(len(marks), -1, 2).astype(np.float32) / _LANDMARK_SCALE
        yield track_id, FaceCropRow.k.array(rows).astype(np.int64), lip_shape(points).astype(np.float16)


class LipSeries:
    """The lip shapes of one track, fed window by window."""

    def __init__(self) -> None:
        self._ks: list[npt.NDArray[np.int64]] = []
        self._shapes: list[npt.NDArray[np.float16]] = []

    def add(self, ks: npt.NDArray[np.int64], shapes: npt.NDArray[np.float16]) -> None:
        """Take shapes [n, 80] at grid points."""
        self._ks.append(ks)
        self._shapes.append(shapes)

    def between(self, first: int, n: int) -> FloatArray:
        """Return lip shapes [n, 80] at grid points from `first` on; nan where there are none."""
        out = np.full((n, LIP_NUMBERS), np.nan, np.float32)
        for ks, shapes in zip(self._ks, self._shapes, strict=True):
            inside = (ks >= first) & (ks < first + n)
            out[ks[inside] - first] = shapes[inside]
        return out


def trace(sync: LearnedLipSync, lips: LipSeries, sound: Sound, first: int, n: int) -> SyncTrace:
    """Return the evidence over [first, first + n), block by block, each with the sound that its lags reach."""
    parts = []
    for start, end in blocks(n):
        at, length = first + start - MAX_LAG_FRAMES, end - start + 2 * MAX_LAG_FRAMES
        shapes = lips.between(first + start, end - start)
        parts.append(sync.trace(sound(at, length), shapes, MAX_LAG_FRAMES, MAX_LAG_FRAMES))
    return joined(parts)


def frame_rows(found: SyncTrace, track_id: str, first: int, offset_ms: float, name: str) -> list[SyncFrameRow]:
    """Return SYNC_FRAMES rows of a track that begins at grid point `first`; offset nan = unknown."""
    best = lag_index(offset_ms if np.isfinite(offset_ms) else 0.0)
    own, zero = (moving_mean(found.log_odds[:, i], GRID_HZ) for i in (best, lag_index(0.0)))
    columns = zip(own.tolist(), zero.tolist(), found.log_odds.tolist(), found.known.tolist(), strict=True)
    return [
        SyncFrameRow(
            track_id=track_id,
            k=first + i,
            log_odds=a,
            log_odds_at_zero=b,
            log_odds_by_lag=by_lag,
            known=known,
            annotator=name,
        )
        for i, (a, b, by_lag, known) in enumerate(columns)
    ]
