"""Step results on their way from Ray's workers to the driver, while sources are still under way.

Workers hand results to one small actor; a thread of the driver takes them from there twice a second, and looks every
few seconds how the workers are. What ends a worker's work goes the same way, since Ray Data hands on the text of an
error without the error. Nothing depends on what the actor holds: results are in the commits and in the logs of steps.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import ray

from curation.cluster.workers import Begun, Workers, counted, ended_workers
from curation.engine.step import StepResult

LOOK_S = 5.0
"""How often it is looked how the workers are."""


@ray.remote(num_cpus=0)
class Collector:
    """Gathers step results from the workers until the driver takes them."""

    def __init__(self) -> None:
        self._results: list[StepResult] = []
        self._fault: Exception | None = None
        self._begun: list[Begun] = []

    def begin(self, worker: Begun) -> None:
        """Know of a worker that begins."""
        self._begun.append(worker)

    def begun(self) -> list[Begun]:
        """Return the workers that have begun, in order."""
        return self._begun

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
    """Brings results from the collector to `report` in the driver, twice a second; keeps what report raises.

    Tells `watch` every few seconds, from the first on, how the workers are.
    """

    def __init__(self, collector: Any, report: Callable[[StepResult], None], watch: Callable[[Workers], None]) -> None:
        self._collector, self._report, self._watch = collector, report, watch
        self._looked = 0.0
        self._begun: dict[str, Begun] = {}  # of all that the collector has told of: it may be lost itself
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="openlpm-progress", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.wait(0.5):
            self._drain()
            if time.monotonic() - self._looked > LOOK_S:
                self.look()

    def look(self) -> None:
        """Tell how the workers are."""
        self._looked = time.monotonic()
        try:
            cpus = ray.cluster_resources().get("CPU", 0.0)
        except ray.exceptions.RayError:
            return
        workers = counted(list(self._begun.values()), ended_workers(), cpus)
        self._tell(lambda: self._watch(workers))

    def _tell(self, what: Callable[[], None]) -> None:
        if self._error is None:
            try:
                what()
            except Exception as e:  # handed to the driver's own thread by check()
                self._error = e

    def _drain(self) -> None:
        try:
            results: Iterable[StepResult] = ray.get(self._collector.take.remote())
            begun: list[Begun] = ray.get(self._collector.begun.remote())
        except ray.exceptions.RayError:
            return
        self._begun |= {one.worker: one for one in begun}
        for result in results:
            self._tell(functools.partial(self._report, result))

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
        self.look()
        if self._error is not None:
            raise self._error
