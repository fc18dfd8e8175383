"""A fault at every write of the commands that write a dataset, and what is left after the same command again.

    PYTHONPATH=tests/support python benchmarks/faults.py [--only run,forget] [--step 1] [--json FILE]

Two toy sources, packed as samples, on a local disk. For each command and each n: write n fails (EIO), write n and all
after it fail (ENOSPC), the process is killed (SIGKILL) before write n, or when half of a new file's bytes are there and
it has not its name yet. Then the same command runs again, unhurt: `same` counts those after which every result has the
bytes of a run without a fault and `lpm verify` says the same; where the process outlived its fault, it also ended with
a sentence that tells what to do, not a traceback. `wrong` lists the others. `--step` tries each so many of a kind;
`--json` keeps what the file has of other commands. `writes` are opens for writing, renames and deletes under the
dataset's folder, without DuckDB's own to `catalog.duckdb`, which is made again.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import record
from fault_sweep import FAULTS, OPERATIONS, Sweep


def swept(sweep: Sweep, step: int) -> dict[str, Any]:
    """Return what became of all faults, or of each so many of every kind."""
    out: dict[str, Any] = {"writes": sweep.writes, "renames": sweep.renames, "step": step}
    wrong: list[str] = []
    for fault in FAULTS:
        points = sweep.points(fault)[::step]
        bad = [f"{fault} at {at}: {said}" for at in points if (said := sweep.wrong(fault, at))]
        out[fault] = {"tried": len(points), "same": len(points) - len(bad)}
        wrong += bad
    return {**out, "wrong": wrong}


def main() -> None:
    """Go through the commands."""
    parser = record.parser(__doc__)
    parser.add_argument("--only", default=",".join(o.name for o in OPERATIONS))
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    there = given.json is not None and given.json.exists()
    kept: dict[str, Any] = json.loads(given.json.read_text(encoding="utf-8")) if there else {}
    found: dict[str, Any] = kept.get("commands", {})
    with tempfile.TemporaryDirectory() as folder:
        for operation in OPERATIONS:
            if operation.name in given.only.split(","):
                found[operation.name] = swept(Sweep(operation, Path(folder) / operation.name), given.step)
                print(operation.name, found[operation.name], flush=True)
                record.write(given.json, kept | record.today_here() | {"commands": found})


if __name__ == "__main__":
    main()
