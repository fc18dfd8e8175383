"""How long a run will still take, from what its steps took so far.

Work is counted in seconds of steps. A stage's rate, seconds of work a second of video, is that of the steps seen; of a
stage not yet seen it is the rate that ships with the workflow, scaled as the seen ones are to theirs. Video not yet
measured is taken to be as long as the mean of the rest. Workers are taken to stay as busy as they were. Until enough is
seen, it is the shipped rates of all stages, the video that headers tell of, and as many cores as there are to work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from curation.engine.step import StepResult

_SEEN = 0.1
"""The share of a source's work that the stages seen make up before anything is told: reading a header tells little."""


class Remaining:
    """Gathers steps and tells what is left; sources that are filtered on the way have less to do than is taken here."""

    def __init__(self, stages: Sequence[str], rates: Mapping[str, float]) -> None:
        """Begin.

        Args:
            stages: those that each source passes, in order.
            rates: seconds of work a second of video, by stage, as far as they are known before.
        """
        self._stages, self._shipped = tuple(stages), rates
        self._sources = 0
        self._told_s: float | None = None
        self.cores: float | None = 1.0
        """that work at once, as long as no more is known of it than that; None = not even that is"""
        self._work_s: dict[str, float] = defaultdict(float)
        self._video_s: dict[str, float] = defaultdict(float)
        self._length_s: dict[str, float] = {}
        self._done_s: dict[tuple[str, str], float] = defaultdict(float)  # source, stage -> seconds of video
        self._passed: dict[str, int] = {}  # source -> stages that it has left behind

    def begin(self, sources: int, video_s: float | None = None, rates: Mapping[str, float] | None = None) -> None:
        """Take up work on so many sources, of so many seconds of video in all as far as is known.

        `rates`: those of the beginning for such pictures as these, where more is known of them now.
        """
        self._sources, self._told_s = sources, video_s
        self._shipped = self._shipped if rates is None else rates

    def add(self, step: StepResult) -> None:
        """Count a step of a source."""
        if not step.source_id or step.stage not in self._stages:
            return
        self._work_s[step.stage] += step.wall_s
        self._video_s[step.stage] += step.media_s
        at = self._stages.index(step.stage)
        if step.window is None:
            over = step.status == "blocked" or (step.status == "error" and at == 0)  # nothing follows in quarantine
            passed = len(self._stages) if over else at + 1
            self._passed[step.source_id] = max(self._passed.get(step.source_id, 0), passed)
            self._length_s[step.source_id] = max(self._length_s.get(step.source_id, 0.0), step.media_s)
        else:
            self._passed[step.source_id] = max(self._passed.get(step.source_id, 0), at)
            self._done_s[step.source_id, step.stage] += step.media_s

    def left_s(self, elapsed_s: float) -> float | None:
        """Return the seconds that are left after `elapsed_s`; None while that cannot be told."""
        rates, lengths = self._rates(), [s for s in self._length_s.values() if s]
        worked = sum(self._work_s.values())
        if rates is None or not lengths or not worked:
            return self._expected_s(elapsed_s)
        mean_s, whole = sum(lengths) / len(lengths), sum(rates.values())
        left = max(0, self._sources - len(self._passed)) * mean_s * whole
        for source, passed in self._passed.items():
            length_s = self._length_s.get(source) or mean_s
            for stage in self._stages[passed:]:
                left += rates[stage] * max(0.0, length_s - self._done_s.get((source, stage), 0.0))
        return elapsed_s * left / worked

    def _expected_s(self, elapsed_s: float) -> float | None:
        """Return the seconds that are left by what was known before; None where too little was, or it was wrong."""
        if not self._told_s or not self.cores or not all(s in self._shipped for s in self._stages):
            return None
        whole = self._told_s * sum(self._shipped[s] for s in self._stages)
        left_s = min((whole - sum(self._work_s.values())) / self.cores, whole / self.cores - elapsed_s)
        return left_s if left_s > 0 else None

    def _rates(self) -> dict[str, float] | None:
        seen = {s: self._work_s[s] / v for s, v in self._video_s.items() if v}
        known = [s for s in seen if s in self._shipped]
        before = sum(self._shipped[s] for s in known)
        scale = sum(seen[s] for s in known) / before if before else 1.0
        out = {s: self._shipped[s] * scale for s in self._stages if s in self._shipped} | seen
        told = all(s in out for s in self._stages) and sum(seen.values()) >= _SEEN * sum(out.values())
        return out if told else None
