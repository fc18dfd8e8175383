"""States frame by frame: accuracy, precision and recall of the pipeline and of the plain baseline; what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from points import Point
from truth_people import STATES

from schemas.time import GRID_HZ

Confusion = Counter[tuple[str, str]]
"""(true, found) -> frames."""


def confusion(points: Iterable[Point], found: Callable[[Point], str] = lambda p: p.found) -> Confusion:
    """Count (true, found) states over the scored points."""
    return Counter((p.true, found(p)) for p in points if p.scored and p.true is not None)


def figures(counts: Confusion) -> dict[str, Any]:
    """Return accuracy, recall and precision by state.

    What does not occur in the truth has no recall, and its precision is null: it is not known what it should have been.
    """
    total = counts.total()
    return {
        "accuracy": sum(n for (a, b), n in counts.items() if a == b) / total if total else None,
        "recall": {s: _share(counts, s, 0) for s in STATES},
        "precision": {s: _share(counts, s, 1) if any(a == s for a, _ in counts) else None for s in STATES},
        "confusion": {s: {p: counts[s, p] for p in (*STATES, "missing")} for s in STATES},
        "frames": total,
    }


def _share(counts: Confusion, state: str, side: int) -> float | None:
    total = sum(n for pair, n in counts.items() if pair[side] == state)
    return counts[state, state] / total if total else None


def state_score(points: Sequence[Point]) -> dict[str, Any]:
    """Return the figures over all clips, and accuracy and frames of each."""
    by_clip = {clip: confusion(mine) for clip, mine in _by_clip(points)}
    scored = {clip: c for clip, c in by_clip.items() if c}
    whole = figures(confusion(points))
    whole["per_clip"] = {clip: figures(c)["accuracy"] for clip, c in scored.items()}
    whole["frames_per_clip"] = {clip: c.total() for clip, c in scored.items()}
    return whole


def baseline_score(points: Sequence[Point]) -> dict[str, Any]:
    """Return the same figures for a speaker score > 0 and voice activity > 0.5 alone, on the same tracks."""
    out = figures(confusion(points, lambda p: p.baseline))
    by_clip = {clip: confusion(mine, lambda p: p.baseline) for clip, mine in _by_clip(points)}
    out["per_clip"] = {clip: figures(c)["accuracy"] for clip, c in by_clip.items() if c}
    return out


def unsure_states(points: Iterable[Point]) -> dict[str, dict[str, int]]:
    """Return frames by found state for faces that are not scored, by the first words of why."""
    out: dict[str, Counter[str]] = {}
    for p in points:
        if not p.scored:
            out.setdefault(p.why or "no reason", Counter())[p.found] += 1
    return {why: dict(c) for why, c in sorted(out.items(), key=lambda x: -x[1].total())}


def lost_by_reason(points: Iterable[Point]) -> dict[str, int]:
    """Return wrong frames by (true state, found state, reason), most first."""
    wrong = Counter(
        f"{p.true} > {p.found}: {p.reason}" for p in points if p.scored and p.true is not None and p.true != p.found
    )
    return dict(wrong.most_common())


def wrong_stretches(points: Sequence[Point], min_frames: int = 1) -> list[dict[str, Any]]:
    """Return stretches of one person in which the found state differs from the true one, with what decided it."""
    out = []
    ordered = sorted((p for p in points if p.scored), key=lambda p: (p.clip, p.person or "", p.k))
    alike = groupby(ordered, key=lambda p: (p.clip, p.person, p.true, p.found, p.reason, p.track))
    for (clip, person, true, found, reason, track), group in alike:
        run = list(group)
        if true is None or true == found or len(run) < min_frames:
            continue
        scores = [p.score for p in run if p.score is not None]
        out.append(
            {
                "clip": clip,
                "person": person,
                "start_s": run[0].k / GRID_HZ,
                "end_s": (run[-1].k + 1) / GRID_HZ,
                "frames": len(run),
                "true": true,
                "found": found,
                "reason": reason,
                "score": sum(scores) / len(scores) if scores else None,
                "confidence": sum(p.confidence for p in run) / len(run),
                "baseline_right": sum(p.baseline == true for p in run),
                "track": track,
            }
        )
    return out


def _by_clip(points: Sequence[Point]) -> Iterable[tuple[str, list[Point]]]:
    return ((clip, list(group)) for clip, group in groupby(points, key=lambda p: p.clip))
