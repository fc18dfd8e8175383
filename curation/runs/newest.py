"""How far the newest run of a dataset came: for who asks while it works, or after it was stopped or killed.

All is read from what the run left: commits tell what is done, attempts what was under way, logs what it took. Nothing
is held alone for it. Costs nothing where the run ended well; else a listing of the commits, the logs since the last run
that ended well, and a read of each commit or attempt written since that no log tells of: those under way.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curation.runs.steps import Logged, log_files, logged
from curation.stage import WorkItem
from curation.storage.commits import Commit, commit_file, read_record
from curation.storage.store import Store
from curation.storage.writers.lease import holder

State = Literal["works", "stopped", "killed", "done"]
"""stopped: it said why in its outcome; killed: it said nothing"""

_SKEW_S = 600.0
"""Clocks of machines and stores may differ by so much."""
_EPOCH_S = 1e9
"""Logs of earlier versions count from the start of their run; a run does not take 30 years."""


@dataclass(frozen=True, slots=True)
class StageCount:
    """How many items of a stage have a commit, in all, and what the newest run did of them."""

    stage: str
    done: int
    ran: int
    failed: int
    """steps of the run that put something into quarantine"""
    video_s: float
    wall_s: float
    """of steps that ran; several may have run at once"""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A step that was begun and has not ended, or not so that it could be told."""

    stage: str
    source_id: str
    window: int | None
    attempt: int
    """1 = the first"""


@dataclass(frozen=True, slots=True)
class NewestRun:
    """The newest run, what it was at, and how it ended."""

    run_id: str
    state: State
    started: str
    engine: str
    phase: str
    """the last that it began"""
    said: str = ""
    """why it was stopped, or who it is that works"""
    stages: Sequence[StageCount] = ()
    """those with a commit, in the order of the workflow; none where it ended well"""
    under_way: Sequence[UnderWay] = ()
    last_step_s: float | None = None
    """how long ago the last step ended (seconds); None = none has"""


def newest_run(store: Store) -> NewestRun | None:
    """Return the newest run of a dataset, None where there was none."""
    runs = _runs(store)
    if not runs:
        return None
    run = runs[-1]
    run_id, outcome = str(run["run_id"]), run["outcome"]
    by = None if outcome else holder(store)
    state: State = "works" if by else "killed"
    if outcome:
        state = "done" if outcome == "done" else "stopped"
    phase = str((store.read_json(f"runs/{run_id}/phase.json") or {}).get("phase", ""))
    about = (run_id, state, str(run["started"]), str(run.get("engine", "")), phase, outcome or by or "")
    if state == "done":
        return NewestRun(*about)
    last_done = max((n for n, r in enumerate(runs) if r["outcome"] == "done"), default=-1)
    stages, under_way, last = _gone_through(store, runs[last_done + 1 :], run_id)
    return NewestRun(*about, stages, under_way, None if last is None else max(0.0, time.time() - last))


def _runs(store: Store) -> list[dict[str, Any]]:
    """Return what is recorded of all runs, as they were started, each with its outcome, "" = none."""
    found = []
    for name in store.names("runs", "/run.json"):
        facts = store.read_json(name) or {}
        ended = store.read_json(name.replace("run.json", "outcome.json")) or {}
        found.append({"started": "", **facts, "run_id": name.split("/")[1], "outcome": str(ended.get("outcome", ""))})
    return sorted(found, key=lambda r: str(r["started"]))


def _gone_through(
    store: Store, runs: Sequence[dict[str, Any]], newest: str
) -> tuple[list[StageCount], list[UnderWay], float | None]:
    """Return the stages with what is done, the steps under way, and when the last step of the newest run ended."""
    ran, failed = Counter[str](), Counter[str]()
    video_s, wall_s = defaultdict[str, float](float), defaultdict[str, float](float)
    last: list[float] = []

    def told() -> Iterator[int]:
        for run in runs:
            for step in logged(store, log_files(store, str(run["run_id"]))):
                if run["run_id"] == newest:
                    if step["at"] >= _EPOCH_S:
                        last[:] = [max([step["at"], *last])]
                    ran[step["stage"]] += step["status"] == "ran"
                    failed[step["stage"]] += step["status"] == "error"
                    if step["status"] == "ran":
                        video_s[step["stage"]] += step["media_s"]
                        wall_s[step["stage"]] += step["wall_s"]
                if step.get("commit"):
                    yield hash(_commit_of(step))

    ended = np.unique(np.fromiter(told(), np.int64))
    began = str(runs[0]["started"])  # a run of before may not say
    since = datetime.fromisoformat(began).timestamp() - _SKEW_S if began else 0.0
    stages, under_way = [], []
    for stage in _order(store):
        done = 0
        for name, at in _written(store, f"commits/{stage}"):
            done += 1
            if at >= since and not _among(ended, hash(name)) and (begun := _begun(store, name)) is not None:
                done -= begun.status == "begun"
                if begun.attempts is not None and begun.attempts["runs"][-1] == newest:
                    window = int(name.rpartition(".w")[2].removesuffix(".json")) if ".w" in name else None
                    under_way.append(UnderWay(stage, begun.source_id, window, len(begun.attempts["runs"])))
        if done or ran[stage] or failed[stage]:
            stages.append(StageCount(stage, done, ran[stage], failed[stage], video_s[stage], wall_s[stage]))
    return stages, under_way, last[0] if last else None


def _order(store: Store) -> list[str]:
    """Return the stages that have commits, in the order of the workflow."""
    there = [folder.rpartition("/")[2] for folder in store.directories("commits")]
    facts = store.read_json("workflow.json") or {}
    order = list(facts.get("workflow", {}).get("stages", {}))
    return sorted(there, key=lambda stage: (order.index(stage) if stage in order else len(order), stage))


def _written(store: Store, folder: str) -> Iterator[tuple[str, float]]:
    """Yield the files of a folder with the time of their last writing; on a disk, bucket by bucket."""
    yield from store.times(folder, recursive=not store.local)
    if store.local:
        for bucket in store.directories(folder):
            yield from store.times(bucket, recursive=True)


def _commit_of(step: Logged) -> str:
    item = WorkItem(step["source_id"], window_index=step["window"] or 0)
    return commit_file(step["stage"], item, windowed=step["window"] is not None)


def _among(ended: npt.NDArray[np.int64], one: int) -> bool:
    at = int(np.searchsorted(ended, one))
    return at < len(ended) and int(ended[at]) == one


def _begun(store: Store, name: str) -> Commit | None:
    """Return a commit with an attempt at it, or the attempt alone; None for a commit alone."""
    with contextlib.suppress(FileNotFoundError):
        record = read_record(store, name)
        return record if record is not None and record.attempts is not None else None
    return None


def seconds_since(started: str) -> float:
    """Return how long ago a run was started (seconds); 0 where it does not tell."""
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
