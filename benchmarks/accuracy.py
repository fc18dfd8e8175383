"""Accuracy against ground truth: cuts, states frame by frame, sync, defects and broken files.

    python benchmarks/accuracy.py MEDIA_DIR [--dataset DIR] [--engine local|ray] [--json FILE]
    python benchmarks/accuracy.py --dataset DIR --truth labels [--json FILE]

Builds a dataset from every video directly in MEDIA_DIR with the conversation workflow and its default policy (or
reads the one given with --dataset), then compares it with each NAME.truth.json beside a video. Truth files hold
`shots` (start, end, voice, people with place and state), optionally `cuts`, `audio_late_seconds` or `defect`;
`session.truth.json` holds states of whole files. With `--truth labels` the human labels that a dataset holds are the
truth instead, and the machine's states, worked out again without them, are compared frame by frame. Files named
`bad_*` must end in quarantine.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import record

from curation import Dataset
from curation.account import expected_units
from curation.ledger import balances
from curation.register import VIDEO_SUFFIXES
from schemas import tables as t

STATES = ("speak", "listen", "idle", "discard")
FPS = 25
CUT_TOLERANCE_S = 0.5 / FPS

CAUGHT_BY = {
    "blur": {"sharp_face"},
    "dark": {"luminance", "not_black"},
    "frozen": {"not_frozen"},
    "letterbox": {"no_bars"},
    "logo": {"no_logo", "no_text"},  # a logo may hold letters
    "subtitles": {"no_text", "no_logo"},
    "no_audio": {"audio_present"},
    "tiny_face": {"face_size", "people_present"},
}
"""Rules of the default policy that match a kind of defect."""


def truths(media: Path) -> dict[str, dict[str, Any]]:
    """Return truth by video file name."""
    out: dict[str, dict[str, Any]] = {}
    for file in sorted(media.glob("*.truth.json")):
        truth = json.loads(file.read_text())
        if "files" in truth:
            for name in truth["files"]:
                out[name] = {"whole_state": truth["states"][name]}
            continue
        base = file.name.removesuffix(".truth.json")
        videos = [p for p in media.glob(f"{base}.*") if not p.name.endswith(".json")]
        if videos:
            out[videos[0].name] = truth
    return out


def input_list(media: Path, scratch: Path) -> Path:
    """Write an input list of every video in `media`, with the sessions that truth files name; return it."""
    session = {}
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


def session_result(dataset: Dataset, media: Path) -> dict[str, Any]:
    """Return, per session with truth: offset error (ms), confidence, share of segments with the right partner file."""
    names = {r["source_id"]: r["name"] for r in dataset.table(t.INPUTS).to_pylist()}
    placed = {names[r["source_id"]]: r for r in dataset.table(t.SESSIONS).to_pylist()}
    pairs = {r["segment_id"]: r for r in dataset.table(t.SESSION_PAIRS).to_pylist()}
    segments = dataset.table(t.SEGMENTS).to_pylist()
    out: dict[str, Any] = {}
    for file in sorted(media.glob("*.truth.json")):
        truth = json.loads(file.read_text())
        if "files" not in truth or not set(truth["files"]) <= set(placed):
            continue
        first, second = (placed[n] for n in truth["files"])
        error_ms = None
        if first["offset_s"] is not None and second["offset_s"] is not None:
            apart_s = second["offset_s"] - first["offset_s"]
            error_ms = 1000 * (apart_s - truth["second_starts_after_first_seconds"])
        good, mine = 0, [r for r in segments if names[r["source_id"]] in truth["files"]]
        for r in mine:
            pair = pairs.get(r["segment_id"])
            track = pair and pair["session_partner_track_id"]
            partner = names[track.split("-")[0]] if track else None
            other = next(n for n in truth["files"] if n != names[r["source_id"]])
            good += bool(pair) and partner == other and pair["session_state"] == truth["states"][names[r["source_id"]]]
        out[file.name.split(".")[0]] = {
            "offset_error_ms": error_ms,
            "confidence": second["confidence"],
            "right_partner_and_state": good,
            "segments": len(mine),
        }
    return out


def cut_truth(truth: dict[str, Any]) -> list[float] | None:
    if "cuts" in truth:
        return [float(c) for c in truth["cuts"]]
    if "shots" in truth:
        return [float(s["start"]) for s in truth["shots"][1:]]
    return None


def match_cuts(found: list[float], true: list[float]) -> tuple[int, int, int]:
    """Return (hits, found, true); a cut is a hit within half a frame."""
    left = list(true)
    hits = 0
    for f in found:
        near = [c for c in left if abs(c - f) <= CUT_TOLERANCE_S]
        if near:
            hits += 1
            left.remove(near[0])
    return hits, len(found), len(true)


class Tracks:
    """States of one source's tracks over time."""

    def __init__(self, tracks: list[dict[str, Any]], runs: list[dict[str, Any]]) -> None:
        self._tracks = tracks
        self._runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for r in runs:
            self._runs[r["track_id"]].append(r)

    def state(self, t_s: float, place: str) -> str:
        """Return the state of the person at a place, "missing" when nobody was tracked there."""
        here = [x for x in self._tracks if x["start_s"] <= t_s < x["end_s"] and _at(place, x["center_x"])]
        if not here:
            return "missing"
        track = max(here, key=lambda x: x["median_face_px"])
        for r in self._runs[track["track_id"]]:
            if r["start_s"] <= t_s < r["end_s"]:
                return "speak" if r["state"] == "both" else str(r["state"])
        return "missing"


def _at(place: str, center_x: float) -> bool:
    return {"left": center_x < 0.5, "right": center_x >= 0.5}.get(place, True)


def evaluate(dataset: Dataset, media: Path) -> dict[str, Any]:
    """Compare a dataset with the truth beside its media."""
    names = {r["name"]: r["source_id"] for r in dataset.table(t.INPUTS).to_pylist()}
    durations = {r["source_id"]: r["duration_s"] for r in dataset.table(t.SOURCES).to_pylist()}
    decisions = dataset.table(t.DECISIONS)
    outcome = {r["unit_id"]: r for r in decisions.to_pylist() if r["unit"] == "sources"}
    by_source: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for table in (t.SHOTS, t.TRACKS, t.TIMELINE):
        for r in dataset.table(table).to_pylist():
            by_source[r["source_id"]][table.name].append(r)
    sync = {r["track_id"]: r for r in dataset.table(t.SYNC).to_pylist()}
    confusion: Counter[tuple[str, str]] = Counter()
    per_clip: dict[str, float] = {}
    cuts: dict[str, tuple[int, int, int]] = {}
    sync_error: dict[str, float | None] = {}
    defects: dict[str, str] = {}
    for name, truth in truths(media).items():
        sid = names.get(name)
        if sid is None:
            continue
        mine = by_source[sid]
        true_cuts = cut_truth(truth)
        if true_cuts is not None:
            found = sorted(r["start_s"] for r in mine["shots"])[1:]
            cuts[name] = match_cuts(found, true_cuts)
        clip = frame_confusion(truth, Tracks(mine["tracks"], mine["timeline"]), durations.get(sid, 0.0))
        if clip:
            confusion += clip
            per_clip[name] = sum(n for (a, b), n in clip.items() if a == b) / clip.total()
        if "audio_late_seconds" in truth:
            offsets = [sync[r["track_id"]]["offset_ms"] for r in mine["tracks"] if r["track_id"] in sync]
            measured = next((o for o in offsets if o is not None), None)
            sync_error[name] = None if measured is None else measured - 1000.0 * truth["audio_late_seconds"]
        if "defect" in truth:
            row = outcome[sid]
            hit = row["outcome"] == "quarantined" or row["rule"] in CAUGHT_BY.get(truth["defect"], set())
            defects[name] = f"{'caught' if hit else 'MISSED'}: {row['outcome']} by {row['rule']}"
    bad = {n: outcome[s]["outcome"] for n, s in names.items() if n.startswith("bad_")}
    hits, found_n, true_n = (sum(c[i] for c in cuts.values()) for i in range(3))
    unaccounted = sum(b.unaccounted for b in balances(decisions, expected_units(dataset)))
    total = confusion.total()
    return {
        "cuts": {
            "precision": hits / found_n if found_n else 1.0,
            "recall": hits / true_n if true_n else 1.0,
            "per_clip": {n: list(c) for n, c in cuts.items()},
        },
        "states": {
            "accuracy": sum(n for (a, b), n in confusion.items() if a == b) / total if total else None,
            "recall": {s: _recall(confusion, s) for s in STATES},
            "per_clip": per_clip,
            "confusion": {s: {p: confusion[s, p] for p in (*STATES, "missing")} for s in STATES},
            "frames": total,
        },
        "sync": {"error_ms": sync_error},
        "sessions": session_result(dataset, media),
        "defects": {
            "caught": sum(v.startswith("caught") for v in defects.values()),
            "total": len(defects),
            "per_clip": defects,
        },
        "bad": {"quarantined": sum(o == "quarantined" for o in bad.values()), "total": len(bad)},
        "ledger": {"unaccounted": unaccounted},
    }


def _recall(confusion: Counter[tuple[str, str]], state: str) -> float | None:
    total = sum(n for (a, _), n in confusion.items() if a == state)
    return confusion[state, state] / total if total else None


def frame_confusion(truth: dict[str, Any], tracks: Tracks, duration_s: float) -> Counter[tuple[str, str]]:
    """Count (true, found) states over the frames of every person in the truth."""
    out: Counter[tuple[str, str]] = Counter()
    shots = truth.get("shots", [])
    if "whole_state" in truth:
        people = [{"place": "full", "state": truth["whole_state"]}]
        shots = [{"start": 0.0, "end": duration_s, "people": people}]
    for shot in shots:
        for k in range(round(shot["start"] * FPS), round(shot["end"] * FPS)):
            for person in shot["people"]:
                out[person["state"], tracks.state((k + 0.5) / FPS, person["place"])] += 1
    return out


def show(result: dict[str, Any]) -> str:
    """Return the result as text."""
    c, s = result["cuts"], result["states"]
    lines = [f"cuts: precision {c['precision']:.3f}, recall {c['recall']:.3f}"]
    lines += [f"  {n}: {hit} of {true} found, {found - hit} false" for n, (hit, found, true) in c["per_clip"].items()]
    if s["accuracy"] is not None:
        lines.append(f"states: accuracy {s['accuracy']:.4f} over {s['frames']} frames")
        lines += [f"  recall {k}: {v:.4f}" for k, v in s["recall"].items() if v is not None]
        lines.append(f"  {'true / found':<14}" + "".join(f"{p:>9}" for p in (*STATES, "missing")))
        lines += [f"  {k:<14}" + "".join(f"{n:>9}" for n in row.values()) for k, row in s["confusion"].items()]
        lines += [f"  {n}: {v:.4f}" for n, v in s["per_clip"].items()]
    for n, e in result["sync"]["error_ms"].items():
        lines.append(f"sync error {n}: {'not measured' if e is None else f'{e:+.0f} ms'}")
    for n, x in result["sessions"].items():
        error = "not found" if x["offset_error_ms"] is None else f"{x['offset_error_ms']:+.1f} ms"
        right = f"{x['right_partner_and_state']} of {x['segments']}"
        lines.append(f"session {n}: offset error {error}, partner and state right in {right} segments")
    d, b = result["defects"], result["bad"]
    lines.append(f"defects caught: {d['caught']} of {d['total']}")
    lines += [f"  {n}: {v}" for n, v in d["per_clip"].items()]
    lines.append(f"broken files quarantined: {b['quarantined']} of {b['total']}")
    lines.append(f"unaccounted for: {result['ledger']['unaccounted']}")
    return "\n".join(lines)


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", nargs="?", type=Path, default=record.MEDIA)
    parser.add_argument("--dataset", help="an existing dataset made from MEDIA_DIR; default: build one")
    parser.add_argument("--engine", default="local", choices=["local", "ray"])
    parser.add_argument("--truth", default="files", choices=["files", "labels"], help="what counts as truth")
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
            videos = [str(input_list(media, Path(scratch)))]
            lpm = [sys.executable, "-m", "workflows.cli", "run", *videos, "--out", target, "--allow-quarantine"]
            extra = [a for s in args.set for a in ("--set", s)]
            subprocess.run([*lpm, "--engine", args.engine, "--workflow", "conversation", *extra], check=True)
        result = evaluate(Dataset(target), media)
        if args.dataset is None and None in result["sync"]["error_ms"].values():
            # The default policy stops some of these clips before their lips are looked at; only what is missing runs.
            subprocess.run([*lpm[:3], "run", "--out", target, "--allow-quarantine", "--engine", args.engine,
                            "--policy", str(Path(__file__).with_name("measure_all.yaml"))], check=True)  # fmt: skip
            result["sync"] = evaluate(Dataset(target), media)["sync"]
    result["run"] = {"command": "python benchmarks/accuracy.py MEDIA_DIR", **record.today_here()}
    sys.stdout.write(show(result) + "\n")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
