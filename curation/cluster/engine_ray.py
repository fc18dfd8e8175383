"""The Ray engine: the same steps as the local one, streamed by Ray Data through pools of warm actors.

Only ids travel: a row is a source or a window of one; tables and media stay in the store. Two executions: first the
cheap stages before windows (one row a source), then windows -> join -> source stages, longest work first. Results
reach the driver through a small actor, so progress is visible while sources are still under way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ray
import ray.data

from curation.cluster.lane_worker import OURS, Join, LaneWorker, Shared, quiet
from curation.cluster.lanes import Lane, misfit, pipeline_lanes
from curation.cluster.last_words import last_words, unheard
from curation.cluster.machines import ask_all, over
from curation.cluster.ray_progress import Collector, Pump
from curation.cluster.ray_resources import cluster_nodes, hosts, lack, lane_pools
from curation.cluster.watch import PATIENCE_S, lost, watched
from curation.engine.order import SourceWork
from curation.engine.run import Event, Job, MachineLeftOutError, RunStoppedError
from curation.engine.stage_call import MachineError
from curation.engine.step import StageSetupError, Stepper, StepResult
from curation.pythons.worker import ONE_THREAD, close_all
from curation.stage import WorkItem
from curation.storage.store import StoreError

Row = dict[str, Any]

RESTARTS = 10
"""How often one worker that is lost (its machine, or all memory taken) is started again in a run."""
MOST_LEFT_OUT = 10
"""More machines than these, one after the other, are no chance: what ails them ails the run."""


class RayStoppedError(RunStoppedError):
    """Something of Ray's failed, or a worker that could not say why; `why` is what is known, without what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Ray stopped the run: {why}; run the same command again to go on")
        self.why = why


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Give what is started in the block these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RayEngine:
    """Runs on a Ray cluster, or on a local Ray that it starts and stops itself when no address is given.

    Args:
        address: Ray address ("auto", "ray://...", "host:port"); None starts a local Ray.
        wait_for_nodes: skip the check that every lane fits the present machines, for autoscaling clusters.
        patience_s: how long machines may be missing before the run ends, where nodes are not waited for (seconds).
        event: told ("phase", name) and ("workers", Workers) as they happen.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        wait_for_nodes: bool = False,
        cpus: int | None = None,
        patience_s: float = PATIENCE_S,
        event: Event = lambda kind, value: None,
    ) -> None:
        self.address, self.wait_for_nodes, self.cpus, self.patience_s = address, wait_for_nodes, cpus, patience_s
        self._event = event
        self.left_out: set[str] = set()
        """Ray's ids of machines that were found unfit: they get no work while this engine lives"""

    def run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        """Bring every source through the pipeline."""
        with last_words():
            self._event("phase", "ray")
            started = self._connect()
            try:
                self._run(job, work, report)
            finally:
                if started:
                    ray.shutdown()

    def _connect(self) -> bool:
        if ray.is_initialized():
            return False
        # Workers must not oversubscribe cores, and their banners and bars would drown the program's own.
        os.environ.setdefault("RAY_DEDUP_LOGS", "1")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of how its own library makes actors
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        keep = {k: v for k, v in os.environ.items() if k.startswith(("OPENLPM_", "AWS_"))}
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:  # it inherits this environment, and has workers without another one at once
            options |= {"include_dashboard": False, "num_cpus": self.cpus or os.cpu_count()}
            options["_system_config"] = {"metrics_report_interval_ms": 60_000}
        else:
            options["runtime_env"] = {"env_vars": {**ONE_THREAD, **keep}}
        try:
            with unheard(), _environment(ONE_THREAD):  # that its log's level was set, it says itself
                ray.init(address=self.address or "local", **options)
        except Exception as e:  # what it raises where it cannot start has many classes, one of them Exception
            where, why = self.address or "a local Ray", str(e).strip().partition("\n")[0].rstrip(".")
            raise RunStoppedError(
                f"cannot connect to {where}: {why}; check --address and the cluster's token (docs/cluster.md), or use "
                "--engine local"
            ) from e
        return True

    def _run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        before, windowed, after = pipeline_lanes(job.pipeline)
        nodes = cluster_nodes(self.left_out)
        if not self.wait_for_nodes:
            problem = misfit([*before, *windowed, *after], nodes)
            if problem:
                raise RunStoppedError(problem)
        asked, machines = None, hosts()
        if self.address is not None:
            self._event("phase", "machines")
            asked = ask_all(job, self.left_out)
        pools = lane_pools([*windowed, *after], nodes, local=self.address is None)
        pools.update(lane_pools(before, nodes, local=self.address is None))
        if self.left_out:
            fit = {"ray.io/node-id": f"!in({','.join(sorted(self.left_out))})"}
            pools = {name: (options | {"label_selector": fit}, most) for name, (options, most) in pools.items()}
        self._event("phase", "models")
        _preflight(job, [*before, *windowed, *after], pools)
        collector = Collector.options(max_restarts=RESTARTS).remote()  # type: ignore[attr-defined]
        shared = Shared(job, collector, asked)
        _set_data()
        self._event("phase", "sources")
        pump = Pump(collector, report, lambda workers: self._event("workers", workers))
        try:
            rows = [_row(w) for w in work]
            for lane in before:
                self._consume(_mapped(_items(rows), len(rows), shared, lane, pools), pump, [pools[lane.name]])
            stepper = job.stepper()
            items = [row for w in work for row in _window_rows(stepper, w)]
            rows = [row for row in items if row["n_windows"] > 0]
            if rows:
                ds = _items(sorted(rows, key=lambda r: (r["doubtful"], -r["media_s"], r["source_id"], r["window"])))
                for lane in windowed:
                    ds = _mapped(ds, len(rows), shared, lane, pools)
                one = ray.data.ActorPoolStrategy(size=1)
                ds = _pooled(ds, Join, fn_constructor_args=(Join.packed(job),), batch_size=1, compute=one, num_cpus=0)
                sources = len({row["source_id"] for row in rows})
                for lane in after:
                    ds = _mapped(ds, sources, shared, lane, pools)
                self._consume(ds, pump, [pools[lane.name] for lane in (*windowed, *after)])
        except ray.exceptions.RayError as e:
            raise self._ended(_fault(collector) or _translate(e), machines, [*before, *windowed, *after]) from e
        finally:
            pump.finish()
            ray.kill(collector)
            if asked is not None:
                with contextlib.suppress(StoreError):  # what ended the run is the one to report
                    over(job)

    def _ended(self, error: Exception, machines: dict[str, str], lane_list: list[Lane]) -> Exception:
        """Return what is to be said of an error that ended the work; `machines` were there when it began."""
        if isinstance(error, MachineError):
            if self._leave_out(error, lane_list):
                return MachineLeftOutError(f"goes on without a machine: {error.why}")
        elif self.address is not None and _unexplained(error) and (gone := lost(machines, hosts)):
            names = ", ".join(sorted(gone.values()))
            why = error.why if isinstance(error, RayStoppedError) else f"{type(error).__name__}: {error}"
            return MachineLeftOutError(f"goes on without a machine that was lost: {names} ({why})")
        return error

    def _leave_out(self, error: MachineError, lane_list: list[Lane]) -> bool:
        """Give the machine of an error no more work; False where the others cannot go on without it."""
        self.left_out.add(error.node)
        if not error.node or self.address is None or len(self.left_out) > MOST_LEFT_OUT:
            return False
        return self.wait_for_nodes or misfit(lane_list, cluster_nodes(self.left_out)) is None

    def _consume(self, ds: ray.data.Dataset, pump: Pump, pools: list[tuple[dict[str, Any], int]]) -> None:
        def all_of_it() -> None:
            for _ in ds.iter_batches(batch_size=1, prefetch_batches=0):
                pump.check()

        fixed = self.address is not None and not self.wait_for_nodes
        try:
            watched(all_of_it, lambda: lack(pools, cluster_nodes(self.left_out)) if fixed else None, self.patience_s)
        except RunStoppedError:
            for name in ("ray", "ray.data"):  # what it says of work that is given up is of no use
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            raise


# ------------------------------------------------------------------------------------------------ rows


def _row(w: SourceWork) -> Row:
    facts = {"doubtful": w.doubtful, "media_s": w.media_s}
    return {"source_id": w.source_id, "path": w.path, "window": 0, "n_windows": 0, **facts}


def _window_rows(stepper: Stepper, w: SourceWork) -> list[Row]:
    with stepper.store.recalling():  # by now it is probed; its row is asked for twice
        items, media_s = stepper.window_items(w.source_id), stepper.media_s(WorkItem(w.source_id))
    row = _row(replace(w, media_s=media_s))
    return [{**row, "window": i.window_index, "n_windows": len(items)} for i in items]


def _items(rows: list[Row]) -> ray.data.Dataset:
    # One row a block: a block is what Ray Data hands to a worker, and windows of one source must spread.
    return ray.data.from_items(rows, override_num_blocks=max(1, min(len(rows), 20_000)))


def _mapped(
    ds: ray.data.Dataset, items: int, shared: Shared, lane: Lane, pools: dict[str, tuple[dict[str, Any], int]]
) -> ray.data.Dataset:
    options, most = pools[lane.name]
    most = max(1, min(most, -(-items // lane.resources.batch)))  # Ray Data starts more, which load models for nothing
    return _pooled(
        ds,
        LaneWorker,
        fn_constructor_args=(shared, lane.at_home()),
        batch_size=lane.resources.batch,
        # An item that waits in front of a busy worker is one that an idle one cannot take; ids are fetched at once.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, max_tasks_in_flight_per_actor=1),
        **options,
    )


def _pooled(ds: ray.data.Dataset, worker: type, **options: Any) -> ray.data.Dataset:
    with warnings.catch_warnings():
        # No argument with a name of its own bounds restarts; unbounded, a worker that dies is started for ever.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return ds.map_batches(worker, max_restarts=RESTARTS, **options)


# ------------------------------------------------------------------------------------------------ models


@ray.remote  # type: ignore[untyped-decorator]
def _load(job: Job, lane: Lane) -> str | None:
    quiet()
    stepper = job.stepper()
    try:
        for resolved in lane.stages:
            stepper.ready(resolved)
    except StageSetupError as e:
        return str(e)
    finally:
        close_all()  # this process stays with Ray, idle
    return None


def _preflight(job: Job, lane_list: list[Lane], pools: dict[str, tuple[dict[str, Any], int]]) -> None:
    """Load every lane's models once where they will run; what is missing stops the run before its first item."""
    for lane in lane_list:
        options = {k: v for k, v in pools[lane.name][0].items()}
        problem = ray.get(_load.options(**options).remote(job, lane.at_home()))
        if problem:
            raise StageSetupError(problem)
    stepper = job.stepper()
    for resolved in job.pipeline.dataset:
        stepper.ready(resolved)
    stepper.close()


def _set_data() -> None:
    """Let Ray Data tell its log file alone how its work goes, and ends: that comes as a sentence of our own."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    context.print_on_execution_start = False
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # all of a pool's workers have an item
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


def _fault(collector: Any) -> Exception | None:
    """Return what a worker said that ended its work, None where none did or the collector is lost."""
    with contextlib.suppress(ray.exceptions.RayError):
        said: Exception | None = ray.get(collector.fault.remote())
        return said
    return None


def _unexplained(error: Exception) -> bool:
    """Tell whether an error may be what a machine did while it died: one of ours says what it is."""
    return isinstance(error, RayStoppedError) or not isinstance(error, OURS)


def _translate(e: BaseException) -> Exception:
    """Return the engine's own error behind a Ray error, so that users read sentences and not remote tracebacks."""
    cause: BaseException | None = e
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, OURS):
            return cause
        cause = inner if inner is not cause else None
    if isinstance(e, ray.exceptions.ActorDiedError):
        return RunStoppedError(
            f"a worker was lost {RESTARTS + 1} times, with its machine or for want of memory; finished work is kept, "
            "run the same command again to go on, with more memory or larger `resources` in the workflow"
        )
    text = str(e).partition("\nFailed to apply UDF transform")[0].strip().splitlines()  # then come Ray's settings
    return RayStoppedError(text[-1] if text else type(e).__name__)
