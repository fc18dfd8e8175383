"""Step results on their way from Ray's workers to the driver, while sources are still under way.

Workers hand results to one small actor; a thread of the driver takes them from there twice a second. What ends a
worker's work goes the same way, since Ray Data hands on the text of an error without the error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import ray

from curation.engine.step import StepResult


@ray.remote(num_cpus=0, max_restarts=-1)
class Collector:
    """Gathers step results from the workers until the driver takes them."""

    def __init__(self) -> None:
        self._results: list[StepResult] = []
        self._fault: Exception | None = None

    def fail(self, fault: Exception) -> None:
        """Keep the first error that ended a worker's work."""
        self._fault = self._fault or fault

    def fault(self) -> Exception | None:
        """Return that error."""
        return self._fault

    def add(self, result: StepResult) -> None:
        """Keep one result."""
        self._results.append(result)

    def take(self) -> list[StepResult]:
        """Return what has come since the last call."""
        out, self._results = self._results, []
        return out


class Pump:
    """Brings results from the collector to `report` in the driver, twice a second; keeps what report raises."""

    def __init__(self, collector: Any, report: Callable[[StepResult], None]) -> None:
        self._collector, self._report = collector, report
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="openlpm-progress", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.wait(0.5):
            self._drain()

    def _drain(self) -> None:
        try:
            results: Iterable[StepResult] = ray.get(self._collector.take.remote())
        except ray.exceptions.RayError:
            return
        for result in results:
            if self._error is None:
                try:
                    self._report(result)
                except Exception as e:  # handed to the driver's own thread by check()
                    self._error = e

    def check(self) -> None:
        """Raise in the caller's thread what `report` raised."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Stop, bring the last results, and raise what `report` raised."""
        self._stop.set()
        self._thread.join()
        time.sleep(0.05)
        self._drain()
        if self._error is not None:
            raise self._error
