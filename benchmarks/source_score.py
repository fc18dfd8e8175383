"""What a truth says of sources as a whole: sessions, lag of sound, defects, broken files; what failed on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from truth_people import Truth

from curation import Dataset
from curation.decisions.survey import survey
from schemas import tables as t

CAUGHT_BY = {
    "blur": {"sharp_face"},
    "dark": {"luminance", "not_black"},
    "frozen": {"not_frozen"},
    "letterbox": {"no_bars"},
    "logo": {"no_logo", "no_text", "no_usual_text"},  # a logo may hold letters
    "subtitles": {"no_text", "no_usual_text", "no_logo"},
    "no_audio": {"audio_present"},
    "tiny_face": {"face_size", "clip_face_size", "people_present"},
}
"""Rules of the default policy that match a kind of defect."""

CROPPED_AWAY = {"letterbox": "bars_in_crop", "logo": "logo_in_crop", "subtitles": "text_in_crop"}
"""Defects that a crop may leave out: the column of CLIP_PLANS that must be 0 in every kept clip."""


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
            track = None if pair is None else pair["session_partner_track_id"]
            partner = names[track.split("-")[0]] if track else None
            other = next(n for n in truth["files"] if n != names[r["source_id"]])
            state = None if pair is None else pair["session_state"]
            good += partner == other and state == truth["states"][names[r["source_id"]]]
        out[file.name.split(".")[0]] = {
            "offset_error_ms": error_ms,
            "confidence": second["confidence"],
            "right_partner_and_state": good,
            "segments": len(mine),
        }
    return out


def quarantined(dataset: Dataset, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Return the units that ended in quarantine, with stage and message."""
    rows = [r for r in dataset.table(t.ERRORS).to_pylist() if r["source_id"] in truths]
    return {
        "units": len({r["unit_id"] for r in rows}),
        "which": [f"{truths[r['source_id']].clip} {r['unit_id']}: {r['stage']}: {r['error']}: {r['message']}"
                  for r in rows],
    }  # fmt: skip


def unaccounted(dataset: Dataset) -> int | None:
    """Return how many units are in no outcome; None before the dataset's first decisions."""
    found = survey(dataset).balances
    return sum(b.unaccounted for b in found) if any(sum(b.counts.values()) for b in found) else None


def sync_errors(dataset: Dataset, truths: Mapping[str, Truth]) -> dict[str, float | None]:
    """Return how far off the measured lag of sound is, in ms, where the truth names it; None = not measured."""
    sync = {r["track_id"]: r for r in dataset.table(t.SYNC).to_pylist()}
    out: dict[str, float | None] = {}
    for source, truth in truths.items():
        if "audio_late_seconds" in truth.facts:
            tracks = [r["track_id"] for r in dataset.table(t.TRACKS).to_pylist() if r["source_id"] == source]
            offsets = [sync[track]["offset_ms"] for track in tracks if track in sync]
            measured = next((o for o in offsets if o is not None), None)
            out[truth.video] = None if measured is None else measured - 1000.0 * truth.facts["audio_late_seconds"]
    return out


def defects(dataset: Dataset, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Return which known defects were caught by a rule that stands for them, or left out by every kept clip's crop."""
    outcome = {r["unit_id"]: r for r in dataset.table(t.DECISIONS).to_pylist() if r["unit"] == "sources"}
    kept = [r["segment_id"] for r in dataset.table(t.MANIFEST, ["segment_id"]).to_pylist()]
    plans = [r for r in dataset.table(t.CLIP_PLANS).to_pylist() if r["segment_id"] in set(kept)]
    out: dict[str, str] = {}
    for source, truth in truths.items():
        if "defect" in truth.facts and source in outcome:
            row, kind = outcome[source], truth.facts["defect"]
            hit = row["outcome"] == "quarantined" or row["rule"] in CAUGHT_BY.get(kind, set())
            mine = [r[CROPPED_AWAY[kind]] for r in plans if r["source_id"] == source and kind in CROPPED_AWAY]
            clean = row["outcome"] == "kept" and bool(mine) and max(mine) == 0
            said = "caught: cropped away" if clean else "caught" if hit else "MISSED"
            out[truth.video] = f"{said}: {row['outcome']} by {row['rule']}"
    return {"caught": sum(v.startswith("caught") for v in out.values()), "total": len(out), "per_clip": out}


def broken_files(dataset: Dataset) -> dict[str, int]:
    """Return how many of the files named `bad_*` ended in quarantine."""
    names = {r["source_id"]: r["name"] for r in dataset.table(t.INPUTS).to_pylist()}
    rows = [r for r in dataset.table(t.DECISIONS).to_pylist() if r["unit"] == "sources"]
    bad = [r["outcome"] for r in rows if names[r["unit_id"]].startswith("bad_")]
    return {"quarantined": bad.count("quarantined"), "total": len(bad)}
