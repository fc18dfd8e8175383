"""From tracks' faces to people: inside each source first, then across sources; rather a split than a wrong merge. Pure.

Inside a source the limit is wide, as few people are there to be taken for one another, and voices move it a little.
Across sources faces alone decide, by a narrower limit. Tracks whose portraits are too poor to tell people apart stay
people of their own. What nearly merged is listed for people to judge. Faces of two embedders are never compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from annotators.face.distances import distances_of
from stages.identity.clustering import Cluster, agglomerate, neighbour_pairs
from stages.identity.faces import Face
from stages.identity.registry import join_known
from stages.identity.voices import Voices, by_voice, compare

Why = Literal["distance", "two_voices", "seen_at_once", "poor_portraits", "named_before"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits; see the stage's settings. A distance of None is the embedder's own."""

    max_distance: float | None
    max_distance_across: float | None
    min_quality: float
    voice_one: float
    voice_two: float
    n_neighbours: int

    def too_poor(self, face: Face) -> bool:
        """Say whether a track's best portrait is too poor to tell who it is."""
        return face.best < max(self.min_quality, 1e-9)

    def within(self, embedder: str) -> float:
        """Return the limit inside a source."""
        return distances_of(embedder).within_source if self.max_distance is None else self.max_distance

    def across(self, embedder: str) -> float:
        """Return the limit across sources, never above that inside one."""
        wanted = self.max_distance_across
        limit = distances_of(embedder).across_sources if wanted is None else wanted
        return min(limit, self.within(embedder))


@dataclass(frozen=True, slots=True)
class Doubt:
    """Two people that may be one; `a` and `b` are the two of their tracks whose faces are nearest."""

    a: str
    b: str
    distance: float
    limit: float
    across: bool
    voices: Voices
    why: Why


def clusters_of(
    faces: Mapping[str, Face], apart: Mapping[str, Iterable[str]], voices: Mapping[str, frozenset[str]], rules: Rules
) -> dict[str, dict[str, Cluster]]:
    """Return, for each embedder, one cluster a track that is good enough to be compared, by track."""
    out: dict[str, dict[str, Cluster]] = {face.embedder: {} for face in faces.values()}
    for track, face in sorted(faces.items()):
        if not rules.too_poor(face):
            barred = frozenset(apart.get(track, ()))
            heard = voices.get(track, frozenset())
            out[face.embedder][track] = Cluster(frozenset({track}), face.weight, face.mean, 0.0, barred, heard)
    return out


def merge(
    clusters: Iterable[Cluster],
    source_of: Mapping[str, str],
    embedder: str,
    rules: Rules,
    names: Mapping[str, str] = MappingProxyType({}),
) -> list[Cluster]:
    """Return people: clusters of one embedder's tracks merged inside each source, then across.

    Tracks with equal `names` stay together, and those with different ones apart.
    """
    people, new = join_known(clusters, names)
    by_source: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in new:
        by_source[source_of[min(cluster.members)]].append(cluster)
    leniency = by_voice(rules.voice_one, rules.voice_two)
    for _, members in sorted(by_source.items()):
        people += agglomerate(members, rules.within(embedder), rules.n_neighbours, leniency)
    return agglomerate(people, rules.across(embedder), rules.n_neighbours)


def doubts(
    people: Iterable[Cluster],
    faces: Mapping[str, Face],
    source_of: Mapping[str, str],
    embedder: str,
    rules: Rules,
) -> list[Doubt]:
    """Return the pairs of people that nearly merged, or that would have but for something else; nearest first.

    A person whose portraits are poor is listed beside those of the same source that look alike.
    """
    found = sorted(people, key=lambda p: min(p.members))
    spare = distances_of(embedder).doubtful
    leniency = by_voice(rules.voice_one, rules.voice_two)
    widest = spare * rules.within(embedder) * leniency.greatest
    out: list[Doubt] = []
    for i, j in neighbour_pairs(np.stack([p.mean for p in found]), widest, rules.n_neighbours) if found else ():
        a, b = found[i], found[j]
        across = {source_of[t] for t in a.members}.isdisjoint(source_of[t] for t in b.members)
        plain = rules.across(embedder) if across else rules.within(embedder)
        limit = plain if across else plain * leniency.factor(a, b)
        gap = a.distance(b)
        if gap >= spare * limit and gap >= plain:
            continue
        why: Why = "distance"
        if not a.may_join(b):
            why = "seen_at_once"
            if gap >= limit:
                continue  # seen together and not even alike: no doubt at all
        elif _poor(a, faces, rules) or _poor(b, faces, rules):
            why = "poor_portraits"
            if across or gap >= limit:
                continue
        elif gap < limit:
            why = "named_before"
        elif gap < plain:
            why = "two_voices"
        track, other = _nearest(a, b, faces)
        out.append(Doubt(track, other, gap, limit, across, compare(a, b), why))
    return sorted(out, key=lambda d: (d.distance, d.a, d.b))


def _poor(person: Cluster, faces: Mapping[str, Face], rules: Rules) -> bool:
    return all(rules.too_poor(faces[t]) for t in person.members)


def _nearest(a: Cluster, b: Cluster, faces: Mapping[str, Face]) -> tuple[str, str]:
    first, second = sorted(a.members), sorted(b.members)
    gaps = np.stack([faces[t].mean for t in first])[:, None] - np.stack([faces[t].mean for t in second])[None]
    i, j = np.unravel_index(int(np.argmin((gaps**2).sum(axis=2))), (len(first), len(second)))
    return first[int(i)], second[int(j)]
