"""Where a run can be cut so that its clips are clean: around what comes into every crop for a part of the time. Pure.

An overlay, another face or a border may spoil a clip for a second only. Then the clips are what lies before and after
it, each of one state and long enough; what lies between is a segment of its own, which the policy's rules take. Runs
that are clean as they are cut anyway stay as they are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import pairwise

from schemas.time import GRID_HZ
from stages.pairing.segments import SpokenWord, cut_evenly, cut_points, cut_run, voice_borders

Fits = Callable[[float, float], bool]
"""Says whether a clip from one time to another (seconds) could be cropped clean."""

_STEP = 5
"""Grid points among which one border is tried (0.2 s): the one that costs least."""
_BORDER_COST = 0.25
"""A border's cost in words (`cut_points`, seconds) counts this much: a word cut through is worth a second of clip."""
_CLIP_COST_S = 0.5
"""One clip more is worth it from this many seconds on: a run is not cut up for frames."""


def clean_run(
    words: Sequence[SpokenWord], start_s: float, end_s: float, min_s: float, max_s: float, fits: Fits
) -> list[tuple[float, float]]:
    """Cut one run as `cut_run` does, and where a piece cannot be cropped clean, around what spoils it.

    Pieces partition the run. Where nothing of `min_s` or more is clean, they are those of `cut_run`.
    """
    pieces: list[tuple[float, float]] = []
    for a, b in pairwise([start_s, *voice_borders(words, start_s, end_s, min_s), end_s]):
        whole = cut_run(words, a, b, min_s, max_s)
        if b - a < min_s - 1e-6 or all(fits(*p) for p in whole):
            pieces += whole
            continue
        known = [p for p in whole if p[1] - p[0] >= min_s - 1e-6 and fits(*p)]
        chosen = best_spans(border_times(words, a, b, {t for p in known for t in p}), min_s, max_s, fits, known)
        if not chosen:
            pieces += whole
            continue
        at = a
        for first, last in [*chosen, (b, b)]:
            if first > at + 1e-6:
                pieces += cut_evenly(words, at, first, min_s, max_s)
            if last > first:
                pieces.append((first, last))
            at = last
    return pieces


def border_times(
    words: Sequence[SpokenWord], start_s: float, end_s: float, always: Container[float] = ()
) -> dict[float, float]:
    """Return the times at which a clip of a run may begin or end, with what that costs in seconds of clip.

    One grid point of every five, those of `always`, and both ends, which cost nothing.
    """
    best: dict[int, tuple[float, float, float]] = {}
    points = cut_points(words, start_s, end_s)
    for t_s, cost in points.items():
        block = round(t_s * GRID_HZ) // _STEP
        middle = abs(round(t_s * GRID_HZ) - block * _STEP - _STEP // 2)
        best[block] = min(best.get(block, (math.inf, 0.0, 0.0)), (cost, float(middle), t_s))
    inner = {t_s: _BORDER_COST * cost for cost, _, t_s in sorted(best.values(), key=lambda x: x[2])}
    inner |= {t_s: _BORDER_COST * cost for t_s, cost in points.items() if t_s in always}
    return {start_s: 0.0, **inner, end_s: 0.0}


def best_spans(
    borders: Mapping[float, float],
    min_s: float,
    max_s: float,
    fits: Fits,
    known: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:
    """Return disjoint clean spans between borders, of `min_s` to `max_s`, that together are worth most, in order.

    A part of a clean span is taken to be clean at first; `known` ones are. What is chosen is asked for, and shortened
    where it is not: a share of time that is spoilt may be small enough in a longer span alone.
    """
    times = sorted(borders)
    reach = _reach(times, min_s, max_s, fits)
    for first, last in known:
        i = bisect_left(times, first - 1e-6)
        reach[i] = max(reach[i], bisect_left(times, last - 1e-6))
    while True:
        chosen = _most(times, [borders[t] for t in times], reach, min_s, max_s)
        wrong = [(i, j) for i, j in chosen if not fits(times[i], times[j])]
        if not wrong:
            return [(times[i], times[j]) for i, j in chosen]
        for i, j in wrong:
            reach[i] = j - 1


def _most(
    times: Sequence[float], costs: Sequence[float], reach: Sequence[int], min_s: float, max_s: float
) -> list[tuple[int, int]]:
    """Return the disjoint spans (indices of borders) within reach that are worth most."""
    value, taken = [0.0] * len(times), [-1] * len(times)
    for j in range(1, len(times)):
        value[j] = value[j - 1]
        for i in range(bisect_left(times, times[j] - max_s - 1e-6), j):
            length = times[j] - times[i]
            if length < min_s - 1e-6 or reach[i] < j:
                continue
            worth = value[i] + length - _CLIP_COST_S - costs[i] - costs[j]
            if worth > value[j] + 1e-9:
                value[j], taken[j] = worth, i
    out, j = [], len(times) - 1
    while j > 0:
        if taken[j] >= 0:
            out.append((taken[j], j))
            j = taken[j]
        else:
            j -= 1
    return out[::-1]


def _reach(times: Sequence[float], min_s: float, max_s: float, fits: Fits) -> list[int]:
    """Return, for each border, the index of the last one to which a clip is clean; its own where none is."""
    out, known = [], 0
    for i, start_s in enumerate(times):
        first = bisect_left(times, start_s + min_s - 1e-6)
        last = bisect_left(times, start_s + max_s + 1e-6) - 1
        j = max(known, first - 1)
        while j < last and fits(start_s, times[j + 1]):
            j += 1
        known = max(known, j if j >= first else 0)
        out.append(j if j >= first else i)
    return out
