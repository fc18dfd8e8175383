"""Cut a person's runs into candidate clips: at most 8 s, where the voice changes, at pauses and sentence ends.

Pure: runs and words in, borders and texts out. Segments partition the track, discarded stretches included; no border
lies inside a word if that can be avoided.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from schemas.time import GRID_HZ

_SENTENCE_END = (".", "!", "?", "…", "。", "！", "？")
_MIN_STRETCH_S = 0.5
"""Words of a voice that last less together are a backchannel: they do not take the floor."""
_INSIDE = 0.8
_MIN_KNOWN = 0.5


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word's times in seconds, its text (null = not known) and its voice (null = no turn holds it)."""

    start_s: float
    end_s: float
    text: str | None
    voice: str | None = None


def voice_changes(words: Sequence[SpokenWord]) -> list[tuple[float, float]]:
    """Return (end of a voice's last word, start of the next voice's first word) of each change of voice.

    Words without a voice and backchannels are passed over. Where two voices overlap the second one's start counts as
    both: what is cut off is the end of the first, not the beginning of an answer.
    """
    known = sorted((w for w in words if w.voice is not None), key=lambda w: (w.start_s, w.end_s))
    stretches = [list(group) for _, group in groupby(known, key=lambda w: w.voice)]
    lasting = [g for g in stretches if max(w.end_s for w in g) - g[0].start_s >= _MIN_STRETCH_S]
    out = []
    for a, b in pairwise(lasting):
        if a[0].voice != b[0].voice:
            begin = b[0].start_s
            out.append((min(max(w.end_s for w in a), begin), begin))
    return out


def clip_text(words: Sequence[SpokenWord], start_s: float, end_s: float) -> str | None:
    """Return what is said in a clip, by words of any time; null where less than half of its words are known.

    A word counts as in the clip with four fifths of its time. Words that are not known are one "…" where they stand.
    """
    inside = [w for w in words if _share_inside(w, start_s, end_s) >= _INSIDE]
    if not inside or sum(w.text is not None for w in inside) < _MIN_KNOWN * len(inside):
        return None
    parts = [w.text if w.text is not None else "…" for w in inside]
    return " ".join(x for i, x in enumerate(parts) if x != "…" or i == 0 or parts[i - 1] != "…")


def _share_inside(word: SpokenWord, start_s: float, end_s: float) -> float:
    length = word.end_s - word.start_s
    if length <= 0:
        return float(start_s <= word.start_s < end_s)
    return max(0.0, min(end_s, word.end_s) - max(start_s, word.start_s)) / length


def cut_points(words: Sequence[SpokenWord], start_s: float, end_s: float) -> dict[float, float]:
    """Return grid times inside (start, end) with a cost: least between two voices, then sentence ends, pauses, words.

    A cost is in seconds of displacement that it is worth to avoid it; below 0, to reach it.
    """
    out: dict[float, float] = {}
    between_voices = {t for a, b in voice_changes(words) for t in _grid_times(a, b)}
    inside = sorted((w for w in words if w.end_s > start_s and w.start_s < end_s), key=lambda w: w.start_s)
    starts = [w.start_s for w in inside]
    reach = list(accumulate((w.end_s for w in inside), max))  # latest end so far: recognisers let words overlap
    ended = sorted(inside, key=lambda w: w.end_s)
    ends = [w.end_s for w in ended]
    for k in range(math.floor(start_s * GRID_HZ) + 1, math.ceil(end_s * GRID_HZ)):
        t = k / GRID_HZ
        if t in between_voices:
            out[t] = -1.0
            continue
        begun, over = bisect_right(starts, t - 1e-6), bisect_right(ends, t + 1e-6)
        if begun and reach[begun - 1] > t + 1e-6:
            out[t] = 4.0
        elif over and (ended[over - 1].text or "").rstrip('"” ').endswith(_SENTENCE_END):
            out[t] = 0.0
        else:
            out[t] = 0.4 if inside else 0.0
    return out


def cut_run(
    words: Sequence[SpokenWord], start_s: float, end_s: float, min_s: float, max_s: float
) -> list[tuple[float, float]]:
    """Cut one run where the voice changes, and what is longer than `max_s` into nearly equal pieces.

    Each piece is at least `min_s` long where that is possible; a voice that has the floor for less stays with its
    neighbour. Other borders move from the even places to sentence ends and pauses, as far as both limits allow.
    """
    pieces: list[tuple[float, float]] = []
    borders = [start_s, *voice_borders(words, start_s, end_s, min_s), end_s]
    for a, b in pairwise(borders):
        pieces += cut_evenly(words, a, b, min_s, max_s)
    return pieces


def voice_borders(words: Sequence[SpokenWord], start_s: float, end_s: float, min_s: float) -> list[float]:
    """Return the grid times between two voices at which both sides keep `min_s`, in order."""
    out: list[float] = []
    for a, b in voice_changes([w for w in words if w.end_s > start_s and w.start_s < end_s]):
        times = _grid_times(a, b)
        t = times[len(times) // 2]
        if t - (out[-1] if out else start_s) >= min_s and end_s - t >= min_s:
            out.append(t)
    return out


def _grid_times(a_s: float, b_s: float) -> list[float]:
    """Return the grid times in [a, b]; where there is none, the last one before b: a word's start is never cut off."""
    ks = range(math.ceil(a_s * GRID_HZ - 1e-6), math.floor(b_s * GRID_HZ + 1e-6) + 1)
    return [k / GRID_HZ for k in ks] or [math.floor(b_s * GRID_HZ + 1e-6) / GRID_HZ]


def cut_evenly(
    words: Sequence[SpokenWord], start_s: float, end_s: float, min_s: float, max_s: float
) -> list[tuple[float, float]]:
    """Cut a stretch that is longer than `max_s` into nearly equal pieces, as `cut_run` says."""
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
