"""What Ray's workers do: the steps of a lane on the items that reach them, and the join of a source's windows."""

from __future__ import annotations

import contextlib
import logging
import socket
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from curation.cluster.lanes import Lane
from curation.cluster.machines import Asked, ask_here
from curation.cluster.workers import Begun
from curation.engine.run import Job, RunStoppedError
from curation.engine.stage_call import MachineError
from curation.engine.step import StageSetupError, Stepper
from curation.stage import WorkItem
from curation.storage.store import StoreError

OURS = (StoreError, StageSetupError, RunStoppedError)
"""Errors whose words are ours."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of a run are given."""

    job: Job
    collector: Any
    """actor that takes results, and the error that ends a worker's work"""
    asked: Asked | None
    """what a machine that joins late is held against; None = there is but one machine"""


def quiet() -> None:
    """Let a worker's process say nothing of Ray but errors."""
    logging.getLogger("ray").setLevel(logging.ERROR)


class LaneWorker:
    """A warm actor: holds one stepper with its lane's models."""

    def __init__(self, shared: Shared, lane: Lane) -> None:
        quiet()
        self._stepper, self._lane, self._shared, self._fit = shared.job.stepper(), lane, shared, shared.asked is None
        here = ray.get_runtime_context()
        again = bool(here.was_current_actor_reconstructed)
        shared.collector.begin.remote(Begun(here.get_worker_id(), lane.name, socket.gethostname(), again))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the lane's stages on a batch of rows, and return it."""
        with self._stepper.store.recalling():  # until it returns no other worker has these items
            try:
                self._ask()
                return self._steps(batch)
            except Exception as e:
                with contextlib.suppress(ray.exceptions.RayError):  # the collector is gone, with its machine
                    ray.get(self._shared.collector.fail.remote(told(e, ray.get_runtime_context().get_node_id())))
                raise

    def _ask(self) -> None:
        """Make sure of this machine, once. Raises MachineError."""
        if self._shared.asked is not None and not self._fit:
            here = {resolved.name: self._stepper.provenance(resolved) for resolved in self._lane.stages}
            ask_here(self._shared.job, self._shared.asked, here)
            self._fit = True

    def _steps(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        work = []
        for n in range(len(batch["source_id"])):
            source_id, path = str(batch["source_id"][n]), str(batch["path"][n])
            item = WorkItem(source_id)
            if self._lane.windowed:
                item = self._stepper.window_items(source_id)[int(batch["window"][n])]
            work.append((item, path))
        for resolved in self._lane.stages:
            for result in self._stepper.steps(resolved, work):
                self._shared.collector.add.remote(result)
        return batch


def told(e: Exception, node: str) -> Exception:
    """Return an error of a worker as its command is told: with its machine, and what of it can be handed on."""
    if isinstance(e, MachineError):
        e.node = node
    note = f"In a worker on {socket.gethostname()}:\n{''.join(traceback.format_exception(e))}"
    try:
        ray.cloudpickle.loads(ray.cloudpickle.dumps(e))
    except Exception:  # of any kind: it is the error's own
        e = RuntimeError(f"{type(e).__name__}: {e}")
    if not isinstance(e, OURS):
        e.add_note(note)
    return e


class Join:
    """Lets a source through once, when its last window has passed. There is exactly one of it.

    It counts the windows that pass; one that was started again, in place of one that was lost, asks the commits for
    those that had passed before.
    """

    def __init__(self, packed: bytes) -> None:
        quiet()
        self._seen: dict[str, set[int]] = {}
        self._through: set[str] = set()
        again = ray.get_runtime_context().was_current_actor_reconstructed
        self._stepper: Stepper | None = ray.cloudpickle.loads(packed).stepper() if again else None

    @staticmethod
    def packed(job: Job) -> bytes:
        """Return a job as a join takes it: it is read where it is needed alone, for it imports every stage."""
        return bytes(ray.cloudpickle.dumps(job))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the rows that are the last of their sources."""
        rows = zip(*(batch[k] for k in ("source_id", "window", "n_windows")), strict=True)
        keep = np.array([self._last(str(i), int(w), int(n)) for i, w, n in rows], dtype=bool)
        return {k: v[keep] for k, v in batch.items()}

    def _last(self, source: str, window: int, n_windows: int) -> bool:
        if source in self._through:
            return False
        if source not in self._seen:
            self._seen[source] = set() if self._stepper is None else passed(self._stepper, source)
        self._seen[source].add(window)
        if len(self._seen[source]) < n_windows:
            return False
        del self._seen[source]
        self._through.add(source)
        return True


def passed(stepper: Stepper, source_id: str) -> set[int]:
    """Return the windows of a source for which no stage of windows has anything to do, by the commits."""
    with stepper.remembering():
        return {
            item.window_index
            for item in stepper.window_items(source_id)
            if not any(stepper.has_work(stage, item) for stage in stepper.pipeline.windowed)
        }
