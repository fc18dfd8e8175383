"""Each process of a run on Ray is killed at each phase, and the same command runs again.

    PYTHONPATH=tests/support python benchmarks/faults_ray.py [--rounds 1] [--json FILE]

Four toy sources, packed as samples, by the Ray engine on a Ray of its own. When a stage was called so often, one
process gets SIGKILL: the actor that gathers results, the one that joins windows, a worker, a stage's process, Ray's
raylet or its GCS, or the command itself. The same command runs again, unhurt: `same` counts those after which every
result has the bytes of the local engine's; `went_on` those in which the first came to its end none the less; the rest
ended with a sentence, or were the command that was killed. `late` counts kills that came when the process was not there
(any more). The results go under `ray` into the file, beside what it has.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import packed_toy
import psutil
import record
from command_line import ROOT, SUPPORT
from engine_case import GOOD, snapshot
from toy import write_sources

from curation.cluster.last_words import SAID
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import run
from curation.pack.pack import pack

PHASES = (("toy_probe", 2), ("toy_scan", 6), ("toy_tracks", 2), ("toy_active", 2), ("toy_clips", 2))
TARGETS = {
    "nobody": "no such process",
    "collector": "ray::Collector",
    "join": "MapBatches(Join)",
    "worker": "MapBatches(LaneWorker)",
    "stage": "curation.pythons.serve",
    "raylet": "raylet/raylet",
    "gcs": "gcs_server",
    "command": "",
}
DRIVER = """
import sys
from pathlib import Path
import packed_toy
from curation.cluster.engine_ray import RayEngine
from workflows.commands.jobs import answer
try:
    packed_toy.made(Path(sys.argv[1]), Path(sys.argv[2]), RayEngine())
except Exception as e:
    if answer(e) is None:
        raise
    sys.exit(f"stopped: {answer(e)}")
"""
LONGEST_S = 240


def killed(target: str, phase: tuple[str, int], folder: Path, out: Path, calls: Path) -> tuple[str, str]:
    """Run, kill once; return how it ended ("went on", "said why", "late" or what is wrong) and what it printed."""
    calls.write_text("")
    environment = {**os.environ, "OPENLPM_TOY_CALLS": str(calls), "PYTHONPATH": f"{SUPPORT}:{ROOT}"}
    with tempfile.TemporaryFile("w+") as said:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), str(out)], stdout=said, stderr=said, env=environment,
            start_new_session=True,
        )  # fmt: skip
        everything: set[psutil.Process] = set()
        stage, times = phase
        while driver.poll() is None and calls.read_text().count(stage) < times:
            time.sleep(0.02)
        everything.update(p for p in _below(driver.pid) if SAID not in " ".join(_line(p)))
        hit = _strike(driver.pid, target)
        try:
            code: int | None = driver.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            code = None
        _kill(driver.pid)
        for process in everything:
            if process.is_running():
                _kill(process.pid)
        driver.wait()
        time.sleep(0.5)  # last words come after
        said.seek(0)
        text = said.read()
    if code is None:
        return f"did not end in {LONGEST_S} s", text
    if code == -signal.SIGKILL and target == "command":
        return ("killed" if SAID in text else "ends in no sentence"), text
    if code == 0:
        return "went on" if hit else "late", text
    told = "stopped: " in text or SAID in text
    return ("said why" if told and "Traceback" not in text else "ends in no sentence"), text


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _strike(pid: int, target: str) -> bool:
    if target == "command":
        _kill(pid)
        return True
    for process in _below(pid):
        try:
            if TARGETS[target] in " ".join(process.cmdline()):
                _kill(process.pid)
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Go through processes and phases."""
    parser = record.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(name for name in TARGETS if name != "nobody"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        folder = write_sources(
            Path(root) / "in", **{f"s{n}": {**GOOD, "duration_s": 18.0 + n, "seed": n} for n in range(4)}
        )
        local = Path(root) / "local"
        run(packed_toy.job(local), LocalEngine(), expand([str(folder)], str(local)), packer=pack)
        unhurt = snapshot(local)
        for target in given.only.split(","):
            tried: Counter[str] = Counter()
            for number, phase in enumerate([*PHASES] * given.rounds):
                out, calls = Path(root) / f"{target}-{number}", Path(root) / "calls"
                how, text = killed(target, phase, folder, out, calls)
                tried.update(["tried", *({"went on": ["went_on"], "late": ["late"]}.get(how, []))])
                again, said = "", ""
                if how in ("went on", "late", "said why", "killed"):
                    again, said = killed("nobody", ("nothing", 1), folder, out, calls)
                if again in ("went on", "late") and snapshot(out) == unhurt:
                    tried["same"] += 1
                else:
                    wrong.append(f"{target} at {phase}: {how}, again: {again}")
                    print(wrong[-1], text[-1500:], said[-1500:], sep="\n", flush=True)
            found[target] = {name: tried[name] for name in ("tried", "same", "went_on", "late")}
            print(target, found[target], flush=True)
            keep(given.json, found | {"wrong": wrong})


def keep(file: Path | None, found: dict[str, Any]) -> None:
    """Put what was found into the file, beside what it has of others."""
    if file is not None:
        there = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        there["ray"] = there.get("ray", {}) | record.today_here() | found
        record.write(file, there)


if __name__ == "__main__":
    main()
