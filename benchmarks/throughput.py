"""Cost of every stage on one file, as multiples of real time and of the floor: decoding it and nothing else.

    python benchmarks/throughput.py [VIDEO ...] [--pairs N] [--long MINUTES] [--json FILE]

Everything runs in this one process (local engine, one thread), so that CPU seconds are comparable: first PyAV's bare
decode loop, then the whole conversation workflow stage by stage. A machine with other work is faster one second and
slower the next, so decode and scan are also run by turns, N times, and the median of their ratios is given; the floor
is the median of all its runs. Beside it, what a user would otherwise run for a part
of the work: PySceneDetect's own command path over the file. `--long` also loops the first video to a long source and
reports the peak memory of the process that runs every stage on it.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import av
import record
import scenedetect

from curation import Dataset
from curation.engine.engine_local import LocalEngine, preflight
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.step import StepResult
from curation.engine.workflow import resolve
from curation.memory import run_chain
from curation.pack.pack import pack
from schemas import tables as t
from stages.scan.scan import Scan, ScanSettings
from stages.sources.probe import Probe, ProbeSettings
from workflows import catalog


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return (wall, CPU) seconds; ffmpeg's, which encodes the clips, are in them."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those it started that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def decode(path: Path) -> None:
    """Decode every frame on one thread, converting nothing: the floor."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for _ in container.decode(stream):
            pass


def scan_and_decode(path: Path, pairs: int) -> tuple[list[float], list[float]]:
    """Decode and scan by turns; return the CPU seconds of each."""
    stage = Scan(ScanSettings())
    probed = run_chain(path, [Probe(ProbeSettings())])
    duration_s = probed[t.SOURCES][0].to_pylist()[0]["duration_s"]
    decodes, scans = [], []
    for _ in range(pairs):
        decodes.append(timed(lambda: decode(path))[1])
        scans.append(timed(lambda: run_chain(path, [stage], duration_s=duration_s, tables=probed))[1])
    stage.close()
    return decodes, scans


def measure(path: Path, pairs: int) -> dict[str, Any]:
    """Run everything on one file and return costs in seconds."""
    decode(path)  # once for the page cache
    rows: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    decodes, scans = scan_and_decode(path, pairs)
    rows["decode (floor)"] = [statistics.median(decodes)] * 2
    detector = scenedetect.AdaptiveDetector()
    rows["scenedetect alone"] = list(timed(lambda: scenedetect.detect(str(path), detector)))

    def event(kind: str, value: Any) -> None:
        if kind == "step" and isinstance(value, StepResult) and value.status == "ran":
            rows[value.stage][0] += value.wall_s
            rows[value.stage][1] += value.cpu_s

    with tempfile.TemporaryDirectory(prefix="openlpm-throughput-") as scratch:
        job = Job(
            f"{scratch}/dataset", resolve(catalog.workflow("conversation")), catalog.policy("default"), in_process=True
        )
        preflight(job.stepper(), job.pipeline.stages)  # weights in the page cache, libraries imported
        whole = timed(lambda: run(job, LocalEngine(), expand([str(path)]), packer=pack, event=event))
        source = Dataset(job.store_uri).table(t.SOURCES).to_pylist()[0]
        faces = Dataset(job.store_uri).table(t.FACE_FRAMES, ["k"]).num_rows
        samples = Dataset(job.store_uri).table(t.MANIFEST, ["segment_id"]).num_rows
    rows["whole workflow, models loaded"] = list(whole)
    floor, real = rows["decode (floor)"][1], source["duration_s"]
    ratios = [scan / bare for scan, bare in zip(scans, decodes, strict=True)]
    return {
        "file": path.name,
        "picture": f"{source['width']}x{source['height']} {source['video_codec']} at {source['fps']:.2f}/s",
        "duration_s": real,
        "face_frames": faces,
        "samples": samples,
        "scan_per_floor": {
            "pairs": pairs,
            "median": round(statistics.median(ratios), 2),
            "low": round(min(ratios), 2),
            "high": round(max(ratios), 2),
        },
        "stages": {
            name: {
                "wall_s": round(wall, 3),
                "cpu_s": round(cpu, 3),
                "cpu_per_real_time": round(cpu / real, 4),
                "cpu_per_floor": round(cpu / floor, 2),
            }
            for name, (wall, cpu) in rows.items()
        },
    }


def long_source(path: Path, minutes: float, policy: str) -> dict[str, Any]:
    """Loop a file to a long source without re-encoding it, run every stage in this process, report peak memory."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from hostile import loop_video

    with tempfile.TemporaryDirectory(prefix="openlpm-long-") as scratch:
        source = Path(scratch) / f"long{path.suffix}"
        loop_video(path, source, minutes * 60.0)
        job = Job(
            f"{scratch}/dataset", resolve(catalog.workflow("conversation")), catalog.policy(policy), in_process=True
        )
        stages: dict[str, float] = defaultdict(float)
        peak: dict[str, float] = {}

        def event(kind: str, value: Any) -> None:
            if kind == "step" and isinstance(value, StepResult) and value.status == "ran":
                stages[value.stage] += value.cpu_s
                peak[value.stage] = _peak_gib()
                if value.stage != "scan" or (value.window or 0) % 5 == 0:
                    sys.stderr.write(f"{value.stage} {value.window} done, peak {_peak_gib():.2f} GiB\n")

        wall, cpu = timed(lambda: run(job, LocalEngine(), expand([str(source)]), packer=pack, event=event))
        rows = Dataset(job.store_uri).table(t.SOURCES).to_pylist()
        decided = Dataset(job.store_uri).table(t.DECISIONS).to_pylist()
    return {
        "file": f"{path.name} looped to {minutes:g} minutes",
        "duration_s": rows[0]["duration_s"],
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "cpu_per_real_time": round(cpu / rows[0]["duration_s"], 3),
        "peak_gib": round(_peak_gib(), 3),
        "peak_gib_after": {k: round(v, 3) for k, v in peak.items()},
        "cpu_s_by_stage": {k: round(v, 1) for k, v in stages.items()},
        "segments": sum(r["unit"] == "segments" for r in decided),
        "kept": sum(r["unit"] == "segments" and r["outcome"] == "kept" for r in decided),
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(result: dict[str, Any]) -> str:
    lines = [f"{result['file']}: {result['picture']}, {result['duration_s']:.2f} s, {result['samples']} samples"]
    lines.append(f"  {'':<32}{'wall s':>9}{'CPU s':>9}{'x real time':>13}{'x floor':>9}")
    for name, s in result["stages"].items():
        rates = f"{s['cpu_per_real_time']:>13.3f}{s['cpu_per_floor']:>9.1f}"
        lines.append(f"  {name:<32}{s['wall_s']:>9.2f}{s['cpu_s']:>9.2f}{rates}")
    by_turns = result["scan_per_floor"]
    lines.append(
        f"  scan and decode by turns, {by_turns['pairs']} times: {by_turns['median']:.1f} x floor"
        f" ({by_turns['low']:.1f} to {by_turns['high']:.1f})"
    )
    return "\n".join(lines)


def main() -> None:
    parser = record.parser(__doc__)
    default = [str(record.MEDIA / n) for n in ("talk_woman_garden.mp4", "session_talker.mp4")]
    parser.add_argument("videos", nargs="*", default=default)
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="how often decode and scan are run by turns")
    parser.add_argument("--long", type=float, metavar="MINUTES", help="only the memory of a looped source this long")
    parser.add_argument("--policy", default="default", help="policy of the long run")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    if args.pairs < 1:
        parser.error(f"--pairs is {args.pairs}, must be 1 or more")
    missing = [v for v in args.videos if not Path(v).is_file()]
    if missing:
        sys.exit(f"no file {missing[0]}; name a video")
    result: dict[str, Any] = {
        "command": "python benchmarks/throughput.py " + " ".join(sys.argv[1:]),
        **record.today_here(),
    }
    if args.long:
        result["long"] = long_source(Path(args.videos[0]), args.long, args.policy)
        sys.stdout.write(record.as_json(result["long"]))
    else:
        result["files"] = [measure(Path(v), args.pairs) for v in args.videos]
        sys.stdout.write("\n".join(show(r) for r in result["files"]) + "\n")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
