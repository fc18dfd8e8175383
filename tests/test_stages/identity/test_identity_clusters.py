"""From faces to people: cannot-links, voices, limits by embedder, doubts; independent of order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import row

from annotators.face.distances import DLIB, RETAIL, distances_of
from annotators.face.dlib_embedder import FaceEmbedder
from annotators.face.face_reid import FaceReid
from schemas import tables as t
from stages.identity.clustering import Cluster, agglomerate
from stages.identity.clusters import Rules, clusters_of, doubts, merge
from stages.identity.faces import Face, frontality, mean_face, person_faces, track_faces
from stages.identity.voices import by_voice, compare, voices_of

RULES = Rules(None, None, 0.1, 0.04, 0.07, 32)
RETAIL_NAME, SIZE = FaceReid.name, 256


def _face(mean: np.ndarray, source: str = "a", best: float = 0.8, embedder: str = RETAIL_NAME) -> Face:
    return Face(mean / np.linalg.norm(mean), 1.0, best, embedder, source)


def _apart(distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at a distance."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=SIZE)
    a /= np.linalg.norm(a)
    b = rng.normal(size=SIZE)
    b -= (b @ a) * a
    b /= np.linalg.norm(b)
    cosine = 1 - distance**2 / 2
    return a, cosine * a + np.sqrt(1 - cosine**2) * b


def _people(
    faces: dict[str, Face],
    apart: dict[str, set[str]] | None = None,
    voices: dict[str, frozenset[str]] | None = None,
    rules: Rules = RULES,
) -> set[frozenset[str]]:
    source_of = {k: f.source_id for k, f in faces.items()}
    found: set[frozenset[str]] = set()
    for embedder, clusters in clusters_of(faces, apart or {}, voices or {}, rules).items():
        found |= {p.members for p in merge(clusters.values(), source_of, embedder, rules)}
    return found


def _doubts(faces: dict[str, Face], apart: dict[str, set[str]], voices: dict[str, frozenset[str]]) -> list[Any]:
    source_of = {k: f.source_id for k, f in faces.items()}
    clusters = clusters_of(faces, apart, voices, RULES)[RETAIL_NAME]
    people = merge(clusters.values(), source_of, RETAIL_NAME, RULES)
    alone = [Cluster(frozenset({k}), 1.0, f.mean) for k, f in faces.items() if k not in clusters]
    return doubts([*people, *alone], faces, source_of, RETAIL_NAME, RULES)


# ------------------------------------------------------------------ limits


def test_limits_go_with_the_embedder_and_across_is_never_wider() -> None:
    assert distances_of(RETAIL_NAME) is RETAIL and distances_of(FaceEmbedder.name) is DLIB
    assert distances_of("insightface-arcface:mine.onnx") is DLIB
    for own in (RETAIL, DLIB):
        assert 0 < own.across_sources <= own.within_source and own.doubtful > 1
    assert Rules(0.5, 0.9, 0.1, 0, 0, 32).across(RETAIL_NAME) == 0.5


@pytest.mark.parametrize(("distance", "other", "one"), [(1.08, "a", True), (1.12, "a", False), (0.95, "b", False)])
def test_inside_a_source_the_limit_is_wider(distance: float, other: str, one: bool) -> None:
    a, b = _apart(distance)
    assert len(_people({"a1": _face(a), "x2": _face(b, other)})) == (1 if one else 2)


def test_faces_of_two_embedders_are_never_compared() -> None:
    a, _ = _apart(1.0)
    faces = {"a1": _face(a), "a2": Face(a[:128], 1.0, 0.8, FaceEmbedder.name, "a")}
    assert len(_people(faces)) == 2


def test_poor_faces_stand_alone() -> None:
    a, b = _apart(0.3)
    faces = {"a1": _face(a), "a2": _face(b, best=0.05)}
    assert _people(faces) == {frozenset({"a1"})}
    (doubt,) = _doubts(faces, {}, {})
    assert doubt.why == "poor_portraits" and {doubt.a, doubt.b} == {"a1", "a2"}


# ------------------------------------------------------------------ voices


def test_one_voice_widens_and_two_voices_narrow() -> None:
    one, two = {"a1": frozenset("v"), "a2": frozenset("v")}, {"a1": frozenset("v"), "a2": frozenset("w")}
    for distance, heard, n in ((1.12, one, 1), (1.12, {}, 2), (1.05, {}, 1), (1.05, two, 2), (1.2, one, 2)):
        a, b = _apart(distance)
        assert len(_people({"a1": _face(a), "a2": _face(b)}, voices=heard)) == n, (distance, heard)


def test_voices_count_where_they_are_bound_and_heard() -> None:
    rows = [
        row(t.BINDINGS, speaker_id="v", track_id="a1", bound=True, heard_s=2.0),
        row(t.BINDINGS, speaker_id="w", track_id="a1", bound=False, heard_s=9.0),
        row(t.BINDINGS, speaker_id="w", track_id="a2", bound=True, heard_s=0.1),
    ]
    assert voices_of(rows) == {"a1": frozenset("v")}
    a, b = (Cluster(frozenset({n}), 1.0, np.zeros(2), voices=frozenset(v)) for n, v in (("a", "vx"), ("b", "x")))
    nobody = Cluster(frozenset("c"), 1.0, np.zeros(2))
    assert compare(a, b) == compare(b, a) == "one" and compare(a, nobody) == "unknown"
    leniency = by_voice(0.1, 0.2)
    assert leniency.factor(a, b) == leniency.greatest == 1.1 and leniency.factor(a, nobody) == 1.0


# ------------------------------------------------------------------ doubts


def test_what_nearly_merged_is_listed_with_its_reason() -> None:
    a, b = _apart(1.15)
    (doubt,) = _doubts({"a1": _face(a), "a2": _face(b)}, {}, {})
    assert (doubt.a, doubt.b, doubt.why, doubt.across) == ("a1", "a2", "distance", False)
    assert doubt.distance == pytest.approx(1.15) and doubt.limit == pytest.approx(RETAIL.within_source)
    a, b = _apart(1.05)
    faces = {"a1": _face(a), "a2": _face(b)}
    (doubt,) = _doubts(faces, {}, {"a1": frozenset("v"), "a2": frozenset("w")})
    assert doubt.why == "two_voices" and doubt.voices == "two"
    (doubt,) = _doubts(faces, {"a1": {"a2"}, "a2": {"a1"}}, {})
    assert doubt.why == "seen_at_once"
    (doubt,) = _doubts({"a1": _face(a), "b2": _face(b, "b")} | {}, {}, {}) or [None]
    assert doubt is None  # across sources 1.05 is far


def test_what_is_far_or_one_is_not_listed() -> None:
    for distance in (0.5, 1.35):
        a, b = _apart(distance)
        assert _doubts({"a1": _face(a), "a2": _face(b)}, {}, {}) == []


# ------------------------------------------------------------------ properties

_points = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.sampled_from(["", "v", "w"])), min_size=2, max_size=14
)


@settings(deadline=None, max_examples=40)
@given(_points, st.integers(0, 500), st.sets(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=6))
def test_cannot_links_hold_and_order_does_not_matter(
    spec: list[tuple[int, str, str]], seed: int, pairs: set[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(5, SIZE)) / np.sqrt(SIZE)
    faces, voices = {}, {}
    for i, (who, source, voice) in enumerate(spec):
        name = f"{source}{i:02d}"
        faces[name] = _face(people[who] + rng.normal(size=SIZE) * rng.uniform(0.2, 1.2) / np.sqrt(SIZE), source)
        voices[name] = frozenset({source + voice} if voice else ())
    names = list(faces)
    barred = [(names[i], names[j]) for i, j in pairs if i != j and i < len(names) and j < len(names)]
    apart: dict[str, set[str]] = {}
    for a, b in barred:
        apart.setdefault(a, set()).add(b)
        apart.setdefault(b, set()).add(a)
    found = _people(faces, apart, voices)
    assert set().union(*found) == set(names)
    for group in found:
        assert not any(a in group and b in group for a, b in barred)
    order = list(rng.permutation(names))
    assert _people({n: faces[n] for n in order}, apart, {n: voices[n] for n in order}) == found


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 20), st.integers(0, 300))
def test_leniency_that_says_nothing_changes_nothing(n: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, 6))
    clusters = [Cluster(frozenset({f"{i:03d}"}), 1.0, p) for i, p in enumerate(points)]
    plain = [c.members for c in agglomerate(clusters, 2.0)]
    assert [c.members for c in agglomerate(clusters, 2.0, leniency=by_voice(0.3, 0.3))] == plain


# ------------------------------------------------------------------ faces


def test_a_tracks_face_is_made_of_aligned_portraits() -> None:
    a, b = _apart(1.4)
    rows = [
        row(t.FACE_EMBEDDINGS, track_id="a1", source_id="a", k=k, embedding=v.tolist(), quality=0.6, yaw_deg=yaw,
            annotator=RETAIL_NAME)
        for k, v, yaw in ((0, a, 10.0), (25, b, None), (50, a, -10.0))
    ]  # fmt: skip
    rows += [row(t.FACE_EMBEDDINGS, track_id="a2", source_id="a", k=0, embedding=b.tolist(), quality=0.6,
                 annotator=RETAIL_NAME)]  # fmt: skip
    faces = track_faces([t.FACE_EMBEDDINGS.from_rows(rows)])
    np.testing.assert_allclose(faces["a1"].mean, a, atol=1e-6)
    assert faces["a2"].best == 0.0 and faces["a1"].best == pytest.approx(0.6 * np.cos(np.radians(10)) ** 2)
    both = person_faces(faces, {"a1": "p", "a2": "p"})["p"]
    np.testing.assert_allclose(both.mean, a, atol=1e-6)


@given(st.lists(st.floats(-90, 90), min_size=1, max_size=8))
def test_frontality_is_one_in_front_and_nothing_where_unknown(yaws: list[float]) -> None:
    worth = frontality(np.array([*yaws, np.nan, 0.0]))
    assert ((worth >= 0) & (worth <= 1)).all() and worth[-2] == 0 and worth[-1] == 1


@given(st.integers(1, 6), st.integers(0, 50))
def test_means_of_unit_vectors_have_length_one(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8)) + 2.0
    mean, weight = mean_face(vectors, rng.uniform(0, 1, n), unit=True)
    assert np.linalg.norm(mean) == pytest.approx(1.0) and weight > 0
    plain, _ = mean_face(vectors, np.ones(n), unit=False)
    np.testing.assert_allclose(plain, vectors.mean(axis=0))
