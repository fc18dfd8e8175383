"""Time: half-open intervals in seconds, and the one 25 Hz grid that per-frame signals live on.

Seconds are float64 on the source's own clock: zero is the first video frame's presentation time.
The grid rate is LR-ASD's (25 Hz, `Columbia_test.py` of Junhua-Liao/LR-ASD). Pure arithmetic; costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GRID_HZ = 25
"""Rate of the per-source analysis grid, in Hz."""

AUDIO_HZ = 16_000
"""Rate of audio for analysis, in Hz."""

PACKED_AUDIO_HZ = 48_000
"""Rate of audio in samples, in Hz."""

_EPS_S = 1e-6


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open stretch of time [start_s, end_s) in seconds; `end_s` is never before `start_s`."""

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not self.end_s >= self.start_s:
            raise ValueError(f"interval ends before it starts: [{self.start_s}, {self.end_s})")

    @property
    def duration_s(self) -> float:
        """Length in seconds, >= 0."""
        return self.end_s - self.start_s

    def overlap_s(self, other: Interval) -> float:
        """Return the seconds shared with `other`, >= 0."""
        return max(0.0, min(self.end_s, other.end_s) - max(self.start_s, other.start_s))

    def contains(self, t_s: float) -> bool:
        """Say whether `t_s` lies in [start_s, end_s)."""
        return self.start_s <= t_s < self.end_s


def grid_index(t_s: float) -> int:
    """Return the first grid index k with k / 25 >= t_s (up to a microsecond of rounding)."""
    k = int(-(-t_s * GRID_HZ // 1))  # ceil without importing math
    return k - 1 if k > 0 and (k - 1) / GRID_HZ >= t_s - _EPS_S else k


def grid_time(k: int) -> float:
    """Return the time of grid index k in seconds."""
    return k / GRID_HZ


def grid_range(interval: Interval) -> range:
    """Return the grid indices inside a half-open interval; adjacent intervals share no index."""
    return range(grid_index(interval.start_s), grid_index(interval.end_s))


def union_s(intervals: Iterable[Interval]) -> float:
    """Return the seconds covered by at least one of the intervals."""
    return sum(i.duration_s for i in merge(intervals))


def merge(intervals: Iterable[Interval], gap_s: float = 0.0) -> list[Interval]:
    """Join intervals that touch, overlap, or lie at most `gap_s` apart; sorted by start."""
    out: list[Interval] = []
    for i in sorted(intervals):
        if out and i.start_s <= out[-1].end_s + gap_s:
            out[-1] = Interval(out[-1].start_s, max(out[-1].end_s, i.end_s))
        else:
            out.append(i)
    return out


def windows(duration_s: float, window_s: float) -> Sequence[Interval]:
    """Partition [0, duration_s) into windows of at most about `window_s` seconds.

    The borders lie on whole grid steps, and a tail shorter than a quarter of a window joins its neighbour,
    so that no worker is started for a sliver. The last window is open-ended: it reaches past `duration_s`
    by one second, because headers round durations down.
    """
    if window_s <= 0:
        raise ValueError(f"window_s must be positive, got {window_s}")
    n = max(1, int(duration_s / window_s + 0.75))
    step = max(1, round(window_s * GRID_HZ))
    starts = [grid_time(i * step) for i in range(n)]
    ends = [*starts[1:], max(duration_s, starts[-1]) + 1.0]
    return [Interval(a, b) for a, b in zip(starts, ends, strict=True)]


def spoken(seconds: float) -> str:
    """Return a time in the largest unit of which there are two or more, for people to read."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
