"""A sentence for a command that ends without a word: Ray ends its driver from within where its own processes are gone.

A raylet or a GCS that is lost on the command's machine makes Ray's native code end the whole process, past every
handler of Python's. So a small process waits on a pipe: where it closes before the run is over, it says what has
happened. Costs the start of a bare Python.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

SAID = (
    "lpm: the run ended with its process, which was killed, or which Ray ended since its own processes on this machine "
    "were lost; finished work is kept, run the same command again to go on"
)
_WAIT = """
import signal, sys
for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(one, signal.SIG_IGN)
if not sys.stdin.read():
    print(sys.argv[1], file=sys.stderr)
"""


@contextlib.contextmanager
def last_words(said: str = SAID) -> Iterator[None]:
    """Say a sentence on the standard error where this process ends inside the block."""
    with subprocess.Popen([sys.executable, "-S", "-E", "-c", _WAIT, said], stdin=subprocess.PIPE, text=True) as waiting:
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                waiting.communicate("over")


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Throw away what native code writes to the standard error of this process; keep the block short."""
    sys.stderr.flush()
    heard, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(heard, 2)
        os.close(heard)
        os.close(nowhere)
