"""Human labels over the machine's states: pure functions on the 25 Hz grid, used by stage `pairing` after smoothing.

A label holds for the frames it covers, whatever the machine found, and is never smoothed away. Where several
overlap, the newest holds. A label whose track id is gone, or now names somebody elsewhere in the picture, goes to the
faces that were at its place in its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.time import Interval, grid_range
from stages.pairing_states import Codes, Reason, State, runs

NEAR = 0.15
"""A face whose median centre lies within this share of the picture is at the label's place; a face is about as wide."""

Label = Mapping[str, Any]


class Labelled(Protocol):
    """A track with its frames, as `pairing` holds it."""

    track: Mapping[str, Any]
    ks: range
    state: Codes
    raw: Codes
    reason: Codes
    confidence: npt.NDArray[np.float32]


def distance(label: Label, track: Mapping[str, Any]) -> float:
    """Return the distance of a label's place and a track's median centre, in shares of the picture."""
    return float(np.hypot(label["center_x"] - track["center_x"], label["center_y"] - track["center_y"]))


def match(label: Label, tracks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tracks a label is about: its own, or those at its place that do not overlap each other in time."""
    span = Interval(label["start_s"], label["end_s"])
    near = [
        x for x in tracks
        if distance(label, x) <= NEAR and span.overlap_s(Interval(x["start_s"], x["end_s"])) > 0
    ]  # fmt: skip
    if any(x["track_id"] == label["track_id"] for x in near):
        return [str(label["track_id"])]
    chosen: list[Mapping[str, Any]] = []
    for x in sorted(near, key=lambda x: (distance(label, x), x["track_id"])):
        mine = Interval(x["start_s"], x["end_s"])
        if all(mine.overlap_s(Interval(y["start_s"], y["end_s"])) <= 0 for y in chosen):
            chosen.append(x)
    return [str(x["track_id"]) for x in chosen]


def apply_labels(labels: Sequence[Label], people: Sequence[Labelled]) -> None:
    """Write the labels' states into people's frames, oldest first, with reason human_label and confidence 1."""
    by_id = {str(p.track["track_id"]): p for p in people}
    for label in sorted(labels, key=lambda x: (x["labelled_at"], x["label_id"])):
        ks = grid_range(Interval(label["start_s"], label["end_s"]))
        for name in match(label, [p.track for p in people]):
            p = by_id[name]
            a, b = max(ks.start - p.ks.start, 0), min(ks.stop - p.ks.start, len(p.ks))
            if b > a:
                p.state[a:b] = p.raw[a:b] = State[label["state"].upper()]
                p.reason[a:b] = Reason.HUMAN_LABEL
                p.confidence[a:b] = 1.0


def labelled_runs(state: Codes, reason: Codes) -> list[tuple[int, int, int]]:
    """Return runs of equal state, cut also where human labels begin and end, so that reasons stay exact."""
    human = (reason == Reason.HUMAN_LABEL).astype(np.int8)
    return [(a, b, code // 2) for a, b, code in runs(np.asarray(state * 2 + human, np.int8))]


def name_partners(labels: Sequence[Label], rows: Sequence[dict[str, Any]], tracks: Sequence[Mapping[str, Any]]) -> None:
    """Set the partner of timeline runs and segments that are mostly under a label of their state that names one."""
    for label in sorted((x for x in labels if x["partner"]), key=lambda x: (x["labelled_at"], x["label_id"])):
        span, names = Interval(label["start_s"], label["end_s"]), match(label, tracks)
        for row in rows:
            own = Interval(row["start_s"], row["end_s"])
            if row["track_id"] in names and row["state"] == label["state"] and span.overlap_s(own) > own.duration_s / 2:
                row["partner"] = label["partner"]
                if "partner_track_id" in row:
                    seen = label["partner"].startswith("track:")
                    row["partner_track_id"] = label["partner"].removeprefix("track:") if seen else None
