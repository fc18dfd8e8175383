"""Lip-audio sync as evidence of whose voice is heard: sums over the frames in which one voice is heard alone. Pure.

The active speaker score says that lips move as speech does; it hardly notices whose speech it is. The learned sync
gives, for each frame and lag, log-odds that face and sound belong together; summed over a voice's own frames they tell
that voice's face from the others in view, and a dubbed face from a speaking one. A second of an hour's face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.tables.attribution import SyncFrameRow
from schemas.time import GRID_HZ

N_LAGS = 31
"""Lags of `sync_frames.log_odds_by_lag`: -15 to 15 frames."""

_OTHER_LAG_NATS = 4.0
"""Cost of a lag that is not the source's own: sound is rarely late by different amounts within one file (e^-4)."""

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """How a voice fits a face: log-odds over lags [31] summed over `frames` frames."""

    curve: Curve
    frames: int

    def at(self, usual_lag: int) -> tuple[float, int]:
        """Return (log-odds, lag index) at the best lag, where lags off the source's usual one cost something."""
        cost = np.where(np.abs(np.arange(N_LAGS) - usual_lag) <= 1, 0.0, _OTHER_LAG_NATS)
        best = int(np.argmax(self.curve - cost))
        return float(self.curve[best] - cost[best]), best


@dataclass(frozen=True, slots=True)
class SyncFrames:
    """A track's sync where its lips were seen: increasing grid points [N], log-odds by lag [N, 31]."""

    ks: npt.NDArray[np.int64]
    odds: Curve

    def at(self, ks: npt.NDArray[np.int64]) -> Curve:
        """Return the log-odds [T, 31] at grid points [T]; zeros where nothing is known."""
        out = np.zeros((len(ks), N_LAGS))
        if len(self.ks):
            place = np.minimum(np.searchsorted(self.ks, ks), len(self.ks) - 1)
            known = self.ks[place] == ks
            out[known] = self.odds[place[known]]
        return out


def sync_frames(table: pa.Table) -> dict[str, SyncFrames]:
    """Return SYNC_FRAMES rows by track; frames at a track's ends, which lack sound at some lags, are left out."""
    if not table.num_rows:
        return {}
    tracks = np.array(SyncFrameRow.track_id.values(table), object)
    ks = np.asarray(SyncFrameRow.k.array(table), np.int64)
    by_lag: Any = SyncFrameRow.log_odds_by_lag.of(table).combine_chunks()
    odds = np.asarray(by_lag.flatten().to_numpy(), np.float64).reshape(-1, N_LAGS)
    use = SyncFrameRow.known.array(table) & (odds != 0).all(axis=1)
    out = {}
    for track in sorted(set(tracks)):
        mine = np.flatnonzero((tracks == track) & use)
        mine = mine[np.argsort(ks[mine], kind="stable")]
        out[str(track)] = SyncFrames(ks[mine], odds[mine])
    return out


def pair_evidence(
    frames: Mapping[str, SyncFrames], heard: Mapping[str, set[int]], lips_on: Mapping[str, set[int]]
) -> dict[tuple[str, str], Evidence]:
    """Return the evidence of each (voice, track) with any frame in common.

    Args:
        frames: per track, its sync.
        heard: per voice, the grid points at which it alone is heard.
        lips_on: per track, the grid points at which its lips move: still lips tell nothing of whose voice it is.
    """
    out: dict[tuple[str, str], Evidence] = {}
    for track, sync in frames.items():
        moving = np.isin(sync.ks, list(lips_on.get(track, set())))
        for voice, ks in heard.items():
            both = moving & np.isin(sync.ks, list(ks))
            if both.any():
                out[voice, track] = Evidence(sync.odds[both].sum(axis=0), int(both.sum()))
    return out


def usual_lag(pairs: Mapping[tuple[str, str], Evidence]) -> int:
    """Return the index of the lag at which the faces of a source fit their voices best; 15 (in time) without any."""
    if not pairs:
        return N_LAGS // 2
    gain = sum(np.maximum(e.curve, 0.0) for e in pairs.values())
    if not np.max(gain) > 0:
        return N_LAGS // 2
    return int(np.argmax(gain))


def lag_ms(index: int) -> float:
    """Return a lag in milliseconds; positive = the sound is late."""
    return (index - N_LAGS // 2) * 1000.0 / GRID_HZ
