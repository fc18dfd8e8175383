"""How long SQL may take and how much memory it may hold: what passes a bound is ended and said, with the number.

DuckDB counts tables and what joins and sorts keep, and moves that to disk; it does not count the text and lists that a
function makes, nor the answer as Arrow. So the system bounds the process's data as well, where it can (Linux).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from curation.pythons.limits import memory

JUDGE_S = 600.0
"""Seconds that the rules of a policy may take over one slice of a dataset: a million segments take some ten."""

_AGAIN_S = 0.05
_GRACE_S = 5.0
_SHARE = 0.5
_DUCK_SHARE = 0.6


class BoundError(ValueError):
    """SQL took longer or needed more memory than it may; the message says which, for the asker to say what to do."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one query."""

    max_s: float = 600.0
    """seconds; 0 = no end"""
    max_bytes: int = 0
    """of memory, beside what the process holds already; 0 = half of the machine's or container's"""

    @property
    def bytes(self) -> int:
        """The memory in bytes."""
        return self.max_bytes or int(_SHARE * memory())

    @property
    def tables(self) -> int:
        """The bytes of it that DuckDB may count before it moves to disk; the rest is the answer's."""
        return int(_DUCK_SHARE * self.bytes)


def spare(con: duckdb.DuckDBPyConnection, most: int | None = None) -> None:
    """Let a connection keep so many bytes, half of the machine's where none are named, before it moves to disk."""
    con.execute(f"SET memory_limit = '{max(1, (most or int(_SHARE * memory())) >> 20)}MiB'")


@contextlib.contextmanager
def bounded(con: duckdb.DuckDBPyConnection, bounds: Bounds, stuck: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold what is done inside to its bounds. `stuck` is called, from another thread, where SQL does not stop.

    Raises:
        BoundError: a bound was passed.
    """
    with _in_memory(bounds.bytes), in_time(con, bounds.max_s, stuck):
        yield


@contextlib.contextmanager
def in_time(con: duckdb.DuckDBPyConnection, max_s: float, stuck: Callable[[], None] | None = None) -> Iterator[None]:
    """End what a connection does after so many seconds, 0 = never. Raises BoundError where that was needed."""
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(max_s):
            return
        late.set()
        until = time.monotonic() + _GRACE_S
        while not done.is_set():
            con.interrupt()
            done.wait(_AGAIN_S)
            if stuck is not None and time.monotonic() > until:
                stuck()

    watcher = threading.Thread(target=watch, daemon=True)
    if max_s:
        watcher.start()
    try:
        yield
    except duckdb.InterruptException as e:
        if not late.is_set():
            raise
        raise BoundError(f"took longer than {max_s:g} s") from e
    finally:
        done.set()
        if max_s:
            watcher.join()


@contextlib.contextmanager
def _in_memory(most: int) -> Iterator[None]:
    """Hold what the process takes in addition to so many bytes. Raises BoundError where it asks for more."""
    try:
        with _data(most):
            yield
    except (MemoryError, duckdb.OutOfMemoryException) as e:
        raise BoundError(f"needs more than {most / 2**30:.3g} GiB of memory") from e


@contextlib.contextmanager
def _data(most: int) -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])
    before, highest = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = pages * resource.getpagesize() + most
    known = [n for n in (wanted, before, highest) if n != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(known), highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, highest))
