"""The `lpm` command as its users start it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]


def lpm(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command on one thread; the toy stages of the tests are on its path."""
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{ROOT}", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "workflows.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)


def lpm_well(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which must succeed."""
    result = lpm(*arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return result
