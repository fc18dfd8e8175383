"""`lpm check` on sets with planted faults: how many of them it finds, and how often it is wrong about clean clips.

    python benchmarks/check_foreign.py MEDIA_DIR WILD_DIR WORK_DIR [--finished DATASET] [--json FILE]

Cuts two sets of 30 clips of 5 s out of the footage (`foreign_set.py`), checks each with `--engine local`, and compares.
A fault's own consequences are no false alarms: a clip that was spoilt is the same recording as its original. Thirty
clips take about ten minutes on one core; what was measured before is kept in WORK_DIR. `--finished` asks a dataset
that a run has made of whole files; of these all findings are listed but cuts and second people, which conversations
have.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import record
from foreign_set import CHOSEN_ON, LEFT_OUT, Planted, as_folder, as_tar, planted
from made_by import backends
from rich.console import Console

from curation import Dataset
from curation.check import findings
from curation.check.limits import Limits
from workflows.checking import check


def name_of(clip: str) -> str:
    """Return what the set calls a clip, by its name in the check."""
    return clip.rpartition("::")[2].rpartition("/")[2].removesuffix(".mp4")


def score(made: list[Planted], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was found of what was planted, by fault, and what was said besides."""
    said: dict[str, set[str]] = defaultdict(set)
    for f in found:
        said[name_of(f["clip"])].add(f["finding"])
    faults: dict[str, Counter[str]] = defaultdict(Counter)
    missed, alarms = [], []
    for clip in made:
        if clip.wrong:
            faults[clip.wrong].update(planted=1, found=int(clip.wrong in said[clip.name]))
            missed += [] if clip.wrong in said[clip.name] else [f"{clip.name}: {clip.wrong}"]
        alarms += [f"{clip.name}: {x}" for x in sorted(said[clip.name] - {clip.wrong, *clip.follows})]
    clean = {c.name for c in made if not c.wrong}
    of_clean = [a for a in alarms if a.partition(":")[0] in clean]
    return {
        "clips": len(made), "clean": len(clean), "planted": sum(f["planted"] for f in faults.values()),
        "found": sum(f["found"] for f in faults.values()), "by_fault": {k: dict(v) for k, v in sorted(faults.items())},
        "values": _values(made, found), "missed": missed, "false_alarms_on_clean": of_clean,
        "false_alarms_on_spoilt": [a for a in alarms if a not in of_clean],
    }  # fmt: skip


def _values(made: list[Planted], found: list[dict[str, Any]]) -> dict[str, float]:
    """Return what was measured of each fault that was planted and found, the least where several rows tell of it."""
    wrong = {c.name: c.wrong for c in made}
    told = [f for f in found if f["finding"] == wrong[name_of(f["clip"])] and f["value"] is not None]
    values: dict[str, float] = {}
    for f in sorted(told, key=lambda f: -abs(f["value"])):
        values[f"{name_of(f['clip'])}: {f['finding']}, {f['measure']}"] = round(f["value"], 3)
    return dict(sorted(values.items()))


def of_finished(dataset: Dataset) -> dict[str, Any]:
    """Return what is said of the files of a dataset that was made before, each as one clip."""
    rows = dataset.query("SELECT path, name FROM inputs ORDER BY name").fetchall()
    clips = [findings.Clip(clip=name, path=path) for path, name in rows]
    done = findings.check(dataset, clips, Limits(), ("cut", "two_people"))
    said = [f"{f.clip}: {f.finding}, {f.says}" for f in done.findings]
    return {"found": done.found, "checked": done.checked, "unreadable": done.unreadable, "findings": said}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("wild", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--finished", help="dataset of whole files, made by `lpm run`")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python benchmarks/check_foreign.py MEDIA_DIR WILD_DIR WORK_DIR --finished DATASET",
        **record.today_here(),
        "sets": {},
    }
    console = Console(stderr=True, soft_wrap=True)
    for name, people, lay in (("chosen_on", CHOSEN_ON, as_folder), ("left_out", LEFT_OUT, as_tar)):
        made = planted([args.media, args.wild], people, args.work / f"{name}-parts")
        target = args.work / f"{name}-check"
        laid = args.work / name
        if not laid.is_dir():
            lay(made, laid)
        check.run(
            console, Console(quiet=True), str(laid), str(target), [], [], [], "local", None, [],
            two_tracks=False, as_json=False,
        )  # fmt: skip
        told = json.loads((target / "check.json").read_text(encoding="utf-8"))
        result["sets"][name] = {
            "as": "a folder with metadata.jsonl" if lay is as_folder else "a WebDataset tar",
            **score(made, told["findings"]),
        }
        result["limits"] = {k: v["value"] for k, v in told["limits"].items()}
        result["backends"] = backends(Dataset(target / "dataset"))
    if args.finished is not None:
        result["finished"] = of_finished(Dataset(args.finished))
    print(record.as_json(result))
    record.write(args.json, result)


if __name__ == "__main__":
    main()
