"""How much of the figures of states is chance: the same footage, its faces looked at a hair wider or closer.

    python benchmarks/jitter.py MEDIA_DIR [--scales 1.7,1.7005,...] [--engine local|ray] [--json FILE]

A face's landmarks say where it is looked for in the next frame, so a change of a tenth of a pixel grows to the
landmarks' own noise (a thousandth of a face's width) within a second, and what is decided at an edge falls out
otherwise: a face that turns away is lost a little sooner, a doubtful turn goes to somebody else. Each scale (side of
the landmark crop over the face's box, `scan.mesh_scale`) differs from the shipped one by less than a thousandth, which
moves no limit and favours none. The states are worked out for each, and held against the truth beside the media. The
mean is what may be expected of this footage; how far they lie apart is what a difference between versions must exceed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import record
from accuracy import finished, input_list
from found_tracks import found_tracks
from points import points
from state_score import baseline_score, state_score

from curation import Dataset

SCALES = "1.7,1.7005,1.6995,1.701,1.699"
WORKFLOW = """
name: states
description: what is needed for states, and no more
policy: default
window_s: 120
stages: {probe: {}, scan: {}, tracks: {}, speech: {}, active_speaker: {}, attribution: {}, pairing: {}}
"""
POLICY = """
name: everything
description: lets every source through
rules: [{id: any_source, on: sources, step: quality, keep: "duration_s > 0", why: "no threshold"}]
"""


def scored(media: Path, target: str) -> dict[str, Any]:
    """Return the state figures of a dataset: accuracy of all, of the plain baseline, and by clip."""
    dataset = Dataset(target)
    truths = finished(dataset, media)
    found = found_tracks(dataset, list(truths))
    every = [p for source, truth in truths.items() for p in points(truth, found[source])]
    states = state_score(every)
    return {
        "frames": states["frames"],
        "accuracy": states["accuracy"],
        "baseline": baseline_score(every)["accuracy"],
        "recall": states["recall"],
        "precision": states["precision"],
        "per_clip": states["per_clip"],
    }


def measure(media: Path, scales: list[str], engine: str) -> dict[str, Any]:
    """Work the states out at every scale, one after the other in one dataset: what is heard is measured once."""
    by_scale = {}
    with tempfile.TemporaryDirectory(prefix="openlpm-jitter-") as scratch:
        folder = Path(scratch)
        (folder / "states.yaml").write_text(WORKFLOW)
        (folder / "everything.yaml").write_text(POLICY)
        lpm = [sys.executable, "-m", "workflows.cli", "run", str(input_list(media, folder)), "--allow-quarantine"]
        how = ["--workflow", str(folder / "states.yaml"), "--policy", str(folder / "everything.yaml")]
        for scale in scales:
            target = ["--out", str(folder / "dataset"), "--engine", engine, "--set", f"scan.mesh_scale={scale}"]
            subprocess.run([*lpm, *how, *target], check=True)
            by_scale[scale] = scored(media, str(folder / "dataset"))
            sys.stderr.write(f"{scale}: {by_scale[scale]['accuracy']:.4f}\n")
    return {"scales": by_scale, "accuracy": spread(by_scale, "accuracy"), "baseline": spread(by_scale, "baseline")}


def spread(by_scale: dict[str, dict[str, Any]], figure: str) -> dict[str, float]:
    """Return mean, least, most and standard deviation of a figure over the scales."""
    values = [one[figure] for one in by_scale.values()]
    return {
        "mean": statistics.mean(values),
        "least": min(values),
        "most": max(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def show(result: dict[str, Any]) -> str:
    """Return the result as text, the clips that differ most first."""
    lines = []
    for figure in ("accuracy", "baseline"):
        s = result[figure]
        lines.append(
            f"{figure}: mean {s['mean']:.4f}, {s['least']:.4f} to {s['most']:.4f}, deviation {s['deviation']:.4f}"
        )
    runs = list(result["scales"].values())
    clips = {clip: [one["per_clip"].get(clip, float("nan")) for one in runs] for clip in runs[0]["per_clip"]}
    for clip, values in sorted(clips.items(), key=lambda kv: min(kv[1]) - max(kv[1])):
        if max(values) > min(values):
            lines.append(f"  {clip:24s} " + " ".join(f"{v:.3f}" for v in values))
    return "\n".join(lines)


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("--scales", default=SCALES)
    parser.add_argument("--engine", default="local", choices=["local", "ray"])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    result = measure(args.media, args.scales.split(","), args.engine)
    result["run"] = {"command": "python benchmarks/jitter.py MEDIA_DIR", **record.today_here()}
    sys.stdout.write(show(result) + "\n")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
