"""A warm process of this or another Python, that calls our functions there. One a Python; it ends with this process.

It is started at the first question, another Python's after a check that it fits, and again after it ended, however it
did. Costs the start of a Python and the import of what is asked for, once.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Semaphore, Thread
from typing import ParamSpec, TypeVar

from curation.pythons import find
from curation.pythons.limits import Limits, outlasts
from curation.pythons.serve import MARK
from curation.runs.scratch import Scratch

P = ParamSpec("P")
R = TypeVar("R")
_LINES = 50
"""Of what it prints, the last lines are kept."""
_END_S = 5.0
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""What a process is started with, unless its user says otherwise: threads of small networks wait for each other in a
loop, which beside any other work cost three times the CPU and twice the time, and sums depend on how many there are."""
_KEPT_HEAP = {name: str(512 << 20) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}
"""glibc's: big arrays come from memory that earlier ones have left, not from fresh pages that the system clears each
time, 3 to 5 % of the CPU of all stages. `heap.release` gives it back between stages."""


class WorkerDiedError(RuntimeError):
    """A worker's process ended while it worked.

    Attributes:
        how: "crashed (signal 11)", "crashed (exit code 3)", "out of memory", "timed out" or "timed out (CPU)".
        printed: the end of what it had printed.
    """

    def __init__(self, said: str, how: str = "", printed: str = "") -> None:
        super().__init__(said)
        self.how, self.printed = how, printed


class Worker:
    """A process of a Python that is started when it is needed."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.environment: dict[str, str] | None = None
        """what the process was started with, of the variables that say where stores and models are"""
        self._process: subprocess.Popen[str] | None = None
        self._pipe: Connection | None = None
        self._printed: deque[str] = deque(maxlen=_LINES)
        self._told = Semaphore(0)
        self._reader: Thread | None = None
        self._scratch: Scratch | None = None

    def ask(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of a module there, and return what it returns; all of it must be picklable.

        Raises what the function raises; WorkerDiedError where the process ends first, and OtherPythonError where it
        cannot be started.
        """
        return self.ask_within(None, function, *args, **kwargs)

    def ask_within(self, limits: Limits | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do as `ask`, and end the process where it passes a limit."""
        assert not kwargs, "arguments go by their order"
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._pipe is not None and self._process is not None
        passed = None
        try:
            self._pipe.send_bytes(pickle.dumps((function, args), protocol=5))
            if limits is not None:
                passed = outlasts(self._process.pid, self._pipe, limits)
            if passed:
                self._kill()
            well, answer = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError) as e:
            raise self._death(passed) from e
        except BaseException:  # its answer must not be taken for that of the next question
            self.close(at_once=True)
            raise
        self._told.acquire(timeout=_END_S)
        if well:
            found: R = answer
            return found
        error, cause = answer
        raise error from cause

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
            self._kill()
        self._end()

    def _start(self) -> None:
        own = self.python == sys.executable
        if not own:
            find.check(self.python)
        self._scratch = Scratch("worker")  # what it leaves behind where it is ended goes with it
        env = {**ONE_THREAD, **_KEPT_HEAP, **os.environ, "TMPDIR": str(self._scratch.path)}
        if own:
            env["PYTHONPATH"] = os.pathsep.join(p or "." for p in sys.path)
        self._pipe, theirs = Pipe()
        self.environment = _environment()
        with theirs:
            self._process = subprocess.Popen(
                [*find.command(self.python), "curation.pythons.serve", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                pass_fds=(theirs.fileno(), self._scratch.fd), env=env, start_new_session=True,
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

    def _kill(self) -> None:
        """End the process and all that it started."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _death(self, passed: str | None) -> WorkerDiedError:
        """Say how a process that is gone, or about to be, went; `passed` is the limit for which it was ended."""
        code, printed = self._end()
        if passed:
            return WorkerDiedError(f"the process of the stage was ended: {passed}", passed, printed)
        if code >= 0:
            said = f"with exit code {code}"
            return WorkerDiedError(f"the process of the stage ended {said}", f"crashed (exit code {code})", printed)
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        why = " (the system may have been out of memory)" if code == -signal.SIGKILL else ""
        said = f"the process of the stage ended by signal {name}{why}"
        return WorkerDiedError(said, f"crashed (signal {-code})", printed)

    def _end(self) -> tuple[int, str]:
        """Wait for the process to be gone, and return its exit code and what it printed last."""
        process, self._process, self._pipe = self._process, None, None
        assert process is not None and self._reader is not None
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it had started
        self._reader.join(_END_S)
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None
        return code, self.printed()


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
    """Return this process's one worker of a Python; another one where what it has to know of stores has changed."""
    if python in _WORKERS and _WORKERS[python].environment not in (None, _environment()):
        _WORKERS.pop(python).close(at_once=True)
    if python not in _WORKERS:
        _WORKERS[python] = Worker(python)
    return _WORKERS[python]


def _environment() -> dict[str, str]:
    """Return the variables that say where stores and models are."""
    return {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "OPENLPM_"))}


@atexit.register
def close_all() -> None:
    """End all workers of this process."""
    for w in _WORKERS.values():
        w.close(at_once=True)
    _WORKERS.clear()
