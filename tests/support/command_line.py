"""The `lpm` command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from warm_command import LPM, OF_LPM, OF_THE_TRAINER, warm

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
TRAINERS = ("train", "stream")


def environment() -> dict[str, str]:
    """One thread, and the toy stages of the tests on the path."""
    return {**os.environ, "PYTHONPATH": f"{SUPPORT}:{ROOT}", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}


def lpm(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that has imported it already."""
    imported = OF_LPM + (OF_THE_TRAINER if arguments[:1] and arguments[0] in TRAINERS else ())
    return warm(*imported).run(LPM, arguments, environment(), str(cwd or Path.cwd()))


def lpm_started(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its users start it, in a Python that knows nothing yet."""
    command = [sys.executable, "-m", LPM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)


def lpm_well(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which must succeed."""
    result = lpm(*arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return result
