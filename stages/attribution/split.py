"""Tell apart two people's voices that were taken for one, by whose lips follow the sound when. Pure.

Voice embeddings of a few seconds confuse people of one sex and accent. Where several faces in view move their lips
under what is heard as one voice, the best sequence of owners is sought (Viterbi): evidence of a face at a frame is its
lip-audio sync at the face's own lag and its active speaker score, and every change of owner costs. Only a sequence
that beats the best single owner clearly divides the voice. Milliseconds for a minute of shared voice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from schemas.tables.attribution import VoiceTurnRow
from schemas.tables.speech import TurnRow
from schemas.tables.tracks import TrackRow
from schemas.time import GRID_HZ, Interval, grid_index, grid_range
from stages.attribution.sync import Evidence, SyncFrames
from stages.nearest import nearest_index

_METHOD = "lip-sync-viterbi"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """When one voice is two.

    Costs and gains are log-odds (nats). `change` is what a change of owner costs within running speech, `change_at_gap`
    after a pause of `gap_s`; `min_gain` is by how much the sequence, its changes paid, must beat the best single owner;
    each owner must be heard for `min_part_s` in all. `per_score` is the emission of a
    point of negative active speaker score (still lips).
    """

    change: float = 6.0
    change_at_gap: float = 3.0
    gap_s: float = 0.2
    min_gain: float = 6.0
    min_part_s: float = 0.8
    min_moving_s: float = 0.8
    per_score: float = 0.3


@dataclass(frozen=True, slots=True)
class Face:
    """A face in view: its active speaker scores by grid point, and its sync."""

    track_id: str
    scores: Mapping[int, float]
    sync: SyncFrames


def owners(ks: Sequence[int], faces: Sequence[Face], usual_lag: int, rule: SplitRule) -> Ints | None:
    """Return [T] which of `faces` speaks at each grid point `ks` of one voice; None where one face fits throughout.

    Args:
        ks: T increasing grid points at which the voice alone is heard.
        faces: those in view over this time.
        usual_lag: index of the source's lag; a face may have another at some cost.
        rule: when one voice is two.
    """
    at = np.array([k for k in ks if all(k in f.scores for f in faces)], np.int64)
    if len(at) < 2 or len(faces) < 2:
        return None
    scores = np.stack([[face.scores[int(k)] for k in at] for face in faces])
    sync = np.stack([face.sync.at(at) for face in faces])  # [F, T, lags]
    sync = np.where((scores > 0)[..., None], sync, 0.0)  # of moving mouths the sync tells; of still ones the score
    still = rule.per_score * scores.clip(-4.0, 0.0)
    cost = np.where(np.diff(at) > rule.gap_s * GRID_HZ, rule.change_at_gap, rule.change)
    lags = [_own_lag(s, usual_lag) for s in sync]
    path: Ints = np.zeros(len(at), np.int64)
    for _ in range(4):
        emission = still + np.stack([s[:, lag] for s, lag in zip(sync, lags, strict=True)])
        path, best = _viterbi(emission, cost)
        found = [_best_lag(s[path == f].sum(axis=0), usual_lag) for f, s in enumerate(sync)]
        found = [new if (path == f).any() else old for f, (new, old) in enumerate(zip(found, lags, strict=True))]
        if found == lags:
            break
        lags = found
    single = emission.sum(axis=1).max()
    heard = np.bincount(path, minlength=len(faces)) / GRID_HZ
    parts = heard[heard > 0]
    if len(parts) < 2 or best - single < rule.min_gain or parts.min() < rule.min_part_s:
        return None
    return np.asarray(path[nearest_index(at, np.asarray(ks))], np.int64)


def _best_lag(curve: Floats, usual_lag: int) -> int:
    return Evidence(curve, 1).at(usual_lag)[1]


def _own_lag(sync: Floats, usual_lag: int) -> int:
    """Return the lag at which a face fits best in those of its seconds in which it fits at all, from sync [T, lags]."""
    seconds = [sync[i : i + GRID_HZ].sum(axis=0) for i in range(0, len(sync), GRID_HZ)]
    return _best_lag(np.maximum(seconds, 0.0).sum(axis=0), usual_lag)


def _viterbi(emission: Floats, cost: Floats) -> tuple[Ints, float]:
    """Return the best sequence [T] of owners and its value, for emission [F, T] and cost [T-1] of a change."""
    faces, length = emission.shape
    value = emission[:, 0].copy()
    back = np.zeros((length, faces), np.int64)
    for i in range(1, length):
        best = int(value.argmax())
        moved = value[best] - cost[i - 1]
        stay = value >= moved
        back[i] = np.where(stay, np.arange(faces), best)
        value = np.where(stay, value, moved) + emission[:, i]
    path = np.zeros(length, np.int64)
    path[-1] = int(value.argmax())
    for i in range(length - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return path, float(value.max())


def split_voices(
    turns: Sequence[TurnRow],
    heard: Mapping[str, set[int]],
    tracks: Sequence[TrackRow],
    scores: Mapping[str, Mapping[int, float]],
    sync: Mapping[str, SyncFrames],
    usual_lag: int,
    rule: SplitRule,
) -> list[VoiceTurnRow]:
    """Return VOICE_TURNS rows: the turns, with voices divided where lips show two people.

    Args:
        turns: TURNS rows.
        heard: per voice the grid points at which it alone is heard.
        tracks: TRACKS rows.
        scores: per track the active speaker score by grid point.
        sync: per track its sync.
        usual_lag: index of the source's lag.
        rule: when one voice is two.
    """
    rows = [
        VoiceTurnRow(
            speaker_id=turn.speaker_id,
            diarized_as=turn.speaker_id,
            source_id=turn.source_id,
            start_s=turn.start_s,
            end_s=turn.end_s,
            overlapped=turn.overlapped,
            annotator=turn.annotator,
        )
        for turn in turns
    ]
    parts = 0
    shots: dict[str, list[TrackRow]] = {}
    for track in tracks:
        shots.setdefault(track.shot_id, []).append(track)
    for voice, heard_ks in sorted(heard.items()):
        ks = sorted(heard_ks)
        for _, together in sorted(shots.items()):
            faces, span = _in_view(together, ks, scores, sync, rule)
            mine = _within(ks, span)
            path = owners(mine, faces, usual_lag, rule) if len(faces) > 1 else None
            if path is None:
                continue
            names = {f: f"{voice}.{parts + i + 1}" for i, f in enumerate(dict.fromkeys(path.tolist()))}
            parts += len(names)
            rows = [piece for row in rows for piece in _cut(row, voice, span, np.array(mine), path, names)]
    return sorted(rows, key=lambda r: (r.start_s, r.speaker_id, r.end_s))


def _within(ks: Sequence[int], span: Interval) -> Sequence[int]:
    """Return those of the increasing grid points that lie in a time."""
    return ks[bisect_left(ks, grid_index(span.start_s)) : bisect_left(ks, grid_index(span.end_s))]


def _in_view(
    tracks: Sequence[TrackRow],
    ks: Sequence[int],
    scores: Mapping[str, Mapping[int, float]],
    sync: Mapping[str, SyncFrames],
    rule: SplitRule,
) -> tuple[list[Face], Interval]:
    """Return the faces of a shot whose lips move under a voice, and the time in which all of them are in view."""
    faces, start_s, end_s = [], 0.0, float("inf")
    for track in tracks:
        seen = scores.get(track.track_id, {})
        here = _within(ks, Interval(track.start_s, track.end_s))
        if track.track_id in sync and sum(seen.get(k, -1.0) > 0 for k in here) >= rule.min_moving_s * GRID_HZ:
            faces.append(Face(track.track_id, seen, sync[track.track_id]))
            start_s, end_s = max(start_s, track.start_s), min(end_s, track.end_s)
    return faces, Interval(start_s, max(start_s, end_s)) if faces else Interval(0.0, 0.0)


def _cut(
    row: VoiceTurnRow, voice: str, span: Interval, ks: Ints, path: Ints, names: Mapping[int, str]
) -> Iterator[VoiceTurnRow]:
    """Yield a turn cut where the owner of its voice changes, each piece in owner's name; outside `span` as it was."""
    inside = range(0)
    if row.speaker_id == voice:
        inside = grid_range(Interval(row.start_s, row.end_s))
        inside = range(max(inside.start, grid_index(span.start_s)), min(inside.stop, grid_index(span.end_s)))
    if not len(inside):
        yield row
        return
    owner = path[nearest_index(ks, np.asarray(inside))]
    changes = (np.flatnonzero(np.diff(owner)) + 1).tolist()
    cuts = [(inside[i] / GRID_HZ, names[int(owner[i])]) for i in [0, *changes]]
    if inside.start / GRID_HZ - row.start_s <= 1 / GRID_HZ:  # nothing of the turn lies before the shot
        cuts[0] = (row.start_s, cuts[0][1])
    else:
        cuts.insert(0, (row.start_s, voice))
    if row.end_s - inside.stop / GRID_HZ > 1 / GRID_HZ:
        cuts.append((inside.stop / GRID_HZ, voice))
    for (start_s, name), (end_s, _) in pairwise([*cuts, (row.end_s, "")]):
        method = row.annotator if name == voice else f"{row.annotator}+{_METHOD}"
        yield row.but(speaker_id=name, start_s=start_s, end_s=end_s, annotator=method)
