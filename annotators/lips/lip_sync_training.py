"""Fit the learned lip sync on talkers in sync, and say how good it is on people it has not seen.

Self-supervised: nothing is labelled, a talker's own sound is the positive and the others' the negatives. Both sides are
whitened and cut to their main components, and regularised canonical correlation finds the pairs. Talkers whose sound is
a little off are found by the model itself and moved for the next fit (two rounds), so constant offsets in a
corpus do not blur it. Calibration and canonical correlations come from people held out, never from the fit. Cost: a
second a minute of talkers, and fivefold for the folds; memory 0.2 GB an hour of talkers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression

from annotators.lips.lip_sync_model import (
    LAGS,
    MAX_LAG_FRAMES,
    SyncTowers,
    heard_features,
    lip_movement,
    log_likelihood_ratio,
    seen_features,
    standardised,
    with_context,
)
from annotators.protocols_speech import FloatArray
from schemas.time import GRID_HZ

TAPS = {"whisper-base": 7, "mel": 11}
_WINDOWS_S = (7, 3, 2)
_AUDIO_PARTS, _LIP_PARTS, _RIDGE, _COMPONENTS = 64, 12, 1000.0, 8
_ROUNDS = 2
_FOLDS = 5
_MAX_R = 0.95
MIN_CLIP_FRAMES = 3 * GRID_HZ
_MIN_PEOPLE = 4

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class TalkerClip:
    """One stretch of a person talking: lips [T, 80] and sound features [T, D] on the same frames; who it is."""

    name: str
    person: str
    lips: FloatArray
    features: NDArray[Any]
    in_sync: bool = True
    """false: evaluated, but neither fitted on nor counted for the lag"""


@dataclass(frozen=True)
class HeldOut:
    """How people held out fare, windows of `window_s`.

    `auc`: own voice above another's, each at its best lag; `auc_at_zero`: likewise within 2 frames of lag 0. `hits`:
    share of windows whose lag lies within 2 frames of 0. `own`, `other`: [n, 2] mean evidence a frame at the best lag
    and frames; `lags` by clip in frames.
    """

    window_s: float
    auc: float
    auc_at_zero: float
    hits: float
    lags: dict[str, list[int]]
    own: Doubles
    other: Doubles


def fit(clips: Sequence[TalkerClip], taps: int) -> SyncTowers:
    """Return towers fitted on clips in sync, uncalibrated. Raises ValueError for less than a minute of them."""
    use = [c for c in clips if c.in_sync and len(c.lips) >= MIN_CLIP_FRAMES]
    have_s = sum(len(c.lips) for c in use) / GRID_HZ
    if have_s < 60:
        raise ValueError(
            f"only {have_s:.0f} s of talkers in sync to fit on, those held out to test on left aside; "
            "it takes a minute: give more footage"
        )
    # Towers' inputs depend on no fit: make them once, the rounds only move them against each other.
    heard = [standardised(c.features.astype(np.float32)) for c in use]
    seen = [lip_movement(c.lips) for c in use]
    audio_basis, lip_basis = _whitened(heard, _AUDIO_PARTS), _whitened(seen, _LIP_PARTS)
    small = [with_context((h @ audio_basis).astype(np.float32), taps) for h in heard]
    lips = [s @ lip_basis for s in seen]
    shifts = [0] * len(use)
    for round_ in range(_ROUNDS + 1):
        pairs = [_aligned(a, v, lag) for a, v, lag in zip(small, lips, shifts, strict=True)]
        wide, narrow, r = _canonical([a for a, _ in pairs], [v for _, v in pairs])
        if round_ < _ROUNDS:
            ears, eyes = wide.astype(np.float32), narrow.astype(np.float32)
            found = [_found_lag(a, v, ears, eyes, r) for a, v in zip(small, lips, strict=True)]
            middle = round(float(np.median(found)))
            shifts = [lag - middle if abs(lag - middle) <= 4 else 0 for lag in found]
    audio = np.einsum("dp,tpk->tdk", audio_basis, wide.reshape(taps, audio_basis.shape[1], -1))
    return SyncTowers(audio.astype(np.float32), (lip_basis @ narrow).astype(np.float32), r.astype(np.float32),
                      (1.0, 0.0), (1.0, 0.0, 0.0))  # fmt: skip


def _found_lag(audio: FloatArray, lips: FloatArray, wide: FloatArray, narrow: FloatArray, r: Doubles) -> int:
    """Return the lag of audio [T, taps, P] against lips [T, Q], both projected."""
    heard: FloatArray = audio.reshape(len(audio), -1) @ wide
    seen: FloatArray = lips @ narrow
    return _best_lag(standardised(heard), standardised(seen), r)


def _aligned(audio: FloatArray, lips: FloatArray, lag: int) -> tuple[FloatArray, FloatArray]:
    """Return flattened audio [n, P] and lips [n, Q] with the sound taken `lag` frames later."""
    n = len(lips) - abs(lag)
    a, v = max(0, lag), max(0, -lag)
    return audio[a : a + n].reshape(n, -1), lips[v : v + n]


def _whitened(parts: Sequence[FloatArray], number: int) -> FloatArray:
    """Return [D, number]: projection on the main components, each scaled to unit variance."""
    total = sum(len(p) for p in parts)
    covariance: Doubles = sum((p.T @ p).astype(np.float64) for p in parts) / total  # type: ignore[assignment]
    values, vectors = np.linalg.eigh(covariance)
    number = min(number, int((values > 1e-6 * values[-1]).sum()))
    basis: FloatArray = (vectors[:, ::-1][:, :number] / np.sqrt(values[::-1][:number])).astype(np.float32)
    return basis


def _canonical(audio: Sequence[FloatArray], lips: Sequence[FloatArray]) -> tuple[Doubles, Doubles, Doubles]:
    """Return regularised canonical directions [P, k] and [Q, k], scaled to unit variance, and their correlations."""
    aa = _gram(audio, audio) + _RIDGE * np.eye(audio[0].shape[1])
    vv = _gram(lips, lips) + _RIDGE * np.eye(lips[0].shape[1])
    av = _gram(audio, lips)
    back = np.linalg.solve(aa, av)
    values, vectors = eigh(av.T @ back, vv)
    narrow = vectors[:, np.argsort(-values)[:_COMPONENTS]]
    wide = back @ narrow
    wide = wide / np.std(np.concatenate([a @ wide for a in audio]), axis=0)
    narrow = narrow / np.std(np.concatenate([v @ narrow for v in lips]), axis=0)
    r = np.mean(np.concatenate([(a @ wide) * (v @ narrow) for a, v in zip(audio, lips, strict=True)]), axis=0)
    return wide, narrow, np.clip(r, 0.01, _MAX_R)


def _gram(left: Sequence[FloatArray], right: Sequence[FloatArray]) -> Doubles:
    total: Doubles = sum((a.T @ b).astype(np.float64) for a, b in zip(left, right, strict=True))  # type: ignore[assignment]
    return total


def evidence(heard: FloatArray, seen: FloatArray, r: FloatArray | Doubles) -> Doubles:
    """Return log likelihood ratios [n, 31] of frames 15 .. T - 15 of `seen` at every lag of `heard` (same length)."""
    n = len(seen) - 2 * MAX_LAG_FRAMES
    v = seen[MAX_LAG_FRAMES : MAX_LAG_FRAMES + n]
    at = MAX_LAG_FRAMES + LAGS
    return np.stack([log_likelihood_ratio(heard[i : i + n], v, np.asarray(r)) for i in at], axis=1)


def _best_lag(heard: FloatArray, seen: FloatArray, r: Doubles) -> int:
    return int(LAGS[np.argmax(evidence(heard, seen, r).mean(axis=0))])


def folds(clips: Sequence[TalkerClip], leave_one_out: bool) -> list[set[str]]:
    """Return the people held out together: one by one, or in five groups of about equal length."""
    people = sorted({c.person for c in clips})
    if leave_one_out or len(people) <= _FOLDS:
        return [{p} for p in people]
    length = {p: sum(len(c.lips) for c in clips if c.person == p) for p in people}
    groups: list[set[str]] = [set() for _ in range(_FOLDS)]
    for p in sorted(people, key=lambda p: -length[p]):
        min(groups, key=lambda g: sum(length[x] for x in g)).add(p)
    return groups


def held_out_towers(clips: Sequence[TalkerClip], taps: int, leave_one_out: bool = False) -> dict[str, SyncTowers]:
    """Return, for each person, towers fitted without them, with the correlations found in people held out elsewhere.

    Raises ValueError for fewer than 4 people.
    """
    groups = folds(clips, leave_one_out)
    if len({c.person for c in clips}) < _MIN_PEOPLE:
        raise ValueError(f"sync needs at least {_MIN_PEOPLE} people to be tested on people it has not seen")
    towers = [fit([c for c in clips if c.person not in group], taps) for group in groups]
    found = []
    for group, tower in zip(groups, towers, strict=True):
        theirs = [c for c in clips if c.person in group and c.in_sync]
        found.append([_held_out_r(c, tower) for c in theirs])
    out: dict[str, SyncTowers] = {}
    for i, (group, tower) in enumerate(zip(groups, towers, strict=True)):
        others = [r for j, rs in enumerate(found) if j != i for r in rs]
        r = np.clip(np.mean(others, axis=0), 0.01, _MAX_R).astype(np.float32)
        out |= {person: replace(tower, correlation=r) for person in group}
    return out


def _held_out_r(clip: TalkerClip, tower: SyncTowers) -> Doubles:
    u, v = heard_features(clip.features, tower.audio), seen_features(clip.lips, tower.lips)
    lag = int(np.clip(_best_lag(u, v, tower.correlation.astype(np.float64)), -4, 4))
    a, b = _aligned(u, v, lag)
    return np.asarray((a * b).mean(axis=0), np.float64)


def evaluate(
    clips: Sequence[TalkerClip], towers: dict[str, SyncTowers], window_s: float, others: int = 12, seed: int = 1
) -> HeldOut:
    """Score every window (one a second) of each clip with its own sound, and `others` windows with other people's."""
    rng = np.random.default_rng(seed)
    own, other, lags = [], [], {}
    zero = slice(MAX_LAG_FRAMES - 2, MAX_LAG_FRAMES + 3)
    for clip in clips:
        tower = towers[clip.person]
        seen = seen_features(clip.lips, tower.lips)
        room = len(seen) - 2 * MAX_LAG_FRAMES
        n = min(round(window_s * GRID_HZ), room)
        if n < GRID_HZ:
            continue
        table = evidence(heard_features(clip.features, tower.audio), seen, tower.correlation)
        curves = np.array([table[s : s + n].mean(axis=0) for s in range(0, room - n + 1, GRID_HZ)])
        own += [(c.max(), c[zero].max(), n) for c in curves]
        lags[clip.name] = [int(LAGS[c.argmax()]) for c in curves]
        strangers = [c for c in clips if c.person != clip.person and len(c.lips) >= n + 2 * MAX_LAG_FRAMES]
        for i in rng.choice(len(strangers), others) if strangers else ():
            voice = heard_features(strangers[i].features, tower.audio)
            a, s = (int(rng.integers(0, len(x) - n - 2 * MAX_LAG_FRAMES + 1)) for x in (voice, seen))
            width = n + 2 * MAX_LAG_FRAMES
            curve = evidence(voice[a : a + width], seen[s : s + width], tower.correlation).mean(axis=0)
            other.append((curve.max(), curve[zero].max(), n))
    x, y = np.array(own), np.array(other)
    counted = [lag for c in clips if c.in_sync for lag in lags.get(c.name, [])]
    return HeldOut(
        window_s, _auc(x[:, 0], y[:, 0]), _auc(x[:, 1], y[:, 1]), float(np.mean(np.abs(counted) <= 2)), lags,
        x[:, [0, 2]], y[:, [0, 2]],
    )  # fmt: skip


def _auc(own: Doubles, other: Doubles) -> float:
    order = np.searchsorted(np.sort(other), own, side="left") + np.searchsorted(np.sort(other), own, side="right")
    return float(order.mean() / 2 / len(other))


def calibrated(tower: SyncTowers, clips: Sequence[TalkerClip], held_out: dict[str, SyncTowers]) -> SyncTowers:
    """Return `tower` with the correlations and the calibration found in people held out."""
    r = np.mean([held_out[p].correlation for p in sorted(held_out)], axis=0).astype(np.float32)
    fixed, free = [], []
    for seconds in (1, 2, 3, 5, 7):
        found = evaluate(clips, held_out, seconds)
        free.append((found.own, found.other))
        fixed.append(at_one_lag(clips, held_out, seconds))
    slope, offset, _ = _logistic(fixed, intercept=False)
    scaled = [tuple(np.stack([slope * x[:, 0] + offset, x[:, 1]], 1) for x in pair) for pair in free]
    own_voice = _logistic([(a, b) for a, b in scaled], intercept=True)
    return replace(tower, correlation=r, per_frame=(slope, offset), own_voice=own_voice)


def at_one_lag(
    clips: Sequence[TalkerClip], towers: dict[str, SyncTowers], window_s: float, seed: int = 2
) -> tuple[Doubles, Doubles]:
    """Return [n, 2] mean evidence at the clip's own constant lag and frames, with own sound and with others'."""
    rng = np.random.default_rng(seed)
    own, other = [], []
    n = round(window_s * GRID_HZ)
    for clip in clips:
        tower = towers[clip.person]
        seen = seen_features(clip.lips, tower.lips)
        if len(seen) < n + 2 * MAX_LAG_FRAMES:
            continue
        table = evidence(heard_features(clip.features, tower.audio), seen, tower.correlation)
        series = table[:, int(np.argmax(table.mean(axis=0)))]
        own += [(series[s : s + n].mean(), n) for s in range(0, len(series) - n + 1, GRID_HZ)]
        strangers = [c for c in clips if c.person != clip.person and len(c.lips) > n]
        for i in rng.choice(len(strangers), 12):
            voice = heard_features(strangers[i].features, tower.audio)
            a, s = (int(rng.integers(0, len(x) - n + 1)) for x in (voice, seen))
            ratio = log_likelihood_ratio(voice[a : a + n], seen[s : s + n], tower.correlation)
            other.append((ratio.mean(), n))
    return np.array(own, np.float64).reshape(-1, 2), np.array(other, np.float64).reshape(-1, 2)


def _logistic(pairs: Sequence[tuple[Doubles, Doubles]], intercept: bool) -> tuple[float, float, float]:
    """Return a, b, c of log-odds = a * sum + b * frames + c, both classes weighing the same."""
    x = np.concatenate([np.concatenate(p) for p in pairs])
    y = np.concatenate([np.r_[np.ones(len(a)), np.zeros(len(b))] for a, b in pairs])
    inputs = np.stack([x[:, 0] * x[:, 1] / GRID_HZ, x[:, 1] / GRID_HZ], axis=1)
    found = LogisticRegression(class_weight="balanced", fit_intercept=intercept, C=10.0).fit(inputs, y)
    a, b = (float(w) / GRID_HZ for w in found.coef_[0])
    return a, b, float(np.ravel(found.intercept_)[0]) if intercept else 0.0


def train(clips: Sequence[TalkerClip], kind: str, leave_one_out: bool = False) -> tuple[SyncTowers, list[HeldOut]]:
    """Return calibrated towers fitted on all clips, and how well people held out fare, by window length."""
    held_out = held_out_towers(clips, TAPS[kind], leave_one_out)
    towers = calibrated(fit(clips, TAPS[kind]), clips, held_out)
    return towers, [evaluate(clips, held_out, seconds) for seconds in _WINDOWS_S]
