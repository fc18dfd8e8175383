"""The other side of a worker: call functions that are asked for by a pipe, one after the other, until it closes.

A pipe closes when the process at its other end is gone, however it went: what is being done is then given up, with
the processes that it started, so that nothing is left behind. Where the system runs out of memory it is to end this
process and not the one that asked. Answers go through the pipe alone; whatever is printed goes to the log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

MARK = "\0"
"""Printed before each answer, so that what was printed until then is known to be that question's."""

_FIRST_TO_GO = "900"
"""Linux's out-of-memory score, of 1000."""

_GRACE_S = 1.0
"""What an idle process takes to end in order; a busy one is ended after that."""


def main(descriptor: int) -> None:
    """Serve the pipe of a file descriptor."""
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    pipe, asked = Connection(descriptor), SimpleQueue[bytes | None]()
    Thread(target=_listen, args=(pipe, asked), daemon=True).start()
    while (request := asked.get()) is not None:
        answer = _answer(request)
        sys.stderr.flush()
        print(MARK, flush=True)
        pipe.send_bytes(answer)


def _listen(pipe: Connection, asked: SimpleQueue[bytes | None]) -> None:
    try:
        while True:
            asked.put(pipe.recv_bytes())
    except (EOFError, OSError):
        asked.put(None)
        time.sleep(_GRACE_S)
        os.killpg(0, signal.SIGKILL)


def _answer(request: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(request)
        return pickle.dumps((True, function(*arguments)), protocol=5)
    except Exception as e:
        return _error(e)


def _error(e: BaseException) -> bytes:
    """Return an error and its cause, to be raised again at the other end; in words where they cannot be sent."""
    try:
        sent = pickle.dumps((False, (e, e.__cause__)))
        pickle.loads(sent)
        return sent
    except Exception:
        told: Any = RuntimeError(f"{type(e).__name__}: {e}")
        return pickle.dumps((False, (told, None)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
