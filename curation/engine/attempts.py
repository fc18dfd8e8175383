"""Attempts at a step: put down before each, so that an item which ends its process is told from its neighbours.

An attempt that leads to a commit is replaced by it. One that leads to none has ended with its process, with its worker
or with the whole run; after so many of them (`resources.attempts`) the item is quarantined. Attempts of a run that was
stopped in order (Ctrl-C, a full disk) do not count. One small write a step, to the file that the commit then replaces.
"""

from __future__ import annotations

from dataclasses import replace

from curation.engine.stage_call import Answer
from curation.stage import Outputs, UnitError
from curation.storage.commits import Attempts, Commit, write_commit
from curation.storage.store import Store

_KILLED = "crashed (its run or worker was killed)"


class AttemptLog:
    """The attempts at steps on one store, made by one run."""

    def __init__(self, store: Store, run_id: str, retry: bool) -> None:
        self._store, self._run_id, self._retry = store, run_id, retry
        self._orderly: dict[str, bool] = {}

    def before(self, record: Commit | None, key: str) -> Attempts:
        """Return the attempts that count against a step, from what is recorded of it."""
        kept = Attempts(key=key, runs=[], ended=[])
        if record is None or record.attempts is None or record.attempts["key"] != key:
            return kept
        for run, ended in zip(record.attempts["runs"], record.attempts["ended"], strict=True):
            if run != self._run_id and (self._retry or (not ended and self._stopped_in_order(run))):
                continue
            kept["runs"].append(run)
            kept["ended"].append(ended or _KILLED)
        return kept

    def begin(self, name: str, record: Commit, attempts: Attempts) -> None:
        """Put down that one more attempt begins."""
        runs, ended = [*attempts["runs"], self._run_id], [*attempts["ended"], ""]
        write_commit(self._store, name, replace(record, attempts=Attempts(key=attempts["key"], runs=runs, ended=ended)))

    def ended(self, attempts: Attempts, how: str) -> None:
        """Keep in mind how the attempt ended."""
        attempts["runs"].append(self._run_id)
        attempts["ended"].append(how)

    def _stopped_in_order(self, run: str) -> bool:
        if run not in self._orderly:
            self._orderly[run] = self._store.exists(f"runs/{run}/outcome.json")
        return self._orderly[run]


def given_up(source_id: str, attempts: Attempts, last: Answer | None) -> Answer:
    """Return the answer for an item all of whose attempts ended without a result."""
    ended = attempts["ended"]
    where = "" if last is None or last.failed is None else last.failed.traceback
    said = f"{len(ended)} attempts ended without a result: {', '.join(ended)}"
    if last is not None and last.failed is not None:
        said += f"; {last.failed.message}"
    log = "" if last is None else last.log
    return Answer(Outputs(), failed=UnitError(source_id, ended[-1], said, where), lost=ended[-1], log=log)
