"""A command in a process of its own that may take so long and no longer, with all that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress


def run_limited(command: Sequence[str], limit_s: float) -> str:
    """Run a command; returns "", or why it did not end well.

    In the end, and at the limit, whatever is left of its process group is killed: compilers have workers.
    """
    process, why = subprocess.Popen(command, start_new_session=True), ""
    try:
        if code := process.wait(limit_s):
            why = f"ended by signal {-code}" if code < 0 else f"ended with {code}"
    except subprocess.TimeoutExpired:
        why = f"stopped after {limit_s:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return why
