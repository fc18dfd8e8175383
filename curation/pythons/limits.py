"""What a process may use before it is ended: seconds of a question, of the clock and of CPUs, and memory.

Memory is what is resident, of the process and all that it started (ffmpeg and such): runtimes of models reserve many
times as much address space as they use, which a limit of the system's would count. Looked at a few times a second, and
at what it started once, so a process may be over its limit for that long.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_SHARE = 0.9
_LOOK_S = 0.25
_EACH = 4
"""Looks to one at what the process started: finding that asks for every process of the machine."""
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one question to a worker; 0 seconds = no end, 0 bytes = nine tenths of the machine's or container's memory."""

    seconds: float = 0.0
    bytes: int = 0
    """of the process and all that it starts"""
    cpu_s: float = 0.0
    """of the process and all that it starts"""


NO_LIMITS = Limits()


def outlasts(process: int, pipe: Connection, limits: Limits) -> str | None:
    """Wait until a process answers or is gone, or say which limit it passes.

    Returns:
        "out of memory", "timed out", "timed out (CPU)", or None.
    """
    most, began = limits.bytes or int(_SHARE * memory()), time.monotonic()
    before_s = _cpu_s(process) if limits.cpu_s else 0.0
    looks = 0
    while not pipe.poll(_LOOK_S):
        looks += 1
        if _holds_more(_family(process, started=looks % _EACH == 0), most):
            return "out of memory"
        if limits.seconds and time.monotonic() - began > limits.seconds:
            return "timed out"
        if limits.cpu_s and _cpu_s(process) - before_s > limits.cpu_s:
            return "timed out (CPU)"
    return None


def _holds_more(there: Sequence[psutil.Process], most: int) -> bool:
    """Say whether processes hold more than so many bytes.

    What several of them share is counted once, where the system tells it (Linux): telling costs milliseconds, so it is
    asked only where it matters.
    """
    return _sum(there, _resident) > most and _sum(there, _shared_once) > most


def _resident(one: psutil.Process) -> float:
    return float(one.memory_info().rss)


def _shared_once(one: psutil.Process) -> float:
    return float(getattr(one.memory_full_info(), "pss", 0)) or _resident(one)


def _cpu_s(process: int) -> float:
    """Return the CPU seconds of a process and of all that it started, ended or not; 0 when it is gone."""
    return _sum(_family(process), lambda one: sum(one.cpu_times()[:4]))  # with those of children that have ended


def _family(process: int, *, started: bool = True) -> list[psutil.Process]:
    """Return a process, with what it `started`; none when it is gone: its pipe closes in a moment."""
    import psutil  # the core works without it

    try:
        own = psutil.Process(process)
        return [own, *(own.children(recursive=True) if started else ())]
    except psutil.NoSuchProcess:
        return []


def _sum(processes: Sequence[psutil.Process], figure: Callable[[psutil.Process], float]) -> float:
    """Return the sum of a figure of processes, without those that have gone meanwhile."""
    import psutil

    total = 0.0
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += figure(one)
    return total


@cache
def memory() -> int:
    """Return the bytes of memory of this machine, or of the container that this process is in."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is none
            found = min(found, int(Path(name).read_text()))
    return found
