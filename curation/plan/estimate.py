"""From what there is to do and what it cost elsewhere to core-hours, bytes and the time that a cluster takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.plan.rates import Rates

if TYPE_CHECKING:
    from curation.plan.survey import Survey


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, if its footage is like that of the rates and its cores like theirs."""

    core_s: dict[str, float]
    """CPU seconds by stage"""
    bytes_out: float
    longest_s: float
    """wall seconds that the longest source takes, whatever the cores: its windows spread, its other stages do not"""
    alone_s: float
    """wall seconds of the stages over the whole dataset, which one process does"""

    @property
    def total_s(self) -> float:
        """Return the CPU seconds of all stages."""
        return sum(self.core_s.values())

    def wall_s(self, cores: int) -> float:
        """Return the least wall seconds with so many cores: work shared evenly, or the longest source."""
        return max((self.total_s - self.alone_s) / cores, self.longest_s) + self.alone_s


def estimate(found: Survey, rates: Rates, window_s: float) -> Estimate:
    """Return the estimate; every rate is taken to grow with the video given in.

    `window_s`: the workflow's window, over which the scan of one source is spread.
    """
    core_s = {r.stage: r.cpu_s * found.video_s for r in rates.stages}
    window = min(window_s, found.longest_s)
    chain = {"window": window, "source": found.longest_s, "dataset": 0.0}
    return Estimate(
        core_s=core_s,
        bytes_out=rates.bytes_out * found.video_s,
        longest_s=sum(r.cpu_s * chain[r.grain] for r in rates.stages),
        alone_s=sum(core_s[r.stage] for r in rates.stages if r.grain == "dataset"),
    )
