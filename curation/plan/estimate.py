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


def stage_rates(found: Survey, rates: Rates) -> dict[str, float]:
    """Return the CPU seconds a video second by stage, for footage of so many pixels a second.

    Where the headers or the rates tell of no pixels they are as they were measured.
    """
    more = 0.0
    if found.pixels and found.video_s and rates.pixels_per_s:
        more = found.pixels / found.video_s - rates.pixels_per_s
    return {r.stage: max(0.0, r.cpu_s + r.cpu_s_per_gigapixel * more / 1e9) for r in rates.stages}


def estimate(found: Survey, rates: Rates, window_s: float) -> Estimate:
    """Return the estimate; every rate is taken to grow with the video given in.

    `window_s`: the workflow's window, over which the scan of one source is spread.
    """
    rate = stage_rates(found, rates)
    core_s = {stage: cpu_s * found.video_s for stage, cpu_s in rate.items()}
    window = min(window_s, found.longest_s)
    chain = {"window": window, "source": found.longest_s, "dataset": 0.0}
    return Estimate(
        core_s=core_s,
        bytes_out=rates.bytes_out * found.video_s,
        longest_s=sum(rate[r.stage] * chain[r.grain] for r in rates.stages),
        alone_s=sum(core_s[r.stage] for r in rates.stages if r.grain == "dataset"),
    )
