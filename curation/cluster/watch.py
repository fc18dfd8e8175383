"""Machines of a cluster that are lost in the midst of work: it is given up when those left cannot hold it any more.

Ray waits without end for a machine that died. Here a worker of every lane must be placeable at once; where that has
not been so for a while, the run ends with a sentence, and another goes on with the machines that are there. What a
machine does while it dies may reach the driver as an error of the work, before anybody knows of its death.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

from curation.engine.run import RunStoppedError

PATIENCE_S = 60.0
"""How long a machine may be gone before the run is given up: another may take its place."""

NOTICED_S = 30.0
"""How long it may take until a lost machine is known as such: Ray asks each every 3 s, and gives it up the fifth time
that no answer comes (`health_check_period_ms`, `health_check_failure_threshold`)."""


def lost(before: Mapping[str, str], living: Callable[[], Collection[str]], wait_s: float = NOTICED_S) -> dict[str, str]:
    """Return which machines are gone, or are known to be gone a little later.

    Args:
        before: those that were there: id -> host.
        living: returns the ids of those that are there now.
        wait_s: how long to look (seconds); it ends with the first that is found.
    """
    end = time.monotonic() + wait_s
    while True:
        here = living()
        gone = {node: host for node, host in before.items() if node not in here}
        if gone or time.monotonic() >= end:
            return gone
        time.sleep(min(1.0, wait_s))


def watched(work: Callable[[], None], lack: Callable[[], str | None], patience_s: float = PATIENCE_S) -> None:
    """Do the work in a thread; raise what it raises, or RunStoppedError when `lack` has said the same for too long.

    Args:
        work: what may wait without end.
        lack: says what is missing for it to go on, None when nothing is.
        patience_s: how long something may be missing (seconds).
    """
    raised: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            work()
        except BaseException as e:  # raised again in the caller's thread
            raised.append(e)
        finally:
            done.set()

    threading.Thread(target=run, name="openlpm-cluster", daemon=True).start()
    since: float | None = None
    while not done.wait(min(2.0, patience_s)):
        missing = lack()
        if missing is None:
            since = None
        elif since is None:
            since = time.monotonic()
        elif time.monotonic() - since >= patience_s:
            raise RunStoppedError(f"{missing}; run the same command again to go on with the machines that are there")
    if raised:
        raise raised[0]
