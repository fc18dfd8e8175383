"""Human labels over the machine's states: pure functions on the 25 Hz grid, used by stage `pairing` after smoothing.

A label holds for the frames it covers, whatever the machine found, and is never smoothed away. Where several
overlap, the newest holds. A label whose track id is gone, or now names somebody elsewhere in the picture, goes to the
faces that were at its place in its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.tables.labels import LabelRow
from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval, grid_range
from stages.pairing.states import Codes, Reason, State, runs
from stages.row_traits import Placed

NEAR = 0.15
"""A face whose median centre lies within this share of the picture is at the label's place; a face is about as wide."""

Run = TypeVar("Run", TimelineRow, SegmentRow)


class Labelled(Protocol):
    """A track with its frames, as `pairing` holds it."""

    track: TrackRow
    ks: range
    state: Codes
    raw: Codes
    reason: Codes
    confidence: npt.NDArray[np.float32]


def distance(a: Placed, b: Placed) -> float:
    """Return the distance of two places, for instance of a label and of a track, in shares of the picture."""
    return float(np.hypot(a.center_x - b.center_x, a.center_y - b.center_y))


def match(label: LabelRow, tracks: Sequence[TrackRow]) -> list[str]:
    """Return the tracks a label is about: its own, or those at its place that do not overlap each other in time."""
    span = Interval(label.start_s, label.end_s)
    near = [x for x in tracks if distance(label, x) <= NEAR and span.overlap_s(Interval(x.start_s, x.end_s)) > 0]
    if any(x.track_id == label.track_id for x in near):
        return [label.track_id]
    chosen: list[TrackRow] = []
    for x in sorted(near, key=lambda x: (distance(label, x), x.track_id)):
        mine = Interval(x.start_s, x.end_s)
        if all(mine.overlap_s(Interval(y.start_s, y.end_s)) <= 0 for y in chosen):
            chosen.append(x)
    return [x.track_id for x in chosen]


def apply_labels(labels: Sequence[LabelRow], people: Sequence[Labelled]) -> None:
    """Write the labels' states into people's frames, oldest first, with reason human_label and confidence 1."""
    by_id = {p.track.track_id: p for p in people}
    for label in oldest_first(labels):
        ks = grid_range(Interval(label.start_s, label.end_s))
        for name in match(label, [p.track for p in people]):
            p = by_id[name]
            a, b = max(ks.start - p.ks.start, 0), min(ks.stop - p.ks.start, len(p.ks))
            if b > a:
                p.state[a:b] = p.raw[a:b] = State[label.state.upper()]
                p.reason[a:b] = Reason.HUMAN_LABEL
                p.confidence[a:b] = 1.0


def labelled_runs(state: Codes, reason: Codes) -> list[tuple[int, int, int]]:
    """Return runs of equal state, cut also where human labels begin and end, so that reasons stay exact."""
    human = (reason == Reason.HUMAN_LABEL).astype(np.int8)
    return [(a, b, code // 2) for a, b, code in runs(np.asarray(state * 2 + human, np.int8))]


def with_named_partners(labels: Iterable[LabelRow], rows: Sequence[Run], tracks: Sequence[TrackRow]) -> list[Run]:
    """Return timeline runs or segments; those mostly under a label of their state that names a partner have it."""
    naming = [(x, match(x, tracks)) for x in oldest_first(labels) if x.partner]
    return [_with_partner(row, naming) for row in rows]


def _with_partner(row: Run, naming: Iterable[tuple[LabelRow, Sequence[str]]]) -> Run:
    own = Interval(row.start_s, row.end_s)
    for label, tracks in naming:
        shared_s = own.overlap_s(Interval(label.start_s, label.end_s))
        if row.track_id in tracks and row.state == label.state and shared_s > own.duration_s / 2:
            row = row.but(partner=label.partner)
            if isinstance(row, SegmentRow):
                row = row.but(partner_track_id=track_of(label.partner))
    return row


def track_of(partner: str | None) -> str | None:
    """Return the track that a partner is, None for a voice from off screen and for nobody."""
    return partner.removeprefix("track:") if partner is not None and partner.startswith("track:") else None


def oldest_first(labels: Iterable[LabelRow]) -> list[LabelRow]:
    """Return labels in the order in which they hold over one another."""
    return sorted(labels, key=lambda x: (x.labelled_at, x.label_id))
