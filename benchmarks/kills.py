"""Kills of the real pipeline at random moments, each followed by the same command, until it ends by itself.

    python benchmarks/kills.py VIDEO... [--kills 200] [--seed 0] [--engine local] [--dir DIR] [--json FILE]

One `lpm run` of the workflow `conversation` over the videos is left alone; `lpm verify` gives its root, the hash of all
that is promised of a dataset. Then datasets are made by runs that get SIGKILL after a random time, at most six tenths
of what that run took: by turns the whole process group, as when a machine goes down, and the command alone, whose stage
processes are then orphans. A run that ends by itself completes its dataset, and the next kill begins another. `same`
counts datasets with the root of the undisturbed one, `wrong` says what became of the others, `left` counts processes of
killed commands that were still there 10 s later, and `phases` counts kills by the stage that was last committed. The
workflow is as it ships, with three attempts an item: a kill from outside costs none of them. Counts are added to those
that the JSON file has.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import record

LPM = (sys.executable, "-m", "workflows.cli")
MARK = "OPENLPM_KILLS_RUN"
"""A variable in the environment of a run and of all that it starts, by which they are found again."""

ENDED = (0, 3)
"""Exit codes of a run that went through: all well, or some sources in quarantine."""


@contextmanager
def started(command: list[str], mark: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own; on leaving, nothing of it is left."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, MARK: mark},
    )  # fmt: skip
    try:
        yield process
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def marked(mark: str) -> list[int]:
    """Return the living processes of a run."""
    wanted, out = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            there = wanted in (folder / "environ").read_bytes().split(b"\0")
            if there and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                out.append(int(folder.name))
        except OSError:
            continue
    return out


def root(dataset: Path) -> str:
    """Return what `lpm verify` ends with: the root, or what is wrong."""
    said = subprocess.run([*LPM, "verify", str(dataset)], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).strip().splitlines()
    roots = [line.split()[-1] for line in lines if "root" in line]
    return roots[-1] if said.returncode == 0 and roots else f"verify: {' | '.join(lines[-3:])}"


def committed(dataset: Path) -> str:
    """Return the stage of the latest commit."""
    files = [(f.stat().st_mtime_ns, f) for f in (dataset / "commits").rglob("*.json")]
    return max(files)[1].relative_to(dataset / "commits").parts[0] if files else "nothing"


def main() -> None:
    """Kill until enough have been killed and the last dataset is whole."""
    parser = record.parser(__doc__)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as temporary:
        folder = Path(temporary)
        base = [*LPM, "run", *given.videos, "--workflow", "conversation", "--engine", given.engine, "--out"]
        begun = time.monotonic()
        alone = subprocess.run([*base, str(folder / "alone")], check=False, capture_output=True, text=True)
        if alone.returncode not in ENDED:
            sys.exit(alone.stderr)
        whole_s = time.monotonic() - begun
        expected = root(folder / "alone")
        print(f"undisturbed: {whole_s:.0f} s, root {expected}", flush=True)
        found: dict[str, Any] = {"kills": 0, "runs": 0, "datasets": 0, "same": 0, "left": 0, "wrong": []}
        phases: Counter[str] = Counter()
        if given.json is not None and given.json.exists():
            before = json.loads(given.json.read_text(encoding="utf-8"))
            found, phases = {name: before[name] for name in found}, Counter(before["phases"])
        draw = random.Random(f"{given.seed} {found['kills']}")
        while found["kills"] < given.kills:
            dataset = folder / f"dataset-{found['datasets']}"
            while True:
                found["runs"] += 1
                with started([*base, str(dataset)], f"{found['runs']}") as process:
                    try:
                        said, _ = process.communicate(timeout=draw.uniform(1.0, 0.6 * whole_s))
                        break
                    except subprocess.TimeoutExpired:
                        pass
                    if found["kills"] % 2:
                        process.kill()
                    else:
                        os.killpg(process.pid, signal.SIGKILL)
                    found["kills"] += 1
                    phases[committed(dataset)] += 1
                    process.wait()
                    until = time.monotonic() + 10
                    while marked(f"{found['runs']}") and time.monotonic() < until:
                        time.sleep(0.2)
                    found["left"] += len(marked(f"{found['runs']}"))
            found["datasets"] += 1
            now = (
                root(dataset) if process.returncode in ENDED else f"run ended with {process.returncode}: {said[-300:]}"
            )
            if now == expected:
                found["same"] += 1
                shutil.rmtree(dataset)
            else:
                found["wrong"].append(now)
            print(json.dumps(found), flush=True)
            result = {"engine": given.engine, "undisturbed_s": round(whole_s, 1)}
            record.write(given.json, record.today_here() | result | found | {"phases": dict(phases.most_common())})


if __name__ == "__main__":
    main()
