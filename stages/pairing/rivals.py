"""Of two faces that both seem to speak while one voice is heard: whose lips follow it now. Pure.

Lip-audio sync summed over three seconds, each face at its own lag. It speaks only where it is positive for one of them
and clearly better than for the other; elsewhere both stay what their own evidence says. Milliseconds a source.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.lips.lip_signals import moving_mean
from schemas.tables.attribution import SyncFrameRow
from schemas.time import GRID_HZ

Bools = npt.NDArray[np.bool_]

WINDOW_S = 3.0
_MORE_FRAMES = 51
"""SYNC_FRAMES.log_odds is a mean over 1 s already; so much more makes three."""


def sync_now(table: pa.Table) -> dict[str, Mapping[int, float]]:
    """Return by track and grid point the log-odds, summed over `WINDOW_S` around it, that the voice is the face's."""
    out: dict[str, Mapping[int, float]] = {}
    if not table.num_rows:
        return out
    tracks = np.array(SyncFrameRow.track_id.values(table), object)
    ks = np.asarray(SyncFrameRow.k.array(table), np.int64)
    odds = np.asarray(SyncFrameRow.log_odds.array(table), np.float32)
    for track in sorted(set(tracks)):
        mine = np.flatnonzero(tracks == track)
        mine = mine[np.argsort(ks[mine], kind="stable")]
        sums = moving_mean(odds[mine], _MORE_FRAMES).astype(np.float64) * WINDOW_S * GRID_HZ
        out[str(track)] = dict(zip(ks[mine].tolist(), sums.tolist(), strict=True))
    return out


def followed_better(
    track_id: str,
    ks: range,
    speaking: Mapping[int, set[str]],
    now: Mapping[str, Mapping[int, float]],
    margin: float,
) -> Bools:
    """Return [T] where another face that seems to speak follows the voice, and better than this one by `margin`.

    Args:
        track_id: this face.
        ks: T grid points.
        speaking: tracks that seem to speak, by grid point.
        now: `sync_now`.
        margin: log-odds.
    """
    out = np.zeros(len(ks), bool)
    mine = now.get(track_id, {})
    for i, k in enumerate(ks):
        others = [now[r][k] for r in speaking.get(k, set()) - {track_id} if k in now.get(r, {})]
        best = max(others, default=0.0)
        out[i] = best > 0 and k in mine and best - mine[k] >= margin
    return out
