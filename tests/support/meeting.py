"""A scan of which two processes must be at work on one source, or it fails."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from toy import ToyScan

from curation.stage import Outputs, WorkItem

WAIT_S = 120.0


def begun(log: Path) -> dict[str, float]:
    """Return when each process began its first window of a source, by its id."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return {pid: float(at) for pid, at in reversed(lines)}


class Meeting(ToyScan):
    """A scan that begins a source's first two windows together: each waits until another process has begun the other.

    Windows put down when they begin in the folder that OPENLPM_TOY_MEETING names, a file a source.
    """

    name = "toy_scan"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        log = Path(os.environ["OPENLPM_TOY_MEETING"]) / self.spec(inputs)["name"]
        with log.open("a") as f:
            f.write(f"{os.getpid()} {time.monotonic()}\n")
        until = time.monotonic() + WAIT_S
        while item.n_windows > 1 and len(begun(log)) < 2:
            if time.monotonic() > until:
                raise ValueError("no other worker took a window of this source")
            time.sleep(0.05)
        return super().run(item, inputs)
