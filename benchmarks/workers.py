"""How a cluster's throughput grows with its workers: real Ray, real engine, stages that wait where they would compute.

    PYTHONPATH=tests/support python benchmarks/workers.py [--workers 1,2,4,8,16,32,64] [--seconds 120] [--speed 10]
        [--apart] [--label now] [--json FILE]

For each number of workers a cluster is started on this machine by the commands of `ray_cluster.yaml`: a head,
and machines of at most 16 CPUs each that Ray takes at their word. Sources of 40 to 120 s of video go through
`waiting_stages`, `--seconds` of work for each core, so ten times the workers get ten times the sources. Stages wait for
what the real ones compute, divided by `--speed`: with 10, the engine has ten times the steps a second that it has in
earnest. Without `--apart` stages run in the process of Ray's worker, not in one more beside it: half the processes to
hold and to start. A stage waits holding one of as many simulated cores as there are workers, so the efficiency cannot
pass 1.

`ideal_s` is the sum of all waits over the workers. `whole` is ideal_s / wall time of the whole run: registering,
planning, the start of Ray's workers, ledger and catalog are all in it. `at_work` leaves out what comes before the first
wait and after the last. `steady` is the share of the cores that is held between the moment at which the windows are
being scanned by as many as ever are at once, and the start of the last source's last lane: no tail, but the start of
the workers that take over from those that scan. `busiest_minute` is that share in the best minute of each of the two
lanes: neither starts nor a tail. What the driver computes (`driver_cpu_s`) and all processes of the cluster
(`cluster_cpu_s`) come off this machine's real cores; `start_cpu_s` of the latter before the first wait. `pss_mib` is
the most memory that all had together.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import record
from ray_nodes import RayNodes
from waiting_stages import cost_s, workflow, write_sources

HERE = Path(__file__).resolve().parent
LENGTHS = (20, 20, 40, 60)
"""Segments of the sources, in turns: 40, 40, 80 and 120 s of video."""
A_MACHINE = 16
"""CPUs of one simulated machine, at most."""

Wait = tuple[str, str, int, float, float, float]
"""Stage, source, window, when it began and ended, and for how long it was to wait (s)."""


def main() -> None:
    """Measure each number of workers and put the figures into the file under the label."""
    parser = record.parser(__doc__)
    parser.add_argument("--workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--label", default="now")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    for n in map(int, given.workers.split(",")):
        found = measure(n, given.seconds, given.speed, apart=given.apart)
        print(n, json.dumps(found), flush=True)
        former = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
        setting = {"seconds": given.seconds, "speed": given.speed, "apart": given.apart}
        rows = {**former.get(given.label, {}), str(n): setting | found}
        label = {given.label: {k: rows[k] for k in sorted(rows, key=int)}}
        record.write(given.json, former | record.today_here() | label)


def measure(workers: int, seconds: float, speed: float, *, apart: bool) -> dict[str, Any]:
    """Run the workflow on a cluster of so many workers and return its figures."""
    mean_s = sum(cost_s(x, speed) for x in LENGTHS) / len(LENGTHS)
    sources = max(workers, round(workers * seconds / mean_s))
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as short, RayNodes(Path(short)) as nodes:
        folder = Path(short)
        nodes.environment["PYTHONPATH"] += f":{HERE}"
        nodes.environment["RAY_worker_register_timeout_seconds"] = "600"  # all of them share a few real cores
        for n in range(-(-workers // A_MACHINE)):
            nodes.worker(f"m{n}", cpus=min(A_MACHINE, workers - n * A_MACHINE))
        write_sources(folder / "in", [LENGTHS[n % len(LENGTHS)] for n in range(sources)])
        (folder / "machine").mkdir()
        script = "import sys, workers; workers.drive(*sys.argv[1:])"
        driver = nodes.driver(script, str(folder), str(workers), str(speed), "apart" if apart else "")
        with Watch([p.pid for p in nodes.nodes.values()]) as watch:
            said, _ = driver.communicate()
        if driver.returncode:
            raise SystemExit(said)
        told = json.loads((folder / "told.json").read_text())
        waits: list[Wait] = [tuple(json.loads(x)) for x in (folder / "machine" / "waits").read_text().splitlines()]
    return {"sources": sources, **figures(waits, workers, told), **watch.figures(min(w[3] for w in waits))}


def drive(address: str, folder: str, workers: str, speed: str, apart: str) -> None:
    """Be the driver: run, and write down when each phase began."""
    from curation.cluster.engine_ray import RayEngine
    from curation.engine.register import expand
    from curation.engine.run import Job, run
    from curation.engine.workflow import resolve
    from workflows import catalog

    phases: list[tuple[str, float]] = []
    steps: Counter[str] = Counter()

    def event(kind: str, value: Any) -> None:
        if kind == "phase":
            phases.append((value, time.time()))
        elif kind == "step":
            steps[value.status] += 1

    pipeline = resolve(workflow(machine=f"{folder}/machine", cores=int(workers), speed=float(speed)))
    job = Job(f"{folder}/out", pipeline, catalog.policy("default"), in_process=not apart)
    began, cpu = time.time(), time.process_time()
    run(job, RayEngine(address), expand([f"{folder}/in"]), event=event)
    told = {
        "began": began, "ended": time.time(), "driver_cpu_s": time.process_time() - cpu, "phases": phases,
        "steps": dict(steps),
    }  # fmt: skip
    (Path(folder) / "told.json").write_text(json.dumps(told))


def figures(waits: list[Wait], workers: int, told: dict[str, Any]) -> dict[str, Any]:
    """Return what came of one run."""
    began, ended = told["began"], told["ended"]
    work_s = sum(w[5] for w in waits)
    first, last = min(w[3] for w in waits), max(w[4] for w in waits)
    most, full = peak([w for w in waits if w[0] != "probe"])
    dry = max(w[3] for w in waits if w[0] == "tracks")
    phases = told["phases"]
    spent = {n: round(b - a, 2) for (n, a), (_, b) in zip(phases, [*phases[1:], ("", ended)], strict=True)}
    return {
        "ideal_s": round(work_s / workers, 1),
        "wall_s": round(ended - began, 1),
        "whole": round(work_s / workers / (ended - began), 3),
        "at_work": round(work_s / workers / (last - first), 3),
        "steady": round(held(waits, full, dry) / workers / max(dry - full, 1e-9), 3),
        "steady_s": round(dry - full, 1),
        "busiest_minute": [round(x, 3) for x in busiest(waits, workers)],
        "full_after_s": round(full - began, 1),
        "most_at_once": most,
        "tail_s": round(last - dry, 1),
        "steps": told["steps"],
        "phases_s": spent,
        "driver_cpu_s": round(told["driver_cpu_s"], 1),
    }


def peak(waits: list[Wait]) -> tuple[int, float]:
    """Return how many are at work at once at most, and when they are for the first time."""
    at_work = most = 0
    when = 0.0
    for at, more in sorted([(w[3], 1) for w in waits] + [(w[4], -1) for w in waits]):
        at_work += more
        if at_work > most:
            most, when = at_work, at
    return most, when


def held(waits: list[Wait], start: float, end: float) -> float:
    """Return the core seconds that were held between two moments."""
    return sum(max(0.0, min(w[4], end) - max(w[3], start)) for w in waits)


def busiest(waits: list[Wait], workers: int, span_s: float = 60.0) -> tuple[float, float]:
    """Return the share of cores held in the best stretch of so long, while windows are scanned and after that."""
    scanned = max(w[4] for w in waits if w[0] == "scan")
    shares: tuple[list[float], list[float]] = ([0.0], [0.0])
    for at in sorted({w[3] for w in waits if w[0] != "probe"}):
        share = held(waits, at, at + span_s) / workers / span_s
        if at + span_s <= scanned or at >= scanned:
            shares[at >= scanned].append(share)
    return max(shares[0]), max(shares[1])


class Watch:
    """Sums memory and CPU of process groups with all their children, every few seconds."""

    def __init__(self, roots: list[int], pause_s: float = 5.0) -> None:
        self._roots, self._pause_s = roots, pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._cpu: dict[int, float] = {}
        self._seen: list[tuple[float, float]] = []
        self._pss = self._most = 0.0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self._pause_s):
            pss, many = 0.0, 0
            for process in self._processes():
                try:
                    used = process.cpu_times()
                    self._cpu[process.pid] = used.user + used.system
                    pss += process.memory_full_info().pss
                    many += 1
                except psutil.Error:
                    continue
            self._seen.append((time.time(), sum(self._cpu.values())))
            if pss > self._pss:
                self._pss, self._most = pss, many

    def _processes(self) -> list[psutil.Process]:
        out = []
        for pid in self._roots:
            try:
                root = psutil.Process(pid)
                out += [root, *root.children(recursive=True)]
            except psutil.Error:
                continue
        return out

    def figures(self, first_wait: float) -> dict[str, float]:
        """Return the sums."""
        before = [cpu for at, cpu in self._seen if at <= first_wait]
        return {
            "cluster_cpu_s": round(self._seen[-1][1], 1) if self._seen else 0.0,
            "start_cpu_s": round(before[-1], 1) if before else 0.0,
            "pss_mib": round(self._pss / 2**20),
            "processes": self._most,
            "load": round(os.getloadavg()[0], 1),
        }


if __name__ == "__main__":
    main()
