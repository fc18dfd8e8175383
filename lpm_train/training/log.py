"""What a run has measured, as lines of JSON in `log.jsonl`: a line a step, and a line an evaluation.

A run that continues drops the lines after the step that it continues from, so that each step is told once. The same
numbers go to TensorBoard where `log.tensorboard` asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

LOG = "log.jsonl"


class Board(Protocol):
    """What else takes numbers; TensorBoard's `SummaryWriter` has it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Take one number of a step."""


class Log:
    """The log of a run; see the module's text."""

    def __init__(self, out: Path, step: int, active: bool = True, board: Board | None = None) -> None:
        """Open the log of the run in `out`, which goes on after `step`; one that is not active writes nothing."""
        self.path, self.active, self.board = out / LOG, active, board
        if active and self.path.exists():
            whole = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            self.path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step and step))

    def write(self, step: int, figures: Mapping[str, float], evaluation: bool = False) -> None:
        """Write the figures of a step, or of an evaluation after it."""
        if not self.active:
            return
        record: dict[str, Any] = {"step": step, "evaluation": figures} if evaluation else {"step": step, **figures}
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(f"{'evaluation' if evaluation else 'train'}/{name}", value, step)


def read_log(out: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a run's log; none where there is no log."""
    path = out / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
