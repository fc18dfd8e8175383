"""Start `train_worker` on one rank or on several, and read what it logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"


def losses(out: Path) -> dict[int, float]:
    """Read the loss of each step."""
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {r["step"]: r["loss"] for r in records if "loss" in r}


def on_ranks(ranks: int, module: str, *arguments: str, quiet: bool = False, **environment: str) -> int:
    """Run a module on so many ranks of this machine; returns the exit code."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    env = os.environ | {"PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"} | environment
    env["MKL_CBWR"] = "COMPATIBLE"  # else MKL's sums depend on where in memory a shard was gathered to
    command = [sys.executable, *launch, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=quiet, timeout=240).returncode


def worker(
    out: Path, stage: str, steps: int, *changes: str, ranks: int = 1, kill_at: int = 0, hang_at: int = 0
) -> int:  # fmt: skip
    """Train; see `train_worker`."""
    how = {"KILL_AT": str(kill_at), "HANG_AT": str(hang_at)}
    return on_ranks(ranks, "train_worker", str(out), stage, str(steps), *changes, quiet=kill_at > 0, **how)
