"""Train a tiny model in a process of its own, which a test may kill.

python -m train_worker OUT STAGE STEPS [section.field=value ...]. KILL_AT: the step (from 0) before which it ends
itself; HANG_AT: the checkpoint that is never written to its end."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import train_case as case

from lpm_train.config import override
from lpm_train.training.checkpoint_files import Folder
from lpm_train.training.loop import train
from lpm_train.training.parallel import ranks
from lpm_train.training.stage import make_stage


def main(out: Path, stage: str, steps: int, *changes: str) -> None:
    kill_at, hang_at = (int(os.environ.get(name, "0")) for name in ("KILL_AT", "HANG_AT"))
    if hang_at:
        plain_finish = Folder.finish

        def finish(self: Folder, under: str, name: str, files: dict[str, str]) -> None:
            threading.Event().wait(None if name.endswith(str(hang_at)) else 0)
            plain_finish(self, under, name, files)

        Folder.finish = finish  # type: ignore[method-assign]
    settings = override(
        case.config(), [f"run.stage={stage}", f"run.steps={steps}", "optim.micro_batch=1", "run.keep=9", *changes]
    )
    with ranks(settings) as where:
        start = None if settings.base.weights else case.model(dtype=torch.float32).state_dict()
        made = make_stage(settings, where, start=start)
        source = case.Source(rank=where.rank, world=where.size, frames=max(8, settings.distill.rollout))
        if kill_at:
            plain = made.step

            def step(batch: Any, i: int) -> dict[str, float]:
                if i == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(batch, i)

            made.step = step  # type: ignore[method-assign]
        rows = 4 // where.size
        heldout = [case.batch(["x", "y", "z", "w"][where.rank * rows : (where.rank + 1) * rows])]
        train(made, settings, source, out, heldout=heldout, where=where, show=lambda _: None)
        weights = {n: getattr(w, "full_tensor", lambda w=w: w)() for n, w in made.ema.weights.items()}
        if where.first:
            torch.save(weights, out / "ema.pt")


def check_threads() -> None:
    """Fail where a thread of the process group is left: it may abort the interpreter's end, seldom and at random."""
    names = {task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    if left := {name for name in names if "gloo" in name}:
        os.write(2, f"threads left: {left}\n".encode())
        os._exit(3)


if __name__ == "__main__":
    atexit.register(check_threads)  # runs last
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
