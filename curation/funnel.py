"""The funnel in the paper's steps: how much footage is left after each, beside the published percentages.

Counted in shots and in seconds of footage up to lip sync (a shot survives while one of its tracks does), and from
`conversation` on in the kept segments and the union of their time. Pure: DECISIONS and unit tables in, numbers out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from curation.dataset import Dataset
from schemas import tables as t
from schemas.policy import PAPER_LEFT_PERCENT, PAPER_STATES_PERCENT, STEPS
from schemas.time import Interval, union_s


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What is left after one step; percentages are of the raw seconds, `paper` is the published share of clips."""

    step: str
    count: int
    seconds: float
    percent: float
    paper: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """All steps, the kept segments by state, and what is outside the funnel: quarantined and pending shots."""

    steps: tuple[FunnelStep, ...]
    states: tuple[FunnelStep, ...]
    quarantined: int
    pending: int


def funnel(dataset: Dataset) -> Funnel:
    """Compute the funnel of a dataset from its decisions."""
    decisions = {(r["unit"], r["unit_id"]): r for r in dataset.table(t.DECISIONS).to_pylist()}
    shots = dataset.table(t.SHOTS, ["shot_id", "source_id", "duration_s"]).to_pylist()
    segments = dataset.table(t.SEGMENTS, ["segment_id", "source_id", "state", "start_s", "end_s"]).to_pylist()
    measured = {r["source_id"] for r in shots}
    # A source that a rule stopped before it had shots is raw footage too: one shot of its whole length.
    for (unit, unit_id), r in list(decisions.items()):
        if unit == "sources" and unit_id not in measured and r["duration_s"] > 0:
            decisions["shots", unit_id] = r
            shots.append({"shot_id": unit_id, "source_id": unit_id, "duration_s": r["duration_s"]})
    return compute(shots, segments, decisions)


def compute(
    shots: Iterable[Mapping[str, Any]],
    segments: Iterable[Mapping[str, Any]],
    decisions: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Funnel:
    """Compute the funnel from plain rows; see `funnel`."""
    rows = [(s, decisions.get(("shots", s["shot_id"]))) for s in shots]
    total_s = sum(s["duration_s"] for s, _ in rows)
    kept = [s for s in segments if _outcome(decisions, s["segment_id"]) == "kept"]

    def step(name: str, count: int, seconds: float, paper: float | None) -> FunnelStep:
        return FunnelStep(name, count, seconds, 100.0 * seconds / total_s if total_s else 0.0, paper)

    out = [step("raw", len(rows), total_s, PAPER_LEFT_PERCENT["raw"])]
    for i, name in enumerate(STEPS):
        paper = PAPER_LEFT_PERCENT.get(name)
        if name == "conversation":
            out.append(step(name, len(kept), _union(kept), paper))
            continue
        left = [s for s, d in rows if d is not None and _survives(d, i)]
        out.append(step(name, len(left), sum(s["duration_s"] for s in left), paper))
    states = []
    for state in sorted({s["state"] for s in kept} | PAPER_STATES_PERCENT.keys()):
        mine = [s for s in kept if s["state"] == state]
        states.append(step(state, len(mine), _union(mine), PAPER_STATES_PERCENT.get(state)))
    outcomes = [d["outcome"] for _, d in rows if d is not None]
    return Funnel(tuple(out), tuple(states), outcomes.count("quarantined"), outcomes.count("pending"))


def _outcome(decisions: Mapping[tuple[str, str], Mapping[str, Any]], segment_id: str) -> str:
    row = decisions.get(("segments", segment_id))
    return "pending" if row is None else str(row["outcome"])


def _survives(decision: Mapping[str, Any], i: int) -> bool:
    """A shot is left after step i when it is kept, or was filtered at a later step."""
    if decision["outcome"] == "kept":
        return True
    return decision["outcome"] == "filtered" and decision["step"] in STEPS and STEPS.index(decision["step"]) > i


def _union(segments: Iterable[Mapping[str, Any]]) -> float:
    by_source: dict[str, list[Interval]] = defaultdict(list)
    for s in segments:
        by_source[s["source_id"]].append(Interval(s["start_s"], s["end_s"]))
    return sum(union_s(v) for v in by_source.values())
