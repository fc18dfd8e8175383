"""Identities: people are found across sources, cannot-links hold, splits are disjoint, order does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from table_rows import row

from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from stages.identity.clustering import Cluster, agglomerate, neighbour_pairs
from stages.identity.identity import Identity, IdentitySettings, tracks_apart
from stages.identity.splits import group_name

DIMENSIONS = 128


def _people(n: int, seed: int = 0) -> np.ndarray:
    """People about 0.8 apart, as dlib's embeddings are."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.8 / np.sqrt(2 * DIMENSIONS), (n, DIMENSIONS))


def _seen(person: np.ndarray, rng: np.random.Generator, distance: float = 0.25) -> np.ndarray:
    """A portrait's embedding, `distance` from another one of the same person."""
    return person + rng.normal(0, distance / np.sqrt(2 * DIMENSIONS), DIMENSIONS)


def _clusters(points: np.ndarray, apart: dict[int, set[int]] | None = None) -> list[Cluster]:
    barred = apart or {}
    return [
        Cluster(frozenset({f"{i:05d}"}), 1.0, p, 0.0, frozenset(f"{j:05d}" for j in barred.get(i, ())))
        for i, p in enumerate(points)
    ]


def _partition(clusters: list[Cluster]) -> set[frozenset[str]]:
    return {c.members for c in clusters}


# ------------------------------------------------------------------ clustering


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 1000))
def test_agrees_with_average_linkage_on_squared_distances(n: int, n_people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = _people(n_people, seed)
    points = np.stack([_seen(people[rng.integers(n_people)], rng, 0.5) for _ in range(n)])
    tree = linkage(pdist(points, "sqeuclidean"), "average")
    labels = fcluster(tree, 0.6**2, "distance")
    expected = {frozenset(f"{i:05d}" for i in np.nonzero(labels == v)[0]) for v in set(labels)}
    assert _partition(agglomerate(_clusters(points), 0.6, n_neighbours=n)) == expected


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_few_neighbours_find_the_same_people(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    who = rng.integers(0, 5, 60)
    points = np.stack([_seen(p, rng) for p in _people(5, seed)[who]])
    found = _partition(agglomerate(_clusters(points), 0.52, n_neighbours=k))
    assert found == {frozenset(f"{i:05d}" for i in np.nonzero(who == p)[0]) for p in set(who)}


def test_two_tight_groups_of_one_person_meet_in_a_later_round() -> None:
    points = np.zeros((40, 2))
    points[:20, 0] = np.linspace(0, 0.01, 20)
    points[20:, 0] = 0.3 + np.linspace(0, 0.01, 20)
    assert len(agglomerate(_clusters(points), 0.5, n_neighbours=3)) == 1


def test_order_of_input_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    clusters = _clusters(rng.normal(0, 0.3, (80, 3)))
    shuffled = [clusters[i] for i in rng.permutation(80)]
    assert _partition(agglomerate(clusters, 0.5, 4)) == _partition(agglomerate(shuffled, 0.5, 4))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 25))
def test_cannot_links_are_never_broken(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    apart: dict[int, set[int]] = {}
    for a, b in rng.integers(0, n, (n, 2)):
        if a != b:
            apart.setdefault(int(a), set()).add(int(b))
            apart.setdefault(int(b), set()).add(int(a))
    found = agglomerate(_clusters(rng.normal(0, 0.1, (n, 4)), apart), 1.0)
    for cluster in found:
        assert not any(f"{b:05d}" in cluster.members for a in apart if f"{a:05d}" in cluster.members for b in apart[a])


def test_neighbour_blocks_agree_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(0, 1, (150, 3))
    whole = list(neighbour_pairs(points, 0.9, 5))
    monkeypatch.setattr("stages.identity.clustering._BLOCK", 16)
    assert list(neighbour_pairs(points, 0.9, 5)) == whole
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    expected = {
        (min(i, int(j)), max(i, int(j))) for i in range(150) for j in np.argsort(gaps[i])[:5] if gaps[i, j] < 0.9
    }
    assert set(whole) == expected


# ------------------------------------------------------------------ the stage


def test_tracks_of_a_shot_are_apart_only_when_seen_together() -> None:
    tracks = [
        row(t.TRACKS, track_id="a", shot_id="s", start_s=0.0, end_s=4.0),
        row(t.TRACKS, track_id="b", shot_id="s", start_s=3.9, end_s=9.0),  # one face, tracked anew
        row(t.TRACKS, track_id="c", shot_id="s", start_s=0.0, end_s=9.0),
        row(t.TRACKS, track_id="d", shot_id="other", start_s=0.0, end_s=9.0),
    ]
    assert tracks_apart(tracks, 0.2) == {"a": {"c"}, "b": {"c"}, "c": {"a", "b"}}


def _dataset(seed: int = 0) -> tuple[dict[Any, list[Any]], dict[str, str]]:
    """Six sources: x and y together in three, z alone in two, w in a dark one."""
    rng = np.random.default_rng(seed)
    x, y, z, w = _people(4, seed)
    cast = {"a": [x, y], "b": [x, y], "c": [y, x], "d": [z], "e": [z], "f": [w]}
    truth, tracks, embeddings = {}, [], []
    for s, people in cast.items():
        source = s * 16
        for i, person in enumerate(people):
            track = f"{source}-t{i:05d}"
            who = next(n for n, p in zip("xyzw", (x, y, z, w), strict=True) if p is person)
            truth[track] = who
            tracks.append(
                row(t.TRACKS, track_id=track, source_id=source, shot_id=f"{source}-s0", end_s=9.0, duration_s=9.0)
            )
            for k in range(4):
                embeddings.append(
                    row(
                        t.FACE_EMBEDDINGS,
                        track_id=track,
                        source_id=source,
                        k=25 * k,
                        embedding=_seen(person, rng, 0.35),
                        yaw_deg=0.0,
                        quality=0.05 if s == "f" else 0.8,
                    )
                )
    parts: dict[Any, list[Any]] = {
        t.TRACKS: [t.TRACKS.from_rows(tracks)],
        t.FACE_EMBEDDINGS: [
            t.FACE_EMBEDDINGS.from_rows([e for e in embeddings if e["source_id"] == s * 16]) for s in cast
        ],
    }
    return parts, truth


def _run(parts: dict[Any, list[Any]], **values: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    out = Identity(IdentitySettings(**values)).run(WorkItem(), MemoryInputs(Path("none"), parts))
    members = {r["track_id"]: r["identity_id"] for r in out.tables[t.TRACK_IDENTITIES].to_pylist()}
    return out.tables[t.IDENTITIES].to_pylist(), members


def test_people_are_found_across_sources() -> None:
    parts, truth = _dataset()
    identities, members = _run(parts)
    assert len(identities) == 4
    assert {(members[a] == members[b]) == (truth[a] == truth[b]) for a in truth for b in truth} == {True}
    by_sources = sorted(i["n_sources"] for i in identities)
    assert by_sources == [1, 2, 3, 3]
    reordered = {**parts, t.FACE_EMBEDDINGS: parts[t.FACE_EMBEDDINGS][::-1]}
    assert _run(reordered) == (identities, members)


def test_no_person_is_in_two_splits_and_session_mates_stay_together() -> None:
    parts, _ = _dataset()
    registered = [row(t.INPUTS, path=f"/{s}", source_id=s * 16, session="one" if s in "cd" else None) for s in "abcdef"]
    identities, members = _run({**parts, t.INPUTS: [t.INPUTS.from_rows(registered)]}, val=0.3, test=0.3)
    group = {i["identity_id"]: (i["group_id"], i["split"]) for i in identities}
    assert len({group[m] for track, m in members.items() if track[0] in "abcde"}) == 1
    assert group[members["a" * 16 + "-t00000"]][0] == group_name("a" * 16)
    copies = [row(t.DUPLICATES, source_id=s * 16, near_duplicate_of="a" * 16 if s == "f" else None) for s in "abcdef"]
    identities, members = _run({**parts, t.DUPLICATES: [t.DUPLICATES.from_rows(copies)]})
    group = {i["identity_id"]: (i["group_id"], i["split"]) for i in identities}
    assert group[members["f" * 16 + "-t00000"]] == group[members["a" * 16 + "-t00000"]]


def test_a_face_too_dark_to_tell_stays_with_its_source() -> None:
    parts, _ = _dataset()
    dark = parts[t.FACE_EMBEDDINGS][0].to_pylist()[0]["embedding"]  # looks like x
    rows = [{**r, "embedding": dark} for r in parts[t.FACE_EMBEDDINGS][5].to_pylist()]
    parts[t.FACE_EMBEDDINGS][5] = t.FACE_EMBEDDINGS.from_rows(rows)
    _, members = _run(parts)
    assert list(members.values()).count(members["f" * 16 + "-t00000"]) == 1
    _, members = _run(parts, min_quality=0.0)
    assert list(members.values()).count(members["f" * 16 + "-t00000"]) == 4


def test_a_track_without_embeddings_is_somebody() -> None:
    parts, _ = _dataset()
    parts[t.FACE_EMBEDDINGS] = parts[t.FACE_EMBEDDINGS][:5]
    identities, members = _run(parts)
    alone = members["f" * 16 + "-t00000"]
    assert [i["n_tracks"] for i in identities if i["identity_id"] == alone] == [1]


def test_shares_that_exceed_one_are_refused() -> None:
    with pytest.raises(ValueError, match="exceed 1"):
        IdentitySettings(val=0.6, test=0.5)
