"""Accuracy against ground truth: states, people, cuts, references, yield, sync, defects and broken files.

    python benchmarks/accuracy.py MEDIA_DIR [--dataset DIR] [--engine local|ray] [--json FILE] [--per-clip]
    python benchmarks/accuracy.py --dataset DIR --truth labels [--json FILE]

Builds a dataset from every video directly in MEDIA_DIR with the conversation workflow (or reads the one given with
--dataset, in seconds), then compares it with each NAME.truth.json beside a video. Two forms of truth are read, see
`truth_people.py`. Composed footage is run with the default policy; footage with hand-made truth with
`measure_all.yaml`, so that every state is measured, and what the default policy keeps of it is worked out from the
tables. `session.truth.json` holds states of whole files; files named `bad_*` must end in quarantine. With
`--truth labels` the human labels that a dataset holds are the truth instead, and the machine's states, worked out again
without them, are compared frame by frame.

`--per-clip` lists every stretch in which a found state is wrong, with what decided it; `--groups az_,cv_` gives the
figures of the clips whose names start so and of the others; `--only az_` leaves the others out.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import record
from accuracy_text import show, show_stretches
from cut_score import cut_score
from found_tracks import found_tracks
from identity_score import identity_score, reference_score, two_people
from made_by import backends
from points import Point, points
from sound_purity import sound_purity
from source_score import broken_files, defects, quarantined, session_result, sync_errors, unaccounted
from state_score import baseline_score, lost_by_reason, state_score, unsure_states, wrong_stretches
from truth_people import Truth, read_truths, whole
from yield_score import outcomes, yield_score

from curation import Dataset
from curation.listing import VIDEO_SUFFIXES
from schemas import tables as t
from workflows import catalog

MEASURE_ALL = Path(__file__).with_name("measure_all.yaml")


def input_list(media: Path, scratch: Path) -> Path:
    """Write an input list of every video in `media`, with the sessions that truth files name; return it."""
    session: dict[str, str] = {}
    for file in sorted(media.glob("*.truth.json")):
        session |= {name: file.name.split(".")[0] for name in json.loads(file.read_text()).get("files", [])}
    out = scratch / "inputs.csv"
    with out.open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["path", "session"])
        for p in sorted(media.iterdir()):
            if p.suffix.lower() in VIDEO_SUFFIXES:
                rows.writerow([str(p.resolve()), session.get(p.name, "")])
    return out


def finished(dataset: Dataset, media: Path) -> dict[str, Truth]:
    """Return the truth of every source that the dataset has worked on to the end, by source id."""
    names = {r["name"]: r["source_id"] for r in dataset.table(t.INPUTS).to_pylist()}
    durations = {r["source_id"]: r["duration_s"] for r in dataset.table(t.SOURCES).to_pylist()}
    done = {str(s) for s in dataset.table(t.TIMELINE, ["source_id"])["source_id"].to_pylist()}
    done |= {str(r["source_id"]) for r in dataset.table(t.DECISIONS, ["source_id", "outcome"]).to_pylist()}
    out = {}
    for name, truth in read_truths(media).items():
        source = names.get(name)
        if source in done:
            out[source] = whole(truth, durations.get(source, 0.0)) if truth.whole_state else truth
    return out


def evaluate(dataset: Dataset, media: Path, policy: str = "default", only: Sequence[str] = ("",)) -> dict[str, Any]:
    """Compare a dataset with the truth beside its media; `policy` decides what is kept."""
    truths = {s: truth for s, truth in finished(dataset, media).items() if truth.clip.startswith(tuple(only))}
    found = found_tracks(dataset, list(truths))
    every = [p for source, truth in truths.items() for p in points(truth, found[source])]
    result = figures(dataset, every, truths, policy)
    result |= {
        "wrong": wrong_stretches(every),
        "sync": {"error_ms": sync_errors(dataset, truths)},
        "sessions": session_result(dataset, media),
        "defects": defects(dataset, truths),
        "bad": broken_files(dataset),
        "ledger": {"unaccounted": unaccounted(dataset)},
        "backends": backends(dataset),
    }
    return result


def figures(
    dataset: Dataset,
    every: Sequence[Point],
    truths: Mapping[str, Truth],
    policy: str = "default",
    elsewhere: Sequence[Point] = (),
) -> dict[str, Any]:
    """Return what is measured on some clips.

    Args:
        dataset: what was found.
        every: the points of these clips.
        truths: their truth by source id.
        policy: name of the policy whose yield is counted.
        elsewhere: the points of other clips of the dataset, from which references may come.
    """
    shots: dict[str, list[float]] = defaultdict(list)
    for r in dataset.table(t.SHOTS, ["source_id", "start_s"]).to_pylist():
        shots[r["source_id"]].append(r["start_s"])
    cuts = {x.video: (sorted(shots[s])[1:], x.cuts) for s, x in truths.items() if x.cuts is not None}
    identities = {r["track_id"]: r["identity_id"] for r in dataset.table(t.TRACK_IDENTITIES).to_pylist()}
    segments = [r for r in dataset.table(t.SEGMENTS).to_pylist() if r["source_id"] in truths]
    track_of = {r["segment_id"]: r["track_id"] for r in segments}
    references = [r for r in dataset.table(t.REFERENCES).to_pylist() if r["segment_id"] in track_of]
    decided = {s: o for s, o in outcomes(dataset, catalog.policy(policy)).items() if s in track_of}
    by_clip = {truth.clip: truth for truth in truths.values()}
    mixed = two_people(every)
    return {
        "cuts": cut_score(cuts),
        "states": state_score(every) | {"wrong_by_reason": lost_by_reason(every), "unsure": unsure_states(every)},
        "baseline": baseline_score(every),
        "identity": identity_score(every, identities),
        "tracks": {"two_people": len(mixed), "which": mixed},
        "references": reference_score([*every, *elsewhere], references, track_of),
        "yield": yield_score(every, by_clip, segments, decided),
        "purity": sound_purity(dataset, every, by_clip),
        "quarantined": quarantined(dataset, truths),
    }


def grouped(dataset: Dataset, media: Path, prefixes: Sequence[str], policy: str) -> dict[str, Any]:
    """Return the figures of the clips whose names start with one of the prefixes, and of the others."""
    truths = finished(dataset, media)
    found = found_tracks(dataset, list(truths))
    of = {source: points(truth, found[source]) for source, truth in truths.items()}
    named = {s for s, x in truths.items() if x.clip.startswith(tuple(prefixes))}
    out: dict[str, Any] = {"prefixes": list(prefixes)}
    for name, mine in (("named", named), ("others", set(truths) - named)):
        some = {s: x for s, x in truths.items() if s in mine}
        every = [p for s in some for p in of[s]]
        rest = [p for s in truths if s not in mine for p in of[s]]
        out[name] = figures(dataset, every, some, policy, rest)
    return out


def build(args: Any, media: Path, target: str, scratch: Path) -> None:
    """Make a dataset of the media: everything measured where truth was made by hand, else with the default policy."""
    lpm = [sys.executable, "-m", "workflows.cli", "run"]
    rest = ["--out", target, "--allow-quarantine", "--engine", args.engine]
    extra = [a for s in args.set for a in ("--set", s)]
    by_hand = any(truth.by_hand for truth in read_truths(media).values())
    all_of_it = ["--policy", str(MEASURE_ALL)] if by_hand else []
    subprocess.run(
        [*lpm, str(input_list(media, scratch)), *rest, "--workflow", "conversation", *all_of_it, *extra], check=True
    )


def measure_sync(args: Any, target: str) -> None:
    """Measure what the default policy stopped before its lips were looked at; only what is missing runs."""
    command = [sys.executable, "-m", "workflows.cli", "run", "--out", target, "--allow-quarantine"]
    subprocess.run([*command, "--engine", args.engine, "--policy", str(MEASURE_ALL)], check=True)


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", nargs="?", type=Path, default=record.MEDIA)
    parser.add_argument("--dataset", help="an existing dataset made from MEDIA_DIR; default: build one")
    parser.add_argument("--engine", default="local", choices=["local", "ray"])
    parser.add_argument("--truth", default="files", choices=["files", "labels"], help="what counts as truth")
    parser.add_argument("--policy", default="default", help="the policy whose yield is counted")
    parser.add_argument("--only", default="", help="clips whose names start with one of these, comma-separated")
    parser.add_argument("--groups", default="", help="also count clips that start with one of these apart from others")
    parser.add_argument("--per-clip", action="store_true", help="list every stretch that is wrong in state")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--set", action="append", default=[], help="stage.setting=value for the run")
    args = parser.parse_args()
    if args.truth == "labels":
        if args.dataset is None:
            sys.exit("--truth labels needs --dataset: labels are imported into one with `lpm labels import`")
        from label_truth import against_labels, show_labels

        found = against_labels(Dataset(args.dataset))
        sys.stdout.write(show_labels(found) + "\n")
        record.write(args.json, found)
        return
    media = args.media
    if not media.is_dir():
        sys.exit(f"no directory {media}; name one with videos and truth files")
    with tempfile.TemporaryDirectory(prefix="openlpm-accuracy-") as scratch:
        target = args.dataset or f"{scratch}/dataset"
        if args.dataset is None:
            build(args, media, target, Path(scratch))
        only = tuple(args.only.split(","))
        result = evaluate(Dataset(target), media, args.policy, only)
        if args.dataset is None and None in result["sync"]["error_ms"].values():
            measure_sync(args, target)
            result["sync"] = evaluate(Dataset(target), media, args.policy, only)["sync"]
        if args.groups:
            result["groups"] = grouped(Dataset(target), media, args.groups.split(","), args.policy)
    wrong = result.pop("wrong")
    result["run"] = {"command": "python benchmarks/accuracy.py MEDIA_DIR", **record.today_here()}
    sys.stdout.write(show(result) + "\n")
    if args.per_clip:
        sys.stdout.write(show_stretches(wrong) + "\n")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
