"""Find remembered tracks among the present ones: a track id is a number in order of time, and a new scan may renumber.

A track is remembered with its source, time and place in the picture. It is found again where at least half of the
shorter of the two lies inside the other's time, and the faces' centres lie within `NEAR`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from schemas.time import Interval
from stages.pairing.labels import NEAR, distance
from stages.row_traits import Anchored

_HALF = 0.5
"""Share of the shorter track that must lie in the other's time: neighbours that a moved cut lets touch stay apart."""

_EXACT = 1e-6
"""Seconds within which a time counts as unchanged: both are float64 of the same computation."""
_SAME_PLACE = 1e-4
"""Share of the picture within which a place counts as unchanged: it is stored as float32."""


class Anchors:
    """Present tracks by source, to be found by what is remembered of them."""

    def __init__(self, tracks: Iterable[Anchored]) -> None:
        self._by_id: dict[str, Anchored] = {}
        self._by_source: dict[str, list[Anchored]] = defaultdict(list)
        for track in tracks:
            self._by_id[track.track_id] = track
            self._by_source[track.source_id].append(track)

    def unchanged(self, row: Anchored) -> bool:
        """Say whether the track is here under its own id, with the same time and place."""
        track = self._by_id.get(row.track_id)
        return (
            track is not None
            and abs(track.start_s - row.start_s) < _EXACT
            and abs(track.end_s - row.end_s) < _EXACT
            and distance(row, track) < _SAME_PLACE
        )

    def find(self, row: Anchored, taken: Iterable[str] = ()) -> list[tuple[str, float]]:
        """Return (track id, shared seconds) of what a remembered track is now; several where it was cut in pieces.

        Of tracks that are seen at the same time the nearest in place counts. `taken` are left out.
        """
        if self.unchanged(row):
            return [(row.track_id, row.end_s - row.start_s)]
        span, barred = Interval(row.start_s, row.end_s), set(taken)
        chosen: list[tuple[Interval, str, float]] = []
        near = [x for x in self._by_source.get(row.source_id, ()) if x.track_id not in barred]
        near = [x for x in near if distance(row, x) <= NEAR]
        for x in sorted(near, key=lambda x: (distance(row, x), x.track_id)):
            mine = Interval(x.start_s, x.end_s)
            shared = span.overlap_s(mine)
            if shared <= 0 or shared < _HALF * min(span.duration_s, mine.duration_s):
                continue
            if all(mine.overlap_s(other) <= 0 for other, _, _ in chosen):
                chosen.append((mine, x.track_id, shared))
        return [(track_id, shared) for _, track_id, shared in chosen]
