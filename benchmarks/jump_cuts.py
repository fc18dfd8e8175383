"""How well the face tells a jump cut from a movement: takes of real faces with a piece left out, and whole ones.

    python benchmarks/jump_cuts.py DATASET [--joints 60] [--json FILE]

Every tracklet of a scanned dataset is a take without cuts. From each, pieces of half a second to four are left out, so
many as `--joints` says, at places chosen by chance with a fixed seed; `found` is the share of these joints that
`stages.scan.jumps` takes for jump cuts. `marked` counts the frames of the takes as they are that it takes for one: of
both, the change of the whole picture, which has to agree, is not asked. A joint of two like poses cannot be found.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import record

from curation import Dataset
from schemas import tables as t
from schemas.tables.scan import FaceCropRow
from stages.scan.jumps import Candidate, jump_cuts

GAPS = (12, 25, 50, 100)
"""Grid points that are left out at a joint."""
AROUND = 4
"""Frames that are looked at on either side; one for the first step and three that are held against it."""

Take = list[FaceCropRow]


def takes(dataset: Dataset) -> list[Take]:
    """Return the frames with landmarks of each tracklet, in order; those that repeat a picture are left out."""
    out: dict[str, Take] = defaultdict(list)
    for row in sorted(t.FACE_CROPS.rows(dataset.table(t.FACE_CROPS)), key=lambda r: r.k):
        take = out[row.tracklet_id]
        if row.landmarks is not None and (not take or take[-1].landmarks != row.landmarks):
            take.append(row)
    return [take for _, take in sorted(out.items()) if len(take) >= 2 * AROUND]


def is_jump(before: Take, after: Take) -> bool:
    """Ask whether a face jumps between two runs of its frames, taken for neighbours."""
    rows = [row.but(k=k, tracklet_id="") for k, row in enumerate([*before, *after])]
    return bool(jump_cuts([Candidate(len(before), 0.0, 0, 0.0)], rows))


def measure(dataset: Dataset, joints: int) -> dict[str, Any]:
    """Return what is found of joints, and what is marked of frames as they are."""
    chance, found, tried, marked, frames = random.Random(0), 0, 0, 0, 0
    for take in takes(dataset):
        for n in range(AROUND, len(take) - AROUND):
            frames += 1
            marked += is_jump(take[n - AROUND : n], take[n : n + AROUND])
        for _ in range(joints):
            gap = chance.choice(GAPS)
            if len(take) < gap + 2 * AROUND:
                continue
            n = chance.randrange(AROUND, len(take) - gap - AROUND + 1)
            tried += 1
            found += is_jump(take[n - AROUND : n], take[n + gap : n + gap + AROUND])
    return {"joints": tried, "found": round(found / max(1, tried), 4), "frames": frames, "marked": marked}


def main() -> None:
    """Measure, and print or write."""
    parser = record.parser(__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--joints", type=int, default=60, help="of each take")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    result = record.today_here() | measure(Dataset(str(a.dataset)), a.joints)
    print(record.as_json(result), end="")
    record.write(a.json, result)


if __name__ == "__main__":
    main()
