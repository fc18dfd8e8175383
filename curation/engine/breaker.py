"""Stops a run in which a stage fails on everything: that is a broken machine or program, not bad data.

Where each of the first sources of a stage fails with the same exception, what it had put into quarantine is taken
back, so that the next run tries again. Errors with a code of the media layer are about the file and never count. Where
each of the first ones, a few more, ends its process, they stay in quarantine: it may be the files, and then the next
run is to go on with the others.
"""

from __future__ import annotations

from curation.engine.step import StageSetupError, StepResult
from curation.faults import is_lost
from curation.storage.store import Store

SAME = 3
LOST = 5


class Breaker:
    """Sees the results of a run's steps as they come."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failed: dict[str, list[StepResult]] = {}
        self._worked: set[str] = set()

    def see(self, result: StepResult) -> None:
        """Take one result. Raises StageSetupError where the run is to stop."""
        if result.status == "ran":
            self._worked.add(result.stage)
        if result.status != "error" or result.stage in self._worked:
            return
        failed = self._failed.setdefault(result.stage, [])
        failed.append(result)
        lost = [r for r in failed if is_lost(_kind(r.message))]
        raised = [r for r in failed if _is_exception(r.message)]
        if len({r.source_id for r in lost}) >= LOST and len(lost) == len(failed):
            raise StageSetupError(
                f"stage {result.stage!r} ended its process on each of the first {LOST} sources, the last time: "
                f"{result.message}. These are in quarantine; the same command goes on with the others. If it is the "
                "machine that is broken, or too small (resources of the workflow), mend it and add --retry"
            )
        sources = {r.source_id for r in raised}
        if len(sources) >= SAME and len({_kind(r.message) for r in raised}) == 1:
            for r in raised:
                for name in self._store.names(f"commits/{r.stage}/bucket={r.source_id[:2]}"):
                    if name.rsplit("/", 1)[-1].startswith(r.source_id):
                        self._store.delete(name)
            raise StageSetupError(
                f"stage {result.stage!r} failed on each of the first {len(sources)} sources with {raised[0].message}. "
                "That points to the installation, not to the data, so the run stopped and nothing was quarantined; "
                "mend it and run the same command again"
            )


def _kind(message: str) -> str:
    """Return the kind of error that a step's message tells: of units, of the first one; of a bug, its class."""
    parts = message.split(": ")
    parts = parts[1:] if message[:1].isdigit() else parts
    return parts[1] if parts[0] == "bug" and len(parts) > 1 else parts[0]


def _is_exception(message: str) -> bool:
    """Exception class names are capitalised; media error codes are not."""
    return _kind(message)[:1].isupper()
