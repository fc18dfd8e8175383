"""OpenLPM beside nemo-curator and py-data-juicer, on the same footage, broken files included, in one run.

    python benchmarks/head_to_head.py VIDEO... --nemo PYTHON --juicer PYTHON --ffmpeg DIR [--rounds 2] [--json FILE]

The two others run from environments of their own (`nemo-curator[video-cpu,cv2]==1.4.0` with a CPU build of torch;
`py-data-juicer==1.6.1 av==13.1.0 opencv-contrib-python scenedetect ffmpeg-python ray[default]`) with the system's
ffmpeg, on what they do without a GPU: ingest, shots (nemo-curator: clips of ten seconds, its shot network wants a
GPU), motion, transcoded clips. `openlpm, that job` is a workflow of `probe` and one stage of its own
(`head_to_head_shots.py`), which does as much and writes shards; `openlpm, everything` is all of `lpm run`: faces,
voices, words, who speaks, captions, identities, packed clips. Rounds go by turns. `cpu_s` sums user and system time
over all processes of a program, read ten times a second, with starts and imports; `peak_mib` is the largest sum of
their proportional memory. Of the `files`, `out` gave a clip (in `openlpm, everything`: passed or was filtered by a
named rule); for `named` of the others a reason can be read in what the program left beside its results.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record
import yaml

from curation import Dataset
from curation.media.errors import MediaError
from curation.media.probe import probe

MARK = "OPENLPM_HEAD_TO_HEAD"
Runner = Callable[[Path, Path, float, str], dict[str, Any]]
"""From a folder of videos, one for results, a limit in seconds and the PATH to what became of them."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """What the processes of one program used."""

    cpu_s: dict[int, float] = field(default_factory=dict)
    peak_mib: float = 0.0

    def look(self, mark: str) -> None:
        """Read the processes that are there now."""
        wanted, memory = f"{MARK}={mark}".encode(), 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                    continue
                user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
                self.cpu_s[int(folder.name)] = (int(user) + int(system)) / _TICKS
                pss = next(x for x in (folder / "smaps_rollup").read_text().splitlines() if x.startswith("Pss:"))
                memory += int(pss.split()[1])
            except (OSError, StopIteration, IndexError):
                continue  # it ended meanwhile
        self.peak_mib = max(self.peak_mib, memory / 1024)


def measured(command: list[str], folder: Path, limit_s: float, path: str) -> dict[str, Any]:
    """Run a command to its end, or to the limit."""
    mark, cost, begun = folder.name, Cost(), time.monotonic()
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True,
            env={**os.environ, MARK: mark, "PATH": path},
        )  # fmt: skip
        while process.poll() is None and time.monotonic() - begun < limit_s:
            cost.look(mark)
            time.sleep(0.1)
        ended = process.poll()
        process.kill()
    return {
        "exit": ended, "wall_s": time.monotonic() - begun, "cpu_s": sum(cost.cpu_s.values()), "peak_mib": cost.peak_mib
    }  # fmt: skip


def openlpm(workflow: str) -> Runner:
    """Return the runner of a workflow of ours."""

    def run(videos: Path, folder: Path, limit_s: float, path: str) -> dict[str, Any]:
        out = str(folder / "dataset")
        command = [sys.executable, "-m", "workflows.cli", "run", str(videos), "--workflow", workflow, "--out", out]
        found = measured(command, folder, limit_s, path)
        decided = dict(
            Dataset(out).query("SELECT outcome, count(*) FROM decisions WHERE unit = 'sources' GROUP BY 1").fetchall()
        )
        named = Dataset(out).query("SELECT count(DISTINCT source_id) FROM errors WHERE message <> ''").fetchall()[0][0]
        return found | {"out": decided.get("kept", 0) + decided.get("filtered", 0), "named": named}

    return run


def juicer(python: Path) -> Runner:
    """Return the runner of py-data-juicer under a Python of its own."""

    def run(videos: Path, folder: Path, limit_s: float, path: str) -> dict[str, Any]:
        rows = [{"videos": [str(f)], "text": "<__dj__video> <|__dj__eoc|>"} for f in sorted(videos.iterdir())]
        (folder / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        export = folder / "out" / "out.jsonl"
        process: list[dict[str, dict[str, Any]]] = [
            {"video_duration_filter": {"min_duration": 1}},
            {"video_resolution_filter": {"min_width": 64, "min_height": 64}},
            {"video_motion_score_filter": {"min_score": 0.0}},
            {"video_split_by_scene_mapper": {"detector": "AdaptiveDetector", "save_dir": str(folder / "clips")}},
        ]
        config = {"project_name": "h", "dataset_path": str(folder / "in.jsonl"), "export_path": str(export), "np": 2,
                  "process": process}  # fmt: skip
        (folder / "job.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        command = [str(python.parent / "dj-process"), "--config", str(folder / "job.yaml")]
        found = measured(command, folder, limit_s, f"{python.parent}:{path}")
        # Its own exported rows say what came out; what failed is in its logs alone, by an error without the file.
        left = [json.loads(x) for x in export.read_text().splitlines()] if export.exists() else []
        return found | {"out": len(left), "named": 0}

    return run


def nemo(python: Path) -> Runner:
    """Return the runner of nemo-curator under a Python of its own."""

    def run(videos: Path, folder: Path, limit_s: float, path: str) -> dict[str, Any]:
        program, out = Path(__file__).with_name("head_to_head_nemo.py"), folder / "out"
        found = measured([str(python), str(program), str(videos), str(out)], folder, limit_s, path)
        # A file that could not be read has a record of nulls, without a word why.
        chunks = [json.loads(f.read_text()) for f in (out / "processed_clip_chunks").glob("*.json")]
        return found | {"out": sum(bool(c["clips"]) for c in chunks), "named": 0}

    return run


def main() -> None:
    """Run all by turns."""
    parser = record.parser(__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--nemo", type=Path, required=True)
    parser.add_argument("--juicer", type=Path, required=True)
    parser.add_argument("--ffmpeg", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds after which a program is ended")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    runners = {
        "openlpm, that job": openlpm(str(Path(__file__).with_name("head_to_head_shots.yaml"))),
        "openlpm, everything": openlpm("conversation"),
        "py-data-juicer 1.6.1": juicer(given.juicer),
        "nemo-curator 1.4.0": nemo(given.nemo),
    }
    path = f"{given.ffmpeg}:{os.environ['PATH']}"
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    with tempfile.TemporaryDirectory() as temporary:
        videos = Path(temporary) / "videos"
        videos.mkdir()
        for file in given.videos:
            shutil.copy(file, videos)
        seconds = sum(length(f) for f in videos.iterdir())
        for n in range(given.rounds):
            for name, run in runners.items():
                folder = Path(temporary) / f"{name.split()[-1]}-{n}"
                folder.mkdir()
                rounds[name].append({k: round(v, 1) for k, v in run(videos, folder, given.limit, path).items()})
                print(name, rounds[name][-1], flush=True)
                shutil.rmtree(folder)
    programs = {}
    ours = statistics.median(r["cpu_s"] for r in rounds["openlpm, that job"])
    for name, each in rounds.items():
        cpu_s = statistics.median(r["cpu_s"] for r in each)
        programs[name] = {"cpu_per_video_s": cpu_s / seconds, "of_ours": cpu_s / ours, "rounds": each}
    found = {"files": len(given.videos), "video_s": round(seconds, 1), "programs": programs}
    print(json.dumps(found, indent=1))
    record.write(given.json, record.today_here() | {"loadavg": os.getloadavg()[0]} | found)


def length(file: Path) -> float:
    """Return how long a video is, 0 where it cannot be read."""
    try:
        return probe(file).duration_s
    except MediaError:
        return 0.0


if __name__ == "__main__":
    main()
