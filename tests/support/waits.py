"""Toy stages that wait for ever, once, at the place that OPENLPM_TOY_WAIT=PLACE:FILE names; the file tells of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from toy import WORKFLOW, ToyIdentity, ToyScan, ToySettings

from curation.stage import Outputs, WorkItem
from schemas.settings.workflow import StageSpec, Workflow


def wait(place: str) -> None:
    """Wait, where this is the place and nobody has waited before."""
    wanted, _, file = os.environ.get("OPENLPM_TOY_WAIT", "").partition(":")
    if wanted == place and not Path(file).exists():
        Path(file).touch()
        time.sleep(600)


class WaitingScan(ToyScan):
    def __init__(self, settings: ToySettings) -> None:
        wait("models")
        super().__init__(settings)

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        wait("windows")
        return super().run(item, inputs)


class WaitingIdentity(ToyIdentity):
    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        wait("dataset")
        return super().run(item, inputs)


def workflow() -> Workflow:
    """Return the toy workflow with stages that wait."""
    stages = {n: s for n, s in WORKFLOW.stages.items() if n != "toy_packing"}
    stages |= {
        "toy_scan": StageSpec(use="waits:WaitingScan"), "toy_identity": StageSpec(use="waits:WaitingIdentity"),
    }  # fmt: skip
    return WORKFLOW.model_copy(update={"stages": stages})
