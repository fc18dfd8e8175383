"""Open a file that is not trusted in a process beside this one: what crashes, hangs or fills a decoder costs that file.

For what a command looks at by itself: headers before a run, frames and clips of a report, packed samples. Stages have
processes and limits of their own. The process is started at the first file, and again after one that ended it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Lock
from typing import ParamSpec, TypeVar

from curation.pythons.limits import Limits
from curation.pythons.worker import worker

P = ParamSpec("P")
R = TypeVar("R")

_one_at_a_time = Lock()


def apart(limits: Limits, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function of a module in a process of its own, and return what it returns; all of it must be picklable.

    Raises what the function raises, WorkerDiedError where a file ends its process or passes a limit, and
    OtherPythonError where no process can be started.
    """
    with _one_at_a_time:
        return worker(sys.executable).ask_within(limits, function, *args, **kwargs)
