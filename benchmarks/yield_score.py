"""How much usable footage the policy keeps, which rule took the rest, and how much of what is kept is wrong in state.

Usable is a stretch of 3 s or more of one shot in which the truth has one person speak, listen or idle throughout; a
pause too short to be scored as idle does not end it. The policy's decisions are worked out here from the measured
tables, as `lpm decide` would, so a dataset made with a policy that lets everything through serves for both; nothing is
written.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from points import Point
from truth_people import SHORT_IDLE, Truth

from curation import Dataset
from curation.decide import alive, evaluate
from curation.ledger import decide_all
from schemas import tables as t
from schemas.policy import Policy
from schemas.time import GRID_HZ, Interval, grid_index, grid_range

USABLE_MIN_S = 3.0
"""LPM 1.0's shortest clip."""


@dataclass(frozen=True)
class Outcome:
    """What a policy says of one segment."""

    outcome: str
    rule: str | None
    state: str


def outcomes(dataset: Dataset, policy: Policy) -> dict[str, Outcome]:
    """Return the outcome of every measured segment under a policy.

    An error counts only where the policy would have had the unit measured: what it drops before never fails.
    """
    verdicts = evaluate(policy, dataset.unit_tables())
    live = {i for kind in verdicts for i in alive(verdicts, kind)}
    known = {i for kind in verdicts for i in verdicts[kind]}
    failed = [e for e in dataset.table(t.ERRORS).to_pylist() if e["unit_id"] in live or e["unit_id"] not in known]
    rows = decide_all(dataset.table(t.INPUTS), verdicts, failed, {}).to_pylist()
    state = {r["segment_id"]: r["state"] for r in dataset.table(t.SEGMENTS, ["segment_id", "state"]).to_pylist()}
    return {
        r["unit_id"]: Outcome(r["outcome"], r["rule"], state[r["unit_id"]]) for r in rows if r["unit"] == "segments"
    }


PAUSE = "pause"
"""An idle stretch too short to be scored: it belongs to what surrounds it."""


def stretches(labels: Sequence[tuple[int, str | None]], borders: Sequence[int] = ()) -> list[tuple[str, list[int]]]:
    """Return maximal runs of one state as (state, grid points); labels are (grid point, state, PAUSE or None).

    A run ends at a gap, at a border (first grid point of a new shot) and where another state begins; pauses inside a
    run are part of it, at its ends they are not.
    """
    out: list[tuple[str, list[int]]] = []
    state, run, pause = "", list[int](), list[int]()
    last = -1
    for k, label in labels:
        broken = k != last + 1 or k in borders or label is None or (label != PAUSE and label != state)
        if broken and run:
            out.append((state, run))
        if broken:
            state, run, pause = "", [], []
        if label == PAUSE:
            pause.append(k)
        elif label is not None:
            run, state, pause = ([*run, *pause, k] if run else [k]), label, []
        last = k
    if run:
        out.append((state, run))
    return out


def usable(points: Sequence[Point], truths: Mapping[str, Truth]) -> list[Point]:
    """Return the points that lie in usable stretches."""
    people: dict[tuple[str, str | None], dict[int, Point]] = defaultdict(dict)
    for p in points:
        people[p.clip, p.person][p.k] = p
    out = []
    for (clip, _), mine in people.items():
        borders = [grid_index(c.t_s) for c in truths[clip].cuts or ()]
        labels = [(k, _label(p)) for k, p in sorted(mine.items())]
        for _, run in stretches(labels, borders):
            if len(run) >= USABLE_MIN_S * GRID_HZ:
                out += [mine[k] for k in run]
    return out


def _label(p: Point) -> str | None:
    if p.scored:
        return p.true if p.true in ("speak", "listen", "idle") else None
    return PAUSE if p.why == SHORT_IDLE else None


def yield_score(
    points: Sequence[Point], truths: Mapping[str, Truth], segments: Sequence[Mapping[str, Any]],
    decided: Mapping[str, Outcome],
) -> dict[str, Any]:  # fmt: skip
    """Return usable and kept seconds, the seconds each rule took, and kept seconds that are wrong in state.

    Args:
        points: truth and finding of every clip.
        truths: truth by clip.
        segments: SEGMENTS rows.
        decided: outcome by segment.
    """
    at: dict[str, dict[int, str]] = defaultdict(dict)
    for r in segments:
        for k in grid_range(Interval(r["start_s"], r["end_s"])):
            at[r["track_id"]][k] = r["segment_id"]
    by_rule: Counter[str] = Counter()
    per_clip: dict[str, Counter[str]] = defaultdict(Counter)
    good = usable(points, truths)
    for p in good:
        segment = at.get(p.track or "", {}).get(p.k)
        o = None if segment is None else decided.get(segment)
        if p.track is None:
            what = "no_track"
        elif o is None:
            what = "no_segment"
        else:
            what = "kept" if o.outcome == "kept" else o.rule or o.outcome
        by_rule[what] += 1
        per_clip[p.clip]["usable"] += 1
        per_clip[p.clip]["kept"] += what == "kept"
    kept = {s for s, o in decided.items() if o.outcome == "kept"}
    kept_s = sum(r["duration_s"] for r in segments if r["segment_id"] in kept)
    right = wrong = unsure = 0
    wrong_segments: Counter[str] = Counter()
    for p in points:
        segment = at.get(p.track or "", {}).get(p.k)
        if segment is None or segment not in kept:
            continue
        state = "speak" if decided[segment].state == "both" else decided[segment].state
        if not p.scored:
            unsure += 1
        elif p.true == state:
            right += 1
        else:
            wrong += 1
            wrong_segments[f"{p.clip} {segment} {state} for {p.true}"] += 1
    return {
        "usable_s": len(good) / GRID_HZ,
        "kept_s": kept_s,
        "kept_usable_s": by_rule["kept"] / GRID_HZ,
        "kept_share": by_rule["kept"] / len(good) if good else None,
        "by_rule": {rule: n / GRID_HZ for rule, n in by_rule.most_common() if rule != "kept"},
        "kept_right_s": right / GRID_HZ,
        "kept_wrong_s": wrong / GRID_HZ,
        "kept_unsure_s": unsure / GRID_HZ,
        "kept_segments": len(kept),
        "wrong_segments": {what: n / GRID_HZ for what, n in wrong_segments.most_common()},
        "per_clip": {c: {what: n / GRID_HZ for what, n in v.items()} for c, v in sorted(per_clip.items())},
    }
