"""The log of steps: what each took and came to, written down before its commit, so that no kill parts the two.

Every process that does steps writes files of its own, `runs/<run_id>/steps/<name>.jsonl`: on a disk a line is appended,
in an object store the file, which holds the last few lines, is put again. A line names its commit by the commit's hash:
where a kill came between the two, no commit has that hash, and the line counts for nothing.
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypedDict

from curation.storage.store import Store

Status = Literal["ran", "skipped", "gated", "blocked", "error"]

_LINES = 200
"""Of a file in an object store, which is put again for each line."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What happened in one step: status, cost in seconds, and how many seconds of media it was about."""

    stage: str
    source_id: str
    window: int | None
    status: Status
    wall_s: float
    cpu_s: float
    media_s: float
    message: str = ""
    said: tuple[str, ...] = ()
    """what the stage warned of, such as batches that had to be halved"""
    printed: str = ""
    """the end of what a stage in another Python printed"""
    units: int = 0
    """units that the stage measured, where it measures one by one: often some of the source's"""
    memory_mb: float = 0.0
    """that the stage's process held at most (MiB, resident); 0 = it ran in no process of its own, or none ran"""
    commit: str = ""
    """hash of the commit that the step made; "" = it made none"""


class Logged(TypedDict, total=False):
    """A line of the log: a step's result, and when it ended."""

    at: float
    """seconds since 1970; in logs of earlier versions since the run's start"""
    stage: str
    source_id: str
    window: int | None
    status: Status
    wall_s: float
    cpu_s: float
    media_s: float
    message: str
    units: int
    memory_mb: float
    commit: str


class StepLog:
    """The log of one process in one run; without a run it keeps nothing."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._begin()

    def _begin(self) -> None:
        self._name = f"runs/{self._run_id}/steps/{uuid.uuid4().hex[:12]}.jsonl"
        self._lines: list[bytes] = []
        self._waiting: list[bytes] = []

    def put(self, results: Sequence[StepResult]) -> None:
        """Write down steps, of which those with a commit are on disk, or in the store, when this returns."""
        if not self._run_id or not results:
            return
        now = round(time.time(), 3)
        lines = [(json.dumps({"at": now, **asdict(result)}) + "\n").encode() for result in results]
        self._waiting += lines
        if not any(result.commit for result in results) and not self._store.local:
            return  # a request each for what changed nothing is too much: these go with the next one that did
        try:
            self._write()
        except BaseException:
            self._begin()  # the line may be there in part
            raise

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        if self._store.local:
            self._store.append(self._name, b"".join(lines))
            return
        self._lines += lines
        self._store.write(self._name, b"".join(self._lines))
        if len(self._lines) >= _LINES:
            self._begin()


def log_files(store: Store, run_id: str = "") -> list[str]:
    """Return the names of the logs of a run, or of all, run after run as they were started."""
    found = [n for n in store.names(f"runs/{run_id}" if run_id else "runs", ".jsonl") if _is_log(n)]
    runs = {n.split("/")[1] for n in found}
    started = {run: str((store.read_json(f"runs/{run}/run.json") or {}).get("started", "")) for run in runs}
    return sorted(found, key=lambda n: (started[n.split("/")[1]], n))


def _is_log(name: str) -> bool:
    folder, _, base = name.rpartition("/")
    return folder.endswith("/steps") or base == "log.jsonl"  # the one file of earlier versions


def logged(store: Store, names: Sequence[str]) -> Iterator[Logged]:
    """Yield the lines of logs, those of a file in order of time; a line that a kill cut short is passed over."""
    for name in names:
        for line in store.lines(name):
            try:
                step: Logged = json.loads(line)
            except ValueError:
                continue
            yield step


def by_run(store: Store) -> Iterator[tuple[str, Iterator[Logged]]]:
    """Yield the runs that have a log, as they were started, each with its lines."""
    for run_id, names in itertools.groupby(log_files(store), lambda n: n.split("/")[1]):
        yield run_id, logged(store, list(names))
