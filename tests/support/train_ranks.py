"""Start `train_worker` on one rank or on several, and read what it logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from warm_command import OF_THE_TRAINER, warm

ROOT = Path(__file__).parents[2]
PATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"


def losses(out: Path) -> dict[int, float]:
    """Read the loss of each step."""
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {r["step"]: r["loss"] for r in records if "loss" in r}


def environment(**more: str) -> dict[str, str]:
    """One thread; and sums of MKL that do not depend on where in memory a shard was gathered to."""
    return os.environ | {"PYTHONPATH": PATH, "OMP_NUM_THREADS": "1", "MKL_CBWR": "COMPATIBLE"} | more


def by_torchrun(ranks: int, module: str, *arguments: str) -> int:
    """Run a module on so many ranks of this machine, in Pythons that know nothing yet; returns the exit code."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launch, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), timeout=240).returncode


def worker(
    out: Path, stage: str, steps: int, *changes: str, ranks: int = 1, kill_at: int = 0, hang_at: int = 0
) -> int:  # fmt: skip
    """Train; see `train_worker`."""
    env = environment(KILL_AT=str(kill_at), HANG_AT=str(hang_at))
    arguments = (str(out), stage, str(steps), *changes)
    ended = warm(*OF_THE_TRAINER).run("train_worker", arguments, env, str(ROOT), ranks)
    if ended.returncode and not kill_at:
        print(ended.stdout, ended.stderr)
    return ended.returncode
