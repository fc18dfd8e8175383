"""Who is who: identities against people, tracks that hold two people, references that show somebody else.

B-cubed (Bagga and Baldwin, 1998) over tracks weighted by the frames in which a labelled person was found in them:
precision is the share of a track's identity that shows the same person, recall the share of the person's tracks that
are in the same identity. A track without an identity stands alone. Faces whose state is unsure count: who they are is
known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from points import Point, main_person, people_of_tracks

TWO_PEOPLE_FRAMES = 5
"""Frames (0.2 s) with a confirmed face of a second person from which a track holds two people; fewer lie in the blur of
one border, and where a face is hidden a track's box is carried on over whoever hides it."""


def b_cubed(tracks: Mapping[str, tuple[str, str, float]]) -> tuple[float | None, float | None]:
    """Return precision and recall over tracks given as (identity, person, weight)."""
    total = sum(w for _, _, w in tracks.values())
    if not total:
        return None, None
    together: dict[tuple[str, str], float] = defaultdict(float)
    identity: dict[str, float] = defaultdict(float)
    person: dict[str, float] = defaultdict(float)
    for i, p, w in tracks.values():
        together[i, p] += w
        identity[i] += w
        person[p] += w
    precision = sum(w * w / identity[i] for (i, _), w in together.items()) / total
    recall = sum(w * w / person[p] for (_, p), w in together.items()) / total
    return precision, recall


def identity_score(points: Sequence[Point], identities: Mapping[str, str]) -> dict[str, Any]:
    """Return B-cubed precision and recall, who was merged and who was split; `identities` maps tracks."""
    shown = people_of_tracks(points)
    clip_of = {p.track: p.clip for p in points if p.track is not None}
    rows = {
        track: (identities.get(track, f"alone:{track}"), main_person(people), float(sum(map(len, people.values()))))
        for track, people in shown.items()
    }
    precision, recall = b_cubed(rows)
    named = {track: row for track, row in rows.items() if track in identities}
    precision_named, recall_named = b_cubed(named)
    groups: dict[str, set[str]] = defaultdict(set)
    parts: dict[str, set[str]] = defaultdict(set)
    for identity, person, _ in rows.values():
        groups[identity].add(person)
        if not identity.startswith("alone:"):
            parts[person].add(identity)
    return {
        "precision": precision,
        "recall": recall,
        "precision_named": precision_named,
        "recall_named": recall_named,
        "tracks": len(rows),
        "without_identity": len(rows) - len(named),
        "people": len({person for _, person, _ in rows.values()}),
        "identities": len({identity for identity, _, _ in named.values()}),
        "merged": sorted(sorted(people) for people in groups.values() if len(people) > 1),
        "split": {person: len(ids) for person, ids in sorted(parts.items()) if len(ids) > 1},
        "clips": len(set(clip_of.values())),
    }


def two_people(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the tracks that hold two people, with how many frames of each."""
    clip_of = {p.track: p.clip for p in points if p.track is not None}
    out = []
    for track, people in sorted(people_of_tracks([p for p in points if p.confirmed]).items()):
        frames = {person: len(ks) for person, ks in sorted(people.items()) if len(ks) >= TWO_PEOPLE_FRAMES}
        if len(frames) > 1:
            out.append({"track": track, "clip": clip_of[track], "frames": frames})
    return out


def reference_score(
    points: Sequence[Point], references: Sequence[Mapping[str, Any]], track_of: Mapping[str, str]
) -> dict[str, Any]:
    """Return references that show the sample's own person, another, or somebody unlabelled.

    Args:
        points: truth and finding of every clip.
        references: REFERENCES rows.
        track_of: track by segment.
    """
    shown = people_of_tracks(points)
    at = {(p.track, p.k): p.person for p in points if p.track is not None}
    clip_of = {p.track: p.clip for p in points if p.track is not None}
    wrong: list[dict[str, Any]] = []
    right = unknown = 0
    samples: set[str] = set()
    for r in references:
        track, ref_track = track_of.get(r["segment_id"]), r["ref_track_id"]
        if track not in shown or ref_track not in shown:
            unknown += 1
            continue
        person, seen = main_person(shown[track]), at.get((ref_track, r["ref_k"])) or main_person(shown[ref_track])
        if seen == person:
            right += 1
            continue
        samples.add(r["segment_id"])
        wrong.append(
            {"segment": r["segment_id"], "clip": clip_of[track], "kind": f"{r['kind']}_{r['n']}", "person": person,
             "shows": seen, "distance": r["distance"]}
        )  # fmt: skip
    return {"right": right, "wrong": len(wrong), "unlabelled": unknown, "samples_with_wrong": len(samples),
            "which_wrong": wrong}  # fmt: skip
