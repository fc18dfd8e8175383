"""A toy stage that takes a while for each window: OPENLPM_TOY_SLOW seconds."""

from __future__ import annotations

import os
import time
from typing import Any

from toy import ToyScan

from curation.stage import Outputs, WorkItem


class SlowScan(ToyScan):
    """The toy's scan, slow. In a module of no tests: pytest rewrites those, and code counts in a fingerprint."""

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        time.sleep(float(os.environ.get("OPENLPM_TOY_SLOW", "0")))
        return super().run(item, inputs)
