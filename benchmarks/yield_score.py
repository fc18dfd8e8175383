"""How much usable footage the policy keeps, which rule took the rest, and how much of what is kept is wrong in state.

Usable is a stretch of 3 s or more of one shot in which the truth has one person speak, listen or idle throughout; a
pause too short to be scored as idle does not end it. The policy's decisions are worked out here from the measured
tables, as `lpm decide` would, so a dataset made with a policy that lets everything through serves for both; nothing is
written.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from points import Point
from truth_people import SHORT_IDLE, Truth

from curation import Dataset
from curation.decisions.decide import alive, evaluate
from curation.decisions.ledger import judge, ledger_tables
from schemas import tables as t
from schemas.settings.policy import Policy
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
    with contextlib.closing(dataset.connect(tables=ledger_tables())) as con:
        con.register("failed_now", t.ERRORS.from_rows(failed))
        con.execute("CREATE TABLE failed AS SELECT DISTINCT ON (unit_id) * FROM failed_now ORDER BY unit_id, stage")
        con.execute("CREATE TABLE cover(unit_id VARCHAR, mask UBIGINT)")  # nothing waits to be measured
        con.execute("CREATE TABLE state(source_id VARCHAR, done UBIGINT, settled BOOLEAN)")
        con.execute("CREATE TABLE exact(source_id VARCHAR, missing VARCHAR)")
        judge(con, policy)
        rows = con.execute(
            "SELECT unit_id, outcome, rule, state FROM decided JOIN segments ON segment_id = unit_id "
            "WHERE unit = 'segments'"
        ).fetchall()
    return {unit_id: Outcome(outcome, rule, state) for unit_id, outcome, rule, state in rows}


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


def segments_at(segments: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Return the segment by track and grid point."""
    at: dict[str, dict[int, str]] = defaultdict(dict)
    for r in segments:
        for k in grid_range(Interval(r["start_s"], r["end_s"])):
            at[r["track_id"]][k] = r["segment_id"]
    return at


def fate(p: Point, segment: str | None, decided: Mapping[str, Outcome]) -> str:
    """Return "kept", or what took a point: a rule, an error's class, `no_track` or `no_segment`."""
    if p.track is None:
        return "no_track"
    o = None if segment is None else decided.get(segment)
    if o is None:
        return "no_segment"
    return "kept" if o.outcome == "kept" else o.rule or o.outcome


def worth(p: Point, state: str | None, is_usable: bool) -> str:
    """Return what a point would be worth in its segment: good, wrong in state, unsure, or too short to be used."""
    if not p.scored:
        return "unsure"
    if p.true != ("speak" if state == "both" else state):
        return "wrong"
    return "good" if is_usable else "short"


def yield_score(
    points: Sequence[Point], truths: Mapping[str, Truth], segments: Sequence[Mapping[str, Any]],
    decided: Mapping[str, Outcome],
) -> dict[str, Any]:  # fmt: skip
    """Return usable and kept seconds, the usable seconds each rule took, and what the kept and the taken is worth.

    `rules` counts every labelled second by its fate and worth, so the share of `good` in what a rule takes is its
    error; `kept_nobody_s` was kept of tracks that stand for no labelled person there. `kept_precision`: share of the
    kept labelled seconds of a state that are in it, which is what a trainer receives.

    Args:
        points: truth and finding of every clip.
        truths: truth by clip.
        segments: SEGMENTS rows.
        decided: outcome by segment.
    """
    at = segments_at(segments)
    good = {(p.clip, p.person, p.k) for p in usable(points, truths)}
    by_rule: Counter[str] = Counter()
    per_clip: dict[str, Counter[str]] = defaultdict(Counter)
    rules: dict[str, Counter[str]] = defaultdict(Counter)
    wrong_segments: Counter[str] = Counter()
    received: dict[str, Counter[str]] = defaultdict(Counter)
    for p in points:
        segment = at.get(p.track or "", {}).get(p.k)
        what, is_usable = fate(p, segment, decided), (p.clip, p.person, p.k) in good
        state = decided[segment].state if segment is not None and segment in decided else None
        value = worth(p, state, is_usable)
        rules[what][value] += 1
        if is_usable:
            by_rule[what] += 1
            per_clip[p.clip].update({"usable": 1, "kept": int(what == "kept")})
        if what == "kept" and state is not None and value != "unsure":
            received["speak" if state == "both" else state][value] += 1
        if what == "kept" and value == "wrong":
            wrong_segments[f"{p.clip} {segment} {state} for {p.true}"] += 1
    kept = {s for s, o in decided.items() if o.outcome == "kept"}
    kept_s = sum(r["duration_s"] for r in segments if r["segment_id"] in kept)
    mine = rules["kept"]
    return {
        "usable_s": len(good) / GRID_HZ,
        "kept_s": kept_s,
        "kept_usable_s": by_rule["kept"] / GRID_HZ,
        "kept_share": by_rule["kept"] / len(good) if good else None,
        "by_rule": {rule: n / GRID_HZ for rule, n in by_rule.most_common() if rule != "kept"},
        "kept_right_s": (mine["good"] + mine["short"]) / GRID_HZ,
        "kept_wrong_s": mine["wrong"] / GRID_HZ,
        "kept_unsure_s": mine["unsure"] / GRID_HZ,
        "kept_nobody_s": max(0.0, kept_s - mine.total() / GRID_HZ),
        "kept_segments": len(kept),
        "kept_precision": {state: 1 - c["wrong"] / c.total() for state, c in sorted(received.items())},
        "wrong_segments": _seconds(wrong_segments),
        "rules": {rule: _seconds(c) for rule, c in sorted(rules.items(), key=lambda x: -x[1].total())},
        "per_clip": {clip: _seconds(c) for clip, c in sorted(per_clip.items())},
    }


def _seconds(frames: Counter[str]) -> dict[str, float]:
    return {what: n / GRID_HZ for what, n in frames.most_common()}
