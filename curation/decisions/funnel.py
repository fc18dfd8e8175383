"""The funnel in the paper's steps: how much footage is left after each, beside the published percentages.

Counted in shots and in seconds of footage up to lip sync (a shot survives while one of its tracks does), and from
`conversation` on in the kept segments and the union of their time. In SQL over DECISIONS and unit tables, of all
sources at once or of some after the others, added up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import duckdb

from schemas.settings.policy import PAPER_LEFT_PERCENT, PAPER_STATES_PERCENT, STEPS


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


_KEPT = len(STEPS)
"""Where a kept shot ends: after every step."""


@dataclass(slots=True)
class Tally:
    """Sums of which the funnel is made; those of several sets of sources can be added up in one."""

    shots: Counter[int] = field(default_factory=Counter)
    """shots by the step that they did not survive"""
    seconds: dict[int, float] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    """kept segments by state"""
    kept_s: dict[str | None, float] = field(default_factory=dict)
    """the union of their time by state; None = of all states"""
    quarantined: int = 0
    pending: int = 0

    def add(self, con: duckdb.DuckDBPyConnection) -> None:
        """Count what the connection's `decisions`, `shots` and `segments` hold."""
        for ends, count, seconds, quarantined, pending in con.execute(_SHOTS).fetchall():
            self.shots[ends] += count
            self.seconds[ends] = self.seconds.get(ends, 0.0) + seconds
            self.quarantined += quarantined
            self.pending += pending
        for state, count in con.execute(f"SELECT state, count(*) FROM ({_SEGMENTS}) GROUP BY 1").fetchall():
            self.kept[state] += count
        for by in ("state", "CAST(NULL AS VARCHAR)"):
            for state, seconds in con.execute(_union(by)).fetchall():
                self.kept_s[state] = self.kept_s.get(state, 0.0) + seconds

    def funnel(self) -> Funnel:
        """Return the funnel of what was counted."""
        total_s = sum(self.seconds.values())

        def step(name: str, count: int, seconds: float, paper: float | None) -> FunnelStep:
            return FunnelStep(name, count, seconds, 100.0 * seconds / total_s if total_s else 0.0, paper)

        out = [step("raw", self.shots.total(), total_s, PAPER_LEFT_PERCENT["raw"])]
        for i, name in enumerate(STEPS):
            left = [ends for ends in self.shots if ends > i]
            count, seconds = sum(self.shots[e] for e in left), sum(self.seconds[e] for e in left)
            if name == "conversation":
                count, seconds = self.kept.total(), self.kept_s.get(None, 0.0)
            out.append(step(name, count, seconds, PAPER_LEFT_PERCENT.get(name)))
        states = [
            step(s, self.kept[s], self.kept_s.get(s, 0.0), PAPER_STATES_PERCENT.get(s))
            for s in sorted(self.kept.keys() | PAPER_STATES_PERCENT.keys())
        ]
        return Funnel(tuple(out), tuple(states), self.quarantined, self.pending)


# A source that a rule stopped before it had shots is raw footage too: one shot of its whole length.
_SHOTS = f"""
    WITH seen AS (
        SELECT s.duration_s, d.outcome, d.step FROM shots s
        LEFT JOIN (SELECT * FROM decisions WHERE unit = 'shots') d ON d.unit_id = s.shot_id
        UNION ALL
        SELECT duration_s, outcome, step FROM decisions
        WHERE unit = 'sources' AND duration_s > 0 AND unit_id NOT IN (SELECT source_id FROM shots)
    )
    SELECT CASE WHEN outcome = 'kept' THEN {_KEPT} WHEN outcome = 'filtered' THEN CASE step
           {" ".join(f"WHEN '{step}' THEN {i}" for i, step in enumerate(STEPS))} ELSE -1 END ELSE -1 END AS ends,
           count(*), sum(duration_s), count(*) FILTER (outcome = 'quarantined'), count(*) FILTER (outcome = 'pending')
    FROM seen GROUP BY 1
"""

_SEGMENTS = """
    SELECT s.source_id, s.state, s.start_s, s.end_s FROM segments s
    JOIN decisions d ON d.unit_id = s.segment_id WHERE d.unit = 'segments' AND d.outcome = 'kept'
"""


def _union(by: str) -> str:
    """Return the SELECT of how long the kept segments of a source last together, where they overlap once."""
    return f"""
        WITH runs AS (
            SELECT {by} AS state, start_s, end_s, max(end_s) OVER (
                PARTITION BY source_id, {by} ORDER BY start_s, end_s ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS before
            FROM ({_SEGMENTS})
        )
        SELECT state, sum(greatest(0.0, end_s - greatest(start_s, coalesce(before, start_s)))) FROM runs GROUP BY 1
    """
