"""The other side of a worker: call functions that are asked for by a pipe, one after the other, until it closes.

A pipe closes when the process at its other end is gone, however it went: what is being done is then given up, so that
nothing is left behind. Answers go through the pipe alone; whatever is printed goes to the log.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

MARK = "\0"
"""Printed before each answer, so that what was printed until then is known to be that question's."""

_GRACE_S = 1.0
"""What an idle process takes to end in order; a busy one is ended after that."""


def main(descriptor: int) -> None:
    """Serve the pipe of a file descriptor."""
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
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
        os._exit(1)


def _answer(request: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(request)
        return pickle.dumps((True, function(*arguments)), protocol=5)
    except Exception as e:
        return _error(e)


def _error(e: BaseException) -> bytes:
    """Return an error as it can be raised again at the other end; in words where it cannot be sent."""
    try:
        sent = pickle.dumps((False, e))
        pickle.loads(sent)
        return sent
    except Exception:
        told: Any = RuntimeError(f"{type(e).__name__}: {e}")
        return pickle.dumps((False, told))


if __name__ == "__main__":
    main(int(sys.argv[1]))
