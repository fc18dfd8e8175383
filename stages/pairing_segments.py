"""Cut a person's runs into candidate clips: at most 8 s, at pauses and sentence ends, never inside a word if avoidable.

Pure: runs and words in, borders out. Segments partition the track, discarded stretches included.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from schemas.time import GRID_HZ

_SENTENCE_END = (".", "!", "?", "…", "。", "！", "？")


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word's times in seconds and text."""

    start_s: float
    end_s: float
    text: str


def cut_points(words: Sequence[SpokenWord], start_s: float, end_s: float) -> dict[float, float]:
    """Return grid times inside (start, end) with a cost: 0 at a sentence end, more in a pause, 1 inside a word.

    A cost is in seconds of displacement that it is worth to avoid it.
    """
    out: dict[float, float] = {}
    inside = sorted((w for w in words if w.end_s > start_s and w.start_s < end_s), key=lambda w: w.start_s)
    starts = [w.start_s for w in inside]
    reach = list(accumulate((w.end_s for w in inside), max))  # latest end so far: recognisers let words overlap
    ended = sorted(inside, key=lambda w: w.end_s)
    ends = [w.end_s for w in ended]
    for k in range(math.floor(start_s * GRID_HZ) + 1, math.ceil(end_s * GRID_HZ)):
        t = k / GRID_HZ
        begun, over = bisect_right(starts, t - 1e-6), bisect_right(ends, t + 1e-6)
        if begun and reach[begun - 1] > t + 1e-6:
            out[t] = 4.0
        elif over and ended[over - 1].text.rstrip('"” ').endswith(_SENTENCE_END):
            out[t] = 0.0
        else:
            out[t] = 0.4 if inside else 0.0
    return out


def cut_run(
    words: Sequence[SpokenWord], start_s: float, end_s: float, min_s: float, max_s: float
) -> list[tuple[float, float]]:
    """Cut one run into nearly equal pieces of at most `max_s` seconds, each at least `min_s` where that is possible.

    The borders move from the even places to sentence ends and pauses, as far as both limits allow.
    """
    length = end_s - start_s
    if length <= max_s + 1e-6:
        return [(start_s, end_s)]
    n = math.ceil(length / max_s - 1e-9)
    costs = cut_points(words, start_s, end_s)
    pieces, a = [], start_s
    for i in range(n, 1, -1):
        target = a + (end_s - a) / i
        # What remains must fit into the remaining pieces, each within the limits.
        low = max(a + min(min_s, length / n), end_s - (i - 1) * max_s)
        high = min(a + max_s, end_s - (i - 1) * min(min_s, length / n))
        allowed = [t for t in costs if low - 1e-6 <= t <= high + 1e-6]
        b = min(allowed, key=lambda t: (costs[t] + abs(t - target), t), default=target)
        pieces.append((a, b))
        a = b
    return [*pieces, (a, end_s)]


def inside_word(words: Sequence[SpokenWord], t_s: float) -> bool:
    """Say whether a border falls into a word (by more than a grid step at its edge)."""
    edge = 1.0 / GRID_HZ
    return any(w.start_s + edge < t_s < w.end_s - edge for w in words)
