"""Freed memory back to the system, between steps.

A worker goes from stage to stage for days. What one stage freed stays with the process as holes in the C heap and in
Arrow's pool, too scattered for the next one's big arrays, and so the peaks of all stages add up. Milliseconds a call.
"""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa


def release() -> None:
    """Return unused memory to the operating system, as far as its C library knows how."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)
