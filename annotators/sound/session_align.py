"""How two recordings of one conversation lie against each other in time: offset, clock drift, and how sure.

The same voice reaches two microphones with other gains, other noise and other voices over it; what survives is when
each band grows louder. That is correlated, phases only (PHAT: Knapp and Carter, 1976), over pieces short enough for
drift not to matter, and a line is fitted through the peaks that agree. Recordings that share no sound (headphones,
rooms apart) give no peak: alternating turns alone are too weak to align by, and the confidence says so.
Costs about two seconds for an hour against an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from annotators.sound.sound_signature import RATE_HZ, Bytes, levels_db

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_MAX_DRIFT_PPM = 300.0
"""Clocks of recorders differ by less: consumer crystals are within 100 ppm each, and two may differ in either way."""

_PIECE_S = (8.0, 40.0)
_MAX_PIECES = 48
_PEAKS = 12
_AGREE_S = 0.03
_RIVAL_S = 0.25
_MIN_DRIFT_SPAN_S = 60.0
_MIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the second recording lies on the first one's clock: t_first = t_second * (1 + drift) + offset.

    `offset_s` is added to the second's clock: positive when the second recording started later.
    `drift_ppm` is how many millionths longer a second of the second recording is; None when too little is shared to
    tell (it counts as 0). `confidence` in 0-1 is 1 - (best rival / best): 0 = chance. `evidence_s` is the length of
    the pieces that agree.
    """

    offset_s: float
    drift_ppm: float | None
    confidence: float
    evidence_s: float


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the second recording with the lags at which it fits the first, best first."""

    middle_s: float
    length_s: float
    lag_s: Doubles
    height: Doubles


def align(first: Bytes, second: Bytes) -> Alignment:
    """Find where `second` lies on the clock of `first`; both are signatures [T, bands].

    Any lag at which they overlap is possible. Two recordings without a second or two of common sound come back with
    low confidence and a meaningless offset.
    """
    nothing = Alignment(0.0, None, 0.0, 0.0)
    if min(len(first), len(second)) < _MIN_S * RATE_HZ:
        return nothing
    # The shorter one is cut into pieces: each has a chance to lie wholly inside the longer one.
    swapped = len(second) > len(first)
    whole, cut = (second, first) if swapped else (first, second)
    pieces = _pieces(onsets(whole), onsets(cut))
    if not pieces:
        return nothing
    offset, drift, confidence, inliers = _line(pieces)
    evidence_s = float(sum(p.length_s for p in inliers))
    if swapped:
        # t_cut = (t_whole - offset) / (1 + drift)
        offset, drift = -offset / (1 + (drift or 0.0)), None if drift is None else 1 / (1 + drift) - 1
    return Alignment(offset, None if drift is None else 1e6 * drift, confidence, evidence_s)


def onsets(signature: Bytes) -> Floats:
    """Return [T, bands] how much louder each band grows, against its noise floor, evened out over seconds."""
    level = levels_db(signature)
    floor = np.percentile(level, 10, axis=0) + 3.0
    level = np.maximum(level, floor)
    smooth = scipy.ndimage.uniform_filter1d(level, 3, axis=0, mode="nearest")
    slope = np.zeros_like(smooth)
    slope[2:-2] = smooth[4:] - smooth[:-4]
    slope = np.clip(slope, -12.0, 24.0)
    power = scipy.ndimage.uniform_filter1d(np.square(slope), 3 * RATE_HZ, axis=0, mode="nearest")
    return np.asarray(slope / np.sqrt(power + 1.0), np.float32)


def _pieces(whole: Floats, cut: Floats) -> list[_Piece]:
    length = round(float(np.clip(len(cut) / RATE_HZ / 6, *_PIECE_S)) * RATE_HZ)
    n = max(1, min(_MAX_PIECES, len(cut) // length))
    length = min(length, len(cut)) if n > 1 else min(len(cut), round(_PIECE_S[1] * RATE_HZ))
    starts = np.round(np.linspace(0, len(cut) - length, n)).astype(int)
    size = scipy.fft.next_fast_len(len(whole) + length, real=True)
    spectrum = scipy.fft.rfft(whole, size, axis=0)
    out = []
    for a in starts:
        part = cut[a : a + length]
        if float(np.square(part).sum()) < RATE_HZ / 4:
            continue  # silence: nothing in it that could agree
        cross = spectrum * np.conj(scipy.fft.rfft(part, size, axis=0))
        cross /= np.sqrt(np.abs(cross)) + 1e-6
        curve = scipy.fft.irfft(cross.sum(axis=1), size)
        # Lags count from the piece's start lying at the whole's start; negative ones wrap around.
        curve = np.concatenate([curve[size - length + 1 :], curve[: len(whole)]])
        curve = curve / max(1e-12, float(np.sqrt(np.mean(np.square(curve)))))
        lag, height = _peaks(curve)
        lag_s = (lag - (length - 1) - a) / RATE_HZ
        out.append(_Piece((a + length / 2) / RATE_HZ, length / RATE_HZ, lag_s, height))
    return out


def _peaks(curve: Doubles) -> tuple[Doubles, Doubles]:
    """Return the places (fractional index) and heights of the highest local maxima, best first."""
    inner = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    best = inner[np.argsort(-curve[inner], kind="stable")[:_PEAKS]]
    left, middle, right = curve[best - 1], curve[best], curve[best + 1]
    shift = 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-12)
    return np.asarray(best + np.clip(shift, -0.5, 0.5), np.float64), middle


def _line(pieces: list[_Piece]) -> tuple[float, float | None, float, list[_Piece]]:
    """Return offset at time 0 (s), drift (ratio), confidence and the pieces that agree with the best line."""
    span_s = pieces[-1].middle_s - pieces[0].middle_s
    step = _AGREE_S / max(span_s, 1e-9)
    limit = 1e-6 * _MAX_DRIFT_PPM
    drifts = np.arange(-np.ceil(limit / step), np.ceil(limit / step) + 1) * step if span_s > 0 else np.zeros(1)
    drifts = drifts[np.abs(drifts) <= limit + step]
    where = np.concatenate([np.full(len(p.lag_s), p.middle_s) for p in pieces])
    lag = np.concatenate([p.lag_s for p in pieces])
    height = np.concatenate([p.height for p in pieces])
    owner = np.concatenate([np.full(len(p.lag_s), i) for i, p in enumerate(pieces)])
    votes = [(*_vote(lag - d * where, height, owner), d) for d in drifts]
    best, offset, drift = max(votes, key=lambda v: (v[0], -abs(v[2])))
    middle_s = float(np.mean([p.middle_s for p in pieces]))
    at_middle = offset + drift * middle_s
    far = np.abs(lag - _line_at(offset, drift, where)) > _RIVAL_S
    rival = max((_vote(lag[far] - d * where[far], height[far], owner[far])[0] for d in drifts), default=0.0)
    confidence = float(np.clip(1.0 - rival / max(best, 1e-9), 0.0, 1.0))
    near = np.abs(lag - _line_at(offset, drift, where)) <= _AGREE_S
    inliers = [pieces[int(i)] for i in sorted(set(owner[near]))]
    x, y, w = where[near], lag[near], height[near]
    spread_s = float(np.ptp(x)) if len(x) else 0.0
    if len(inliers) < 3 or spread_s < _MIN_DRIFT_SPAN_S:
        return (float(np.average(y, weights=w)) if len(y) else at_middle), None, confidence, inliers
    for _ in range(5):  # least squares, then Huber's weights at 10 ms
        slope, start = np.polyfit(x, y, 1, w=np.sqrt(w))
        w = height[near] / np.maximum(1.0, np.abs(y - slope * x - start) / 0.01)
    return float(start), float(slope), confidence, inliers


def _line_at(offset: float, drift: float, where: Doubles) -> Doubles:
    """Return the lag (s) that a line foresees at times `where` (s)."""
    return np.asarray(offset + drift * where)


def _vote(lag: Doubles, height: Doubles, owner: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return (votes, lag) of the best cluster of lags no wider than 30 ms; a piece votes once, by its height."""
    if not len(lag):
        return 0.0, 0.0
    order = np.argsort(lag, kind="stable")
    lag, height, owner = lag[order], height[order], owner[order]
    total = np.concatenate([[0.0], np.cumsum(height)])
    end = np.searchsorted(lag, lag + _AGREE_S, side="right")
    at = int(np.argmax(total[end] - total[:-1]))
    members = slice(at, int(end[at]))
    once: dict[int, float] = {}
    for o, h in zip(owner[members].tolist(), height[members].tolist(), strict=True):
        once[o] = max(once.get(o, 0.0), h)
    return sum(once.values()), float(np.average(lag[members], weights=height[members]))
