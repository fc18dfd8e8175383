"""What work costs a process: seconds of the clock and of CPUs since it was asked the last time."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Cost:
    """Seconds of the clock and of CPUs."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


class Watch:
    """Tells what this process has used since it was asked the last time."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, shared_by: int = 1) -> Cost:
        """Return the cost, or each one's share of it."""
        wall, cpu = self._wall, self._cpu
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return Cost((self._wall - wall) / shared_by, (self._cpu - cpu) / shared_by)
