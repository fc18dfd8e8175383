"""Memory of a process that works for days: what it freed goes back to the system, and what it held at most.

A worker goes from stage to stage for days. What one stage freed stays with the process as holes in the C heap and in
Arrow's pool, too scattered for the next one's big arrays, and so the peaks of all stages add up. Milliseconds a call.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import pyarrow as pa


def release() -> None:
    """Return unused memory to the operating system, as far as its C library knows how."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)


def forget_peak() -> None:
    """Begin to measure anew what this process holds at most, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return what this process held at most since `forget_peak` (MiB, resident); 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0
