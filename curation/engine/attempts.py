"""Attempts at a step: put down before each, so that an item which ends its process is told from its neighbours.

An attempt that leads to a commit is replaced by it. One whose process ended while what supervised it lived on (the
command, or a worker of a cluster) is put down with how it ended; after so many of them (`resources.attempts`) the item
is quarantined. One without a word of its end was cut short from outside, with the command, its worker or the machine:
an item that is under way then is innocent as a rule, so only many of these in a row count
(`resources.interruptions`). Attempts of a run that was stopped in order (Ctrl-C, a full disk) do not count at all. One
small write a step, to the file that the commit then replaces.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from curation.engine.stage_call import Answer
from curation.stage import Outputs, UnitError
from curation.storage.commits import Attempts, Commit, write_commit
from curation.storage.store import Store
from schemas.settings.workflow import Resources

CUT_SHORT = "crashed (its run or worker was killed)"


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
            kept["ended"].append(ended or CUT_SHORT)
        return kept

    def cut_short(self, record: Commit | None) -> int:
        """Return how often an attempt that is recorded was cut short, whatever it was to be."""
        if record is None or record.attempts is None:
            return 0
        return self.before(record, record.attempts["key"])["ended"].count(CUT_SHORT)

    def begin(self, name: str, record: Commit, attempts: Attempts) -> None:
        """Put down that one more attempt begins."""
        runs, ended = [*attempts["runs"], self._run_id], [*attempts["ended"], ""]
        write_commit(self._store, name, replace(record, attempts=Attempts(key=attempts["key"], runs=runs, ended=ended)))

    def ended(self, attempts: Attempts, how: str) -> None:
        """Keep in mind how the attempt ended; the next one, or the commit, is written with it at once."""
        attempts["runs"].append(self._run_id)
        attempts["ended"].append(how)

    def _stopped_in_order(self, run: str) -> bool:
        if run not in self._orderly:
            self._orderly[run] = self._store.exists(f"runs/{run}/outcome.json")
        return self._orderly[run]


def verdict(attempts: Attempts, need: Resources) -> str | None:
    """Return as what an item is to be quarantined for its attempts; None while it may have another."""
    died = [how for how in attempts["ended"] if how != CUT_SHORT]
    if len(died) >= need.attempts:
        return died[-1]
    return CUT_SHORT if len(attempts["ended"]) - len(died) >= need.interruptions else None


def told(ended: list[str]) -> str:
    """Return that all attempts ended without a result, and how, in order, equal neighbours counted."""
    runs = ((how, len(list(same))) for how, same in itertools.groupby(ended))
    how_all = ", ".join(how if n == 1 else f"{n} x {how}" for how, n in runs)
    return f"{len(ended)} attempt{'s' if len(ended) > 1 else ''} ended without a result: {how_all}"


def given_up(source_id: str, attempts: Attempts, why: str, last: Answer | None) -> Answer:
    """Return the answer for an item all of whose attempts ended without a result."""
    ended = attempts["ended"]
    where = "" if last is None or last.failed is None else last.failed.traceback
    said = told(ended)
    if last is not None and last.failed is not None:
        said += f"; {last.failed.message}"
    log = "" if last is None else last.log
    return Answer(Outputs(), failed=UnitError(source_id, why, said, where), lost=why, log=log)
