"""How far the body's yaw is off to one side, and what a look at a body costs.

    python benchmarks/body_yaw.py DATASET CLIPS_DIR [--every 2.0] [--json FILE]

DATASET is a finished dataset of the clips, for its faces. Every body is measured in a picture and in its mirror image:
the sum of both yaws would be 0, and half of it is the error. CPU milliseconds are of one process, by the number of
wrists at which a hand was looked for, with the faces given.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import record

from annotators.body.analyzer import MediaPipeBody
from annotators.body.measures import YAW_BIAS_DEG, body_yaw_deg
from annotators.protocols import Box
from curation import Dataset
from curation.media.grid import frames_on_grid
from curation.media.video import frame_times, iter_frames
from schemas import tables as t
from schemas.time import GRID_HZ


def mirrored(face: Box, width: int) -> Box:
    """Return a box in the mirror image of a picture."""
    return Box(width - face.x - face.w, face.y, face.w, face.h)


def main() -> None:
    """Print the median error, by clip and over all, and the cost."""
    parser = record.parser(__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one picture to the next")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    dataset = Dataset(args.dataset)
    names = {r["source_id"]: Path(r["name"]).name for r in dataset.table(t.INPUTS).to_pylist()}
    faces: dict[tuple[str, int], list[Box]] = defaultdict(list)
    for r in dataset.table(t.FACE_FRAMES).select(["source_id", "k", "x", "y", "w", "h"]).to_pylist():
        faces[names[r["source_id"]], r["k"]].append(Box(r["x"], r["y"], r["w"], r["h"]))
    errors: dict[str, list[float]] = defaultdict(list)
    costs: dict[int, list[float]] = defaultdict(list)
    with MediaPipeBody() as analyzer:
        for name in sorted(names.values()):
            path = args.clips / name
            n = int(frame_times(path)[-1] / args.every) + 1
            for i, frame in enumerate(frames_on_grid(iter_frames(path), 0.0, n, 1 / args.every)):
                rgb = frame.rgb()
                size = (rgb.shape[1], rgb.shape[0])
                here = faces[name, round(i * args.every * GRID_HZ)]
                for face in here:
                    others = [o for o in here if o is not face]
                    start = time.process_time()
                    body = analyzer.measure(rgb, face, others)
                    spent = 1000 * (time.process_time() - start)
                    if body is None:
                        continue
                    costs[sum(h is not None for h in body.hands)].append(spent)
                    flipped = analyzer.measure(
                        np.ascontiguousarray(rgb[:, ::-1]),
                        mirrored(face, size[0]),
                        [mirrored(o, size[0]) for o in others],
                    )
                    yaws = [None if b is None else body_yaw_deg(b, size) for b in (body, flipped)]
                    if yaws[0] is not None and yaws[1] is not None:
                        errors[name].append((yaws[0] + yaws[1]) / 2 + YAW_BIAS_DEG)
    every = np.concatenate([np.asarray(v) for v in errors.values()])
    result: dict[str, Any] = {
        **record.today_here(), "faces": len(every), "median_error_deg": round(float(np.median(every)), 2),
        "error_deg_10_to_90": [round(float(v), 1) for v in np.percentile(every, [10, 90])],
        "by_clip_deg": {name: round(float(np.median(v)), 1) for name, v in sorted(errors.items())},
        "cpu_ms_by_wrists": {
            str(k): {"n": len(v), "mean": round(float(np.mean(v)), 1)} for k, v in sorted(costs.items())
        },
    }  # fmt: skip
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
