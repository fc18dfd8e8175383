"""What beginning a stage of training takes of a rank's memory at most, over what the rank then holds.

    PYTHONPATH=tests/support python benchmarks/start_memory.py [--ranks 1,2,4] [--blocks 5] [--label now] [--json FILE]

Each rank is a process (gloo); its peak is that of its resident memory above what imports and a tiny stage hold, and
what it holds are its rows of weights and averages. Networks of 24 MB a block, float32 (the largest weight 6 MB): fresh
(pretraining), saved (distillation from a checkpoint), base (pretraining from public weights), lora (distillation over
a frozen base), half (likewise with `run.bf16`). `ratio` is that of the worst rank.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import record
from train_ranks import by_torchrun

MODES = ("fresh", "saved", "base", "lora", "half")


def main() -> None:
    """Measure, print, and put the figures into the file under the label."""
    parser = record.parser(__doc__)
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--label", default="now")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.environ["START_DEPTH"] = str(given.blocks)
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="lpm-start-") as scratch:
        by_torchrun(1, "start_worker", scratch, "write")
        for n in map(int, given.ranks.split(",")):
            for mode in MODES:  # a process each, so that none uses what another left
                if by_torchrun(n, "start_worker", scratch, mode):
                    raise SystemExit(f"{mode} failed on {n} ranks")
                said = [json.loads((Path(scratch) / f"{mode}-{n}-{k}.json").read_text()) for k in range(n)]
                worst = max(said, key=lambda one: float(one["took"] / one["kept"]))
                figures = {"ratio": round(worst["took"] / worst["kept"], 3), "kept_mb": round(worst["kept"] / 1e6, 1)}
                found.setdefault(mode, {})[str(n)] = figures
                print(mode, n, figures, flush=True)
    before = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    record.write(given.json, {**before, **record.today_here(), given.label: found})


if __name__ == "__main__":
    main()
