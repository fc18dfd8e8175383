"""What pairing knows of each face's lips: scores of all faces in view, the mouth and the voice weighed together. Pure.

Reads ASD_FRAMES once; a few numbers a face frame are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.lips.lip_signals import MOVING_MOUTH, moving_mean
from annotators.lips.speaking import SpeakingModel, features, smoothed_score, speaking, speaking_model
from schemas.tables.attribution import AsdFrameRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval, grid_range
from stages.nearest import nearest_index
from stages.pairing.states import Lips

Floats = npt.NDArray[np.float64]

_MOUTHING_FRAMES = 15


@dataclass(frozen=True, slots=True)
class FaceEvidence:
    """One track on its grid points [T]: active speaker score without gaps (nan = never measured), and its lips."""

    ks: range
    score: npt.NDArray[np.float32]
    lips: Lips


@dataclass(frozen=True, slots=True)
class _Series:
    ks: range
    score: Floats
    highest: Floats
    mouth: Floats
    beside: Floats


def lip_evidence(
    asd: pa.Table,
    tracks: Sequence[TrackRow],
    voice: npt.NDArray[np.float32],
    change: float,
    mouthing_score: float,
    model: Callable[[str], SpeakingModel] = speaking_model,
) -> dict[str, FaceEvidence]:
    """Return the evidence of each track.

    Args:
        asd: ASD_FRAMES of the source.
        tracks: its TRACKS rows.
        voice: probability of speech on the source's grid.
        change: log-odds that a change between speaking and not costs.
        mouthing_score: highest network's mean score from which lips move as in speech, whatever is heard.
        model: weighs the evidence of scores by the scorer's name.
    """
    features_of, names = track_features(asd, tracks, voice)
    out = {}
    for name, (series, inputs) in features_of.items():
        unseen = np.isnan(series.score).all()
        odds = np.full(len(series.ks), np.nan) if unseen else model(names[name]).log_odds(inputs)
        mouthing = (_mean(series.highest) >= mouthing_score) & (
            np.nan_to_num(series.mouth, nan=MOVING_MOUTH) >= MOVING_MOUTH
        )
        lips = Lips(odds.astype(np.float32), speaking(odds, change), np.asarray(mouthing, np.bool_))
        out[name] = FaceEvidence(series.ks, series.score.astype(np.float32), lips)
    return out


def track_features(
    asd: pa.Table, tracks: Sequence[TrackRow], voice: npt.NDArray[np.float32]
) -> tuple[dict[str, tuple[_Series, Floats]], dict[str, str]]:
    """Return by track its series with `speaking.features` [T, 8], and the name of the scorer."""
    series, names = _series(asd, tracks)
    last = max((s.ks.stop for s in series.values()), default=0)
    rivals = np.full((len(series), last), -np.inf)
    for row, s in enumerate(series.values()):
        if not np.isnan(s.score).any():
            rivals[row, s.ks.start : s.ks.stop] = smoothed_score(s.score)
    out = {}
    for row, (name, s) in enumerate(series.items()):
        others = np.delete(rivals, row, axis=0)[:, s.ks.start : s.ks.stop]
        best = others.max(axis=0) if len(others) else np.full(len(s.ks), -np.inf)
        heard = np.zeros(len(s.ks))
        part = voice[s.ks.start : s.ks.stop]
        heard[: len(part)] = part
        rival = np.where(np.isfinite(best), best, np.nan)
        out[name] = (s, features(s.score, s.mouth, s.beside, heard, rival))
    return out, names


def _series(asd: pa.Table, tracks: Sequence[TrackRow]) -> tuple[dict[str, _Series], dict[str, str]]:
    ids = np.array(AsdFrameRow.track_id.values(asd), object)
    ks = np.asarray(AsdFrameRow.k.array(asd), np.int64)
    read = (AsdFrameRow.score, AsdFrameRow.score_highest, AsdFrameRow.mouth_motion, AsdFrameRow.mouth_motion_beside)
    columns = [np.asarray(c.array(asd), np.float64) for c in read]
    annotators = AsdFrameRow.annotator.values(asd)
    out: dict[str, _Series] = {}
    names: dict[str, str] = {}
    for track in tracks:
        name = track.track_id
        grid = grid_range(Interval(track.start_s, track.end_s))
        mine = np.flatnonzero(ids == name)
        mine = mine[np.argsort(ks[mine], kind="stable")]
        names[name] = annotators[int(mine[0])] if len(mine) else ""
        filled = [_on_grid(ks[mine], column[mine], grid) for column in columns]
        out[name] = _Series(grid, *filled)
    return out, names


def _on_grid(known: npt.NDArray[np.int64], values: Floats, grid: range) -> Floats:
    """Return [T] values; a grid point without one takes the nearest, a track without any is nan."""
    if not len(known):
        return np.full(len(grid), np.nan)
    return np.asarray(values[nearest_index(known, np.asarray(grid))], np.float64)


def _mean(x: Floats) -> Floats:
    return np.asarray(moving_mean(np.nan_to_num(x, nan=-9.0).astype(np.float32), _MOUTHING_FRAMES), np.float64)
