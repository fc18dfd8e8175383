"""Every rule of a policy against labelled footage: what it took, what of that was good, and how often it was right.

    python benchmarks/policy_rules.py WILD_DIR --dataset DIR [--defects DIR MEDIA_DIR] [--policy NAME] [--json FILE]

The datasets must be made with `measure_all.yaml`, so that every rule can be decided on every segment. Rules are
judged one by one: `took` is the person-seconds of segments that a rule is against, `alone` those that no other rule is
against, `good` the part of them that the truth calls usable (one person speaks, listens or is idle for 3 s or more).
Precision is the share of what a rule took that truly has what the rule names:

- overlays: a place labelled by eye (`framing_truth.json`) comes into the planned crop;
- one_person: another labelled person's face comes into it;
- quality and size: the file carries the defect (`--defects`: files whose truth names one or none; see DEFECT);
- durations, states, visibility: the truth has nobody usable there.

A rule that took nothing on labelled footage is unmeasured, and is said to be. The speaker score's accuracy by size of
the face stands beside them, as the reason for `clip_face_size`.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import record
from found_tracks import found_tracks
from framing_score import read_overlays, shows_another, shows_overlay
from points import Point, main_person, people_of_tracks, points
from truth_people import Truth, read_truths, whole
from yield_score import usable

from curation import Dataset
from curation.decisions import rules
from curation.decisions.decide import register_tables, view_sql
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.time import GRID_HZ, Interval, grid_range
from schemas.units import UNITS
from workflows import catalog

OVERLAY = ("no_text", "no_usual_text", "no_logo", "no_bars", "no_inset")
NOBODY = (
    "shot_min_duration", "people_present", "track_min_duration", "face_visible", "usable_state", "segment_duration",
    "state_confidence", "segment_visible", "face_inside", "face_held", "room_tone", "not_crowded",
)  # fmt: skip
DEFECT = {
    "tiny_face": ("face_size", "clip_face_size"),
    "blur": ("sharp_face",),
    "dark": ("luminance", "not_black"),
    "frozen": ("not_frozen",),
    "no_audio": ("audio_present",),
}
"""Rules that are right to fire on a file with a defect."""

FACE_PX = (0, 36, 48, 64, 80, 96, 128, 1000)


@dataclass(frozen=True)
class Labelled:
    """A dataset beside its truth."""

    dataset: Dataset
    truths: dict[str, Truth]
    name_of: dict[str, str]
    points: list[Point]


def read(dataset: Dataset, media: Path) -> Labelled:
    """Read a dataset and the truth of its files."""
    names = {r["source_id"]: r["name"] for r in dataset.table(t.INPUTS).to_pylist()}
    known = read_truths(media)
    durations = {r["source_id"]: r["duration_s"] for r in dataset.table(t.SOURCES).to_pylist()}
    mine = {s: known[n] for s, n in names.items() if n in known and s in durations}
    mine = {s: whole(v, durations[s]) if v.whole_state else v for s, v in mine.items()}
    tracks = found_tracks(dataset, list(mine))
    seen = [p for s, v in mine.items() for p in points(v, tracks[s])]
    return Labelled(dataset, {v.clip: v for v in mine.values()}, {s: v.clip for s, v in mine.items()}, seen)


def against(dataset: Dataset, policy: Policy) -> dict[str, set[str]]:
    """Return, per segment, the rules that are against it or a unit that holds it, each rule taken by itself."""
    con = rules.connect()
    register_tables(con, dataset.unit_tables())
    failing: dict[tuple[str, str], set[str]] = defaultdict(set)
    for rule in policy.rules:
        ids = con.execute(f"SELECT {UNITS[rule.on].id} FROM ({view_sql(rule.on)}) WHERE NOT ({rule.keep})").fetchall()
        for (unit_id,) in ids:
            failing[rule.on, unit_id].add(rule.id)
    chain = (("sources", "source_id"), ("shots", "shot_id"), ("tracks", "track_id"), ("segments", "segment_id"))
    return {
        r["segment_id"]: set().union(*(failing.get((kind, r[column]), set()) for kind, column in chain))
        for r in dataset.table(t.SEGMENTS).to_pylist()
    }


def framing(found: Labelled, overlays: Path) -> dict[str, dict[str, bool | None]]:
    """Return, per segment with a plan and labels, whether an overlay and whether another person comes into its crop."""
    labels = read_overlays(overlays)
    people = {track: main_person(who) for track, who in people_of_tracks(found.points).items()}
    sizes = {r["source_id"]: (r["width"], r["height"]) for r in found.dataset.table(t.SOURCES).to_pylist()}
    plans = {r["segment_id"]: r for r in found.dataset.table(t.CLIP_PLANS).to_pylist()}
    out: dict[str, dict[str, bool | None]] = {}
    for seg in found.dataset.table(t.SEGMENTS).to_pylist():
        clip, plan = found.name_of.get(seg["source_id"]), plans.get(seg["segment_id"])
        if clip is None or plan is None:
            continue
        size = sizes[seg["source_id"]]
        shown = shows_overlay(plan, seg, size, labels[clip]) if clip in labels else None
        other = shows_another(plan, seg, size, found.truths[clip], people.get(seg["track_id"]))
        out[seg["segment_id"]] = {"overlay": shown, "other": other}
    return out


def good_seconds(found: Labelled) -> Counter[str]:
    """Return the usable seconds of each segment by truth."""
    at: dict[tuple[str, int], str] = {}
    for seg in found.dataset.table(t.SEGMENTS).to_pylist():
        for k in grid_range(Interval(seg["start_s"], seg["end_s"])):
            at[seg["track_id"], k] = seg["segment_id"]
    out: Counter[str] = Counter()
    for p in usable(found.points, found.truths):
        if p.track is not None and (p.track, p.k) in at:
            out[at[p.track, p.k]] += 1
    return Counter({s: n / GRID_HZ for s, n in out.items()})  # type: ignore[misc]


def judge(policy: Policy, wild: Labelled, overlays: Path, defects: Labelled | None) -> dict[str, Any]:
    """Return the figures of every rule, of what is kept, and of the speaker score by size of the face."""
    failing, good, shown = against(wild.dataset, policy), good_seconds(wild), framing(wild, overlays)
    segments = {r["segment_id"]: r for r in wild.dataset.table(t.SEGMENTS).to_pylist()}
    bad = {} if defects is None else against(defects.dataset, policy)
    bad_segments = [] if defects is None else defects.dataset.table(t.SEGMENTS).to_pylist()
    out: dict[str, Any] = {}
    for rule in policy.rules:
        took = [s for s, rules_ in failing.items() if rule.id in rules_]
        alone = [s for s in took if len(failing[s]) == 1]
        row: dict[str, Any] = {
            "took_s": _sum(segments, took), "alone_s": _sum(segments, alone),
            "good_s": sum(good[s] for s in took), "good_alone_s": sum(good[s] for s in alone),
        }  # fmt: skip
        row |= _precision(rule.id, took, segments, good, shown, defects, bad, bad_segments)
        out[rule.id] = row
    kept = [s for s, rules_ in failing.items() if not rules_]
    wrong = [s for s in kept if shown.get(s, {}).get("overlay") or shown.get(s, {}).get("other")]
    usable_s = len(usable(wild.points, wild.truths)) / GRID_HZ
    return {
        "rules": out,
        "kept": {
            "usable_s": usable_s, "kept_s": _sum(segments, kept), "kept_usable_s": sum(good[s] for s in kept),
            "kept_share": sum(good[s] for s in kept) / usable_s if usable_s else None,
            "wrong_framing_s": _sum(segments, wrong), "wrong_framing": sorted(wrong),
        },
        "speaker_score_by_face_px": by_face_size(wild),
    }  # fmt: skip


def _precision(
    rule: str, took: Sequence[str], segments: Mapping[str, Mapping[str, Any]], good: Mapping[str, float],
    shown: Mapping[str, Mapping[str, bool | None]], defects: Labelled | None, bad: Mapping[str, set[str]],
    bad_segments: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    right = labelled = 0.0
    by = "unmeasured"
    kinds = {d for d, named in DEFECT.items() if rule in named}
    if rule in OVERLAY or rule == "one_person":
        by = "overlays by eye" if rule in OVERLAY else "people by eye"
        key = "overlay" if rule in OVERLAY else "other"
        for s in took:
            if shown.get(s, {}).get(key) is not None:
                labelled += segments[s]["duration_s"]
                right += segments[s]["duration_s"] * bool(shown[s][key])
    elif kinds and defects is not None:
        by = "defects"
        for seg in bad_segments:
            clip = defects.name_of.get(seg["source_id"])
            defect = None if clip is None else defects.truths[clip].facts.get("defect")
            # A file with another defect says nothing: what is dark is not sharp either.
            if clip is not None and rule in bad[seg["segment_id"]] and (defect is None or defect in kinds):
                labelled += seg["duration_s"]
                right += seg["duration_s"] * (defect in kinds)
    elif rule in NOBODY:
        by = "nobody usable"
        labelled = _sum(segments, took)
        right = labelled - sum(good[s] for s in took)
    precision = max(0.0, right) / labelled if labelled else None
    return {"labelled_s": labelled, "precision": precision, "by": by if labelled else "unmeasured"}


def by_face_size(found: Labelled) -> dict[str, dict[str, float]]:
    """Return the accuracy of "score > 0 = speaks" by the face box's shorter side in pixels, frames with one voice."""
    of = {r["tracklet_id"]: r["track_id"] for r in found.dataset.table(t.TRACKLETS).to_pylist()}
    faces = found.dataset.table(t.FACE_FRAMES, ["tracklet_id", "k", "w", "h"]).to_pylist()
    px = {(of.get(r["tracklet_id"]), r["k"]): min(r["w"], r["h"]) for r in faces}
    count: dict[int, Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for p in found.points:
        if p.scored and not p.both and p.score is not None and (p.track, p.k) in px:
            at = int(np.searchsorted(FACE_PX, px[p.track, p.k], side="right")) - 1
            count[at][p.true == "speak", p.score > 0] += 1
    out = {}
    for at, c in sorted(count.items()):
        speaks, rests = c[True, True] + c[True, False], c[False, True] + c[False, False]
        out[f"{FACE_PX[at]}-{FACE_PX[at + 1]}"] = {
            "frames": c.total(), "accuracy": (c[True, True] + c[False, False]) / c.total(),
            "speak_recall": c[True, True] / max(1, speaks), "rest_recall": c[False, False] / max(1, rests),
        }  # fmt: skip
    return out


def _sum(segments: Mapping[str, Mapping[str, Any]], ids: Sequence[str]) -> float:
    return float(sum(segments[s]["duration_s"] for s in ids))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    lines = [f"{'rule':<20}{'took':>8}{'alone':>8}{'good':>8}{'good alone':>12}{'precision':>11}  over"]
    for rule, r in result["rules"].items():
        precision = "unmeasured" if r["precision"] is None else f"{r['precision']:.2f}"
        over = f"{r['labelled_s']:.0f} s, {r['by']}" if r["labelled_s"] else ""
        numbers = f"{r['took_s']:>8.1f}{r['alone_s']:>8.1f}{r['good_s']:>8.1f}{r['good_alone_s']:>12.1f}"
        lines.append(f"{rule:<20}{numbers}{precision:>11}  {over}")
    k = result["kept"]
    share = "" if k["kept_share"] is None else f" ({100 * k['kept_share']:.0f} %)"
    lines.append(f"usable {k['usable_s']:.1f} s, of these kept {k['kept_usable_s']:.1f} s{share}")
    lines.append(
        f"kept in all {k['kept_s']:.1f} s, with an overlay or a stranger in the crop {k['wrong_framing_s']:.1f} s"
    )
    lines += [f"  {s}" for s in k["wrong_framing"]]
    lines.append("speaker score by face size: px, frames, accuracy, recall of speaking, recall of not speaking")
    lines += [
        f"  {px:<10}{r['frames']:>6}{r['accuracy']:>8.3f}{r['speak_recall']:>8.3f}{r['rest_recall']:>8.3f}"
        for px, r in result["speaker_score_by_face_px"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path, help="footage with hand-made truth")
    parser.add_argument("--dataset", required=True, help="a dataset made from it with measure_all.yaml")
    parser.add_argument("--defects", nargs=2, metavar=("DIR", "MEDIA_DIR"), help="the same of files with named defects")
    parser.add_argument("--policy", default="default")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    overlays = Path(__file__).with_name("framing_truth.json")
    bad = read(Dataset(args.defects[0]), Path(args.defects[1])) if args.defects else None
    result = judge(catalog.policy(args.policy), read(Dataset(args.dataset), args.media), overlays, bad)
    result["run"] = {"command": "python benchmarks/policy_rules.py WILD_DIR --dataset DIR --defects DIR MEDIA_DIR",
                     **record.today_here()}  # fmt: skip
    sys.stdout.write(show(result) + "\n")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
