"""Cuts found against true cuts, by kind.

A hard cut counts when it is found within 45 ms (it may lie on one blended frame), a flash, dissolve or wipe when a cut
is found within its extent or 0.2 s either side. A cut of composed footage lies on a known frame: half a frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from truth_people import Cut

HARD_S, GRADUAL_S, EXACT_S = 0.045, 0.2, 0.02
"""How far from the truth a cut may be found, in seconds: hard, gradual (beyond its extent), known to the frame."""


def off_by(cut: Cut, found_s: float) -> float | None:
    """Return how far a found time lies from a true cut in seconds (0 inside its extent); None when it is too far."""
    if cut.kind in ("hard", "exact"):
        away, limit = abs(found_s - cut.t_s), HARD_S if cut.kind == "hard" else EXACT_S
    else:
        away, limit = max(0.0, cut.extent[0] - found_s, found_s - cut.extent[1]), GRADUAL_S
    return away if away <= limit + 1e-9 else None


def match_cuts(found: Sequence[float], true: Sequence[Cut]) -> dict[float, Cut]:
    """Return which found time is which true cut: nearest first, none twice."""
    pairs = [
        (away, i, j)
        for i, t_s in enumerate(found)
        for j, cut in enumerate(true)
        if (away := off_by(cut, t_s)) is not None
    ]
    out: dict[float, Cut] = {}
    taken: set[int] = set()
    for _, i, j in sorted(pairs):
        if found[i] not in out and j not in taken:
            out[found[i]] = true[j]
            taken.add(j)
    return out


def cut_score(clips: Mapping[str, tuple[Sequence[float], Sequence[Cut]]]) -> dict[str, Any]:
    """Return precision, recall, F1, counts by kind, and per clip [right, found, true] with what is wrong."""
    right, true_n, wrong, per_clip = Counter[str](), Counter[str](), {}, {}
    found_n = 0
    for name, (found, true) in clips.items():
        hits = match_cuts(found, true)
        right.update(c.kind for c in hits.values())
        true_n.update(c.kind for c in true)
        found_n += len(found)
        per_clip[name] = [len(hits), len(found), len(true)]
        missed = [c for c in true if c not in hits.values()]
        false = [t for t in found if t not in hits]
        if missed or false:
            wrong[name] = {
                "missed": [f"{c.t_s:.3f} {c.kind}" for c in missed],
                "false": [f"{t:.3f}" for t in false],
            }
    hits_n, all_true = right.total(), true_n.total()
    precision = hits_n / found_n if found_n else 1.0
    recall = hits_n / all_true if all_true else 1.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "by_kind": {k: {"true": n, "right": right[k], "recall": right[k] / n} for k, n in sorted(true_n.items())},
        "right": hits_n,
        "found": found_n,
        "true": all_true,
        "per_clip": per_clip,
        "wrong": wrong,
    }
