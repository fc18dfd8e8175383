"""Agglomerative clustering with average linkage that needs no N x N matrix and honours cannot-link pairs.

A cluster is its weight, weighted mean and scatter (weighted mean of squared distances to the mean). From these the
root mean square distance between the members of two clusters is exact: sqrt(|m_a - m_b|^2 + s_a + s_b). A merge is
only possible where some pair of the two clusters already lies below the threshold, so the pairs below it among the k
nearest neighbours are all that is looked at; rounds with fresh neighbours repeat until nothing merges. Memory grows
with N * k, time with N^2 * d multiplications in blocked matrix products (a million 128-number clusters: minutes on a
large machine) plus N * k heap operations. Equal inputs in any order give equal clusters up to their numbering.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_BLOCK = 2048
"""Rows and columns of one distance block: 32 MiB."""


@dataclass(slots=True)
class Cluster:
    """Members (any ids), their weight, weighted mean [d] and scatter.

    `apart` holds members it may never join; `voices` what else is known of it, for a `leniency`. Clusters with two
    different names never join; a union has the name of either part.
    """

    members: frozenset[str]
    weight: float
    mean: Array
    scatter: float = 0.0
    apart: frozenset[str] = field(default_factory=frozenset)
    voices: frozenset[str] = field(default_factory=frozenset)
    name: str = ""

    def distance(self, other: Cluster) -> float:
        """Return the root mean square distance between the members of two clusters (weighted)."""
        gap = self.mean - other.mean
        return float(np.sqrt(gap @ gap + self.scatter + other.scatter))

    def may_join(self, other: Cluster) -> bool:
        """Say whether no member of one is barred from a member of the other, nor their names differ."""
        if self.name and other.name and self.name != other.name:
            return False
        return self.apart.isdisjoint(other.members) and other.apart.isdisjoint(self.members)

    def joined(self, other: Cluster) -> Cluster:
        """Return the union: means and scatters combine by weight (the parallel axis theorem)."""
        weight = self.weight + other.weight
        a, b = self.weight / weight, other.weight / weight
        gap = self.mean - other.mean
        scatter = a * self.scatter + b * other.scatter + a * b * float(gap @ gap)
        members = self.members | other.members
        return Cluster(
            members,
            weight,
            a * self.mean + b * other.mean,
            scatter,
            self.apart | other.apart,
            self.voices | other.voices,
            self.name or other.name,
        )


@dataclass(frozen=True, slots=True)
class Leniency:
    """Other evidence than distance: a factor on the threshold for two clusters, and the greatest that it can be."""

    factor: Callable[[Cluster, Cluster], float]
    greatest: float


NONE = Leniency(lambda _a, _b: 1.0, 1.0)


def agglomerate(
    clusters: Iterable[Cluster], threshold: float, n_neighbours: int = 32, leniency: Leniency = NONE
) -> list[Cluster]:
    """Merge the nearest clusters until no two that may join lie below `threshold`; sorted by smallest member.

    Args:
        clusters: starting clusters with positive weights, usually one a member.
        threshold: largest root mean square distance at which two clusters become one.
        n_neighbours: nearest neighbours looked at a round; fewer save memory and cost rounds.
        leniency: what two clusters' threshold is multiplied by; distances count in its units.
    """
    found = sorted(clusters, key=lambda c: min(c.members))
    if any(not c.weight > 0 for c in found):
        raise ValueError("a cluster needs a positive weight")
    while len(found) > 1:
        pairs = [
            (a, b)
            for a, b in neighbour_pairs(np.stack([c.mean for c in found]), threshold * leniency.greatest, n_neighbours)
            if found[a].may_join(found[b])
        ]
        merged = _merge(found, pairs, threshold, leniency)
        if len(merged) == len(found):
            break
        found = sorted(merged, key=lambda c: min(c.members))
    return found


def neighbour_pairs(points: Array, radius: float, n_neighbours: int) -> Iterator[tuple[int, int]]:
    """Yield index pairs (a < b), in order, of points nearer than `radius` of which one is among the other's nearest.

    `points` is [n, d]. Distances are computed block by block: memory stays at a few blocks.
    """
    n = len(points)
    squares = np.einsum("nd,nd->n", points, points)
    pairs: set[tuple[int, int]] = set()
    for top in range(0, n, _BLOCK):
        rows = slice(top, min(top + _BLOCK, n))
        gaps, columns = _nearest(points, squares, rows, radius, n_neighbours)
        for row, slot in zip(*np.nonzero(np.isfinite(gaps)), strict=True):
            a, b = top + int(row), int(columns[row, slot])
            pairs.add((min(a, b), max(a, b)))
    yield from sorted(pairs)


def _nearest(points: Array, squares: Array, rows: slice, radius: float, k: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return the k smallest squared distances [rows, k] and their columns; infinite where there are fewer."""
    n_rows = rows.stop - rows.start
    best, index = np.full((n_rows, k), np.inf), np.zeros((n_rows, k), np.int64)
    for left in range(0, len(points), _BLOCK):
        columns = np.arange(left, min(left + _BLOCK, len(points)))
        block = squares[rows, None] + squares[columns] - 2 * points[rows] @ points[columns].T
        # Rounding at the radius is harmless: what is merged is decided by the exact distance later.
        block[block > radius**2 + 1e-9] = np.inf
        block[np.arange(rows.start, rows.stop)[:, None] == columns] = np.inf
        both = np.concatenate([best, block], axis=1)
        names = np.concatenate([index, np.broadcast_to(columns, block.shape)], axis=1)
        order = np.argpartition(both, min(k, both.shape[1]) - 1, axis=1)[:, :k]
        best, index = np.take_along_axis(both, order, axis=1), np.take_along_axis(names, order, axis=1)
    return best, index


def _merge(
    clusters: list[Cluster], pairs: Iterable[tuple[int, int]], threshold: float, leniency: Leniency
) -> list[Cluster]:
    """Merge along a neighbour graph, nearest first; neighbours of a union are those of its parts."""

    def distance(a: Cluster, b: Cluster) -> float:
        return a.distance(b) / leniency.factor(a, b)

    alive: dict[int, Cluster] = dict(enumerate(clusters))
    near: dict[int, set[int]] = {i: set() for i in alive}
    heap: list[tuple[float, int, int]] = []
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
        heap.append((distance(alive[a], alive[b]), a, b))
    heapq.heapify(heap)
    fresh = len(clusters)
    while heap:
        nearest, a, b = heapq.heappop(heap)
        if nearest >= threshold:
            break
        if a not in alive or b not in alive:
            continue
        union = alive.pop(a).joined(alive.pop(b))
        around = (near.pop(a) | near.pop(b)) - {a, b}
        alive[fresh], near[fresh] = union, set()
        for c in sorted(around):
            near[c] -= {a, b}
            if not union.may_join(alive[c]):
                continue
            near[c].add(fresh)
            near[fresh].add(c)
            gap = distance(union, alive[c])
            if gap < threshold:
                heapq.heappush(heap, (gap, c, fresh))
        fresh += 1
    return list(alive.values())
