"""What a process may use before it is ended: seconds of a question, of the clock and of CPUs, and memory.

Memory is what is resident: runtimes of models reserve many times as much address space as they use, which a limit of
the system's would count. Looked at a few times a second, so a process may be over its limit for that long.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

_SHARE = 0.9
_LOOK_S = 0.25
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one question to a worker; 0 seconds = no end, 0 bytes = nine tenths of the machine's or container's memory."""

    seconds: float = 0.0
    bytes: int = 0
    cpu_s: float = 0.0
    """of the process and all that it starts"""


NO_LIMITS = Limits()


def outlasts(process: int, pipe: Connection, limits: Limits) -> str | None:
    """Wait until a process answers or is gone, or say which limit it passes.

    Returns:
        "out of memory", "timed out", "timed out (CPU)", or None.
    """
    import psutil  # the core works without it

    most, began = limits.bytes or int(_SHARE * memory()), time.monotonic()
    before_s = _cpu_s(process) if limits.cpu_s else 0.0
    while not pipe.poll(_LOOK_S):
        with contextlib.suppress(psutil.NoSuchProcess):  # its pipe closes in a moment
            if psutil.Process(process).memory_info().rss > most:
                return "out of memory"
        if limits.seconds and time.monotonic() - began > limits.seconds:
            return "timed out"
        if limits.cpu_s and _cpu_s(process) - before_s > limits.cpu_s:
            return "timed out (CPU)"
    return None


def _cpu_s(process: int) -> float:
    """Return the CPU seconds of a process and of all that it started, ended or not; 0 when it is gone."""
    import psutil

    used = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        own = psutil.Process(process)
        for one in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used += sum(one.cpu_times()[:4])  # user, system, and those of children that have ended
    return used


@cache
def memory() -> int:
    """Return the bytes of memory of this machine, or of the container that this process is in."""
    import psutil

    found = int(psutil.virtual_memory().total)
    for name in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is none
            found = min(found, int(Path(name).read_text()))
    return found
