"""A warm process of another Python, that calls our functions there. One a Python; it ends with this process.

It is started at the first question, after a check that it fits, and again after it died. Costs the start of a Python
and the import of what is asked for, once.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Semaphore, Thread
from typing import ParamSpec, TypeVar

from curation.pythons import find
from curation.pythons.serve import MARK

P = ParamSpec("P")
R = TypeVar("R")
_LINES = 50
"""Of what it prints, the last lines are kept."""
_END_S = 5.0


class WorkerDiedError(RuntimeError):
    """The process of another Python ended while it worked; `printed` is the end of what it had printed."""

    def __init__(self, said: str, printed: str) -> None:
        super().__init__(said)
        self.printed = printed


class Worker:
    """A process of another Python that is started when it is needed."""

    def __init__(self, python: str) -> None:
        self.python = python
        self._process: subprocess.Popen[str] | None = None
        self._pipe: Connection | None = None
        self._printed: deque[str] = deque(maxlen=_LINES)
        self._told = Semaphore(0)
        self._reader: Thread | None = None

    def ask(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of a module there, and return what it returns; all of it must be picklable.

        Raises what the function raises; WorkerDiedError where the process ends first, and OtherPythonError where it
        cannot be started.
        """
        assert not kwargs, "arguments go by their order"
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(pickle.dumps((function, args), protocol=5))
            well, answer = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError) as e:
            raise WorkerDiedError(*self._end()) from e
        except BaseException:  # its answer must not be taken for that of the next question
            self.close(at_once=True)
            raise
        self._told.acquire(timeout=_END_S)
        if well:
            found: R = answer
            return found
        raise answer

    def printed(self) -> str:
        """Return the end of what it has printed since this was asked the last time."""
        lines = []
        while self._printed:
            lines.append(self._printed.popleft())
        return "".join(lines)

    def close(self, *, at_once: bool = False) -> None:
        """End the process, when it is idle or at once."""
        if self._process is None:
            return
        if self._pipe is not None:
            self._pipe.close()
        if at_once:
            self._process.kill()
        self._end()

    def _start(self) -> None:
        find.check(self.python)
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [*find.command(self.python), "curation.pythons.serve", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self._printed.clear()
        self._told = Semaphore(0)
        self._reader = Thread(target=_drain, args=(self._process, self._printed, self._told), daemon=True)
        self._reader.start()
        try:
            self.ask(os.getpid)
        except WorkerDiedError as e:
            last = (e.printed.strip().splitlines() or ["it said nothing"])[-1]
            raise find.OtherPythonError(
                f"{self.python} cannot run openlpm: {last}; install there what openlpm needs, or name another"
            ) from e

    def _end(self) -> tuple[str, str]:
        """Wait for the process to be gone, and say how it went and what it printed last."""
        process, self._process, self._pipe = self._process, None, None
        assert process is not None and self._reader is not None
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self._reader.join(_END_S)
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        why = " (the system may have been out of memory)" if code == -signal.SIGKILL else ""
        return f"the process of its own Python ended {how}{why} while it worked", self.printed()


def _drain(process: subprocess.Popen[str], lines: deque[str], told: Semaphore) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            text, mark, _ = line.partition(MARK)
            if text:
                lines.append(text)
            if mark:
                told.release()


_WORKERS: dict[str, Worker] = {}


def worker(python: str) -> Worker:
    """Return this process's one worker of a Python."""
    if python not in _WORKERS:
        _WORKERS[python] = Worker(python)
    return _WORKERS[python]


@atexit.register
def close_all() -> None:
    """End all workers of this process."""
    for w in _WORKERS.values():
        w.close(at_once=True)
    _WORKERS.clear()
