"""Voices as second evidence of who is who inside one source. Pure.

A voice bound to two tracks makes them likelier to be one person, two voices less likely. Diarization takes like voices
for one and binding errs, so this moves the limit of the faces by a small share and decides nothing alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from schemas.tables.attribution import BindingRow
from stages.identity.clustering import Cluster, Leniency

Voices = Literal["one", "two", "unknown"]

_MIN_HEARD_S = 0.5


def voices_of(bindings: Iterable[BindingRow]) -> dict[str, frozenset[str]]:
    """Return the voices that are bound to each track, of rows of BINDINGS."""
    found: dict[str, set[str]] = defaultdict(set)
    for r in bindings:
        if r.bound and r.heard_s >= _MIN_HEARD_S:
            found[r.track_id].add(r.speaker_id)
    return {track: frozenset(voices) for track, voices in found.items()}


def compare(a: Cluster, b: Cluster) -> Voices:
    """Say whether two sets of tracks were heard with one voice or with two."""
    if not a.voices or not b.voices:
        return "unknown"
    return "two" if a.voices.isdisjoint(b.voices) else "one"


def by_voice(one: float, two: float) -> Leniency:
    """Return the leniency that widens the limit by the share `one` and narrows it by the share `two`."""
    factors: dict[Voices, float] = {"one": 1.0 + one, "two": 1.0 - two, "unknown": 1.0}
    return Leniency(lambda a, b: factors[compare(a, b)], 1.0 + one)
