"""Each track's face as one vector: the mean of its portraits' embeddings, good portraits before poor ones. Pure.

Only portraits whose landmarks were found count where there are any: without them the face is cut by its box, mostly
from full profile or where there is no face at all, and such vectors lie anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from annotators.face.distances import distances_of
from schemas.tables.people import FaceEmbeddingRow
from stages.identity.clustering import Array

_LEAST = 1e-3
"""Weight of a portrait that shows next to nothing, so that a mean exists."""


@dataclass(frozen=True, slots=True)
class Face:
    """A mean embedding [E], its weight, the best portrait's quality (0-1, 0 = none aligned), the embedder, a source."""

    mean: Array
    weight: float
    best: float
    embedder: str
    source_id: str


def track_faces(parts: Iterable[pa.Table]) -> dict[str, Face]:
    """Return the face of every track in FACE_EMBEDDINGS.

    The scatter within a track is left out, so that distances between tracks are distances of means: it is noise of
    single portraits, which the mean averages away.
    """
    out: dict[str, Face] = {}
    for part in parts:
        if not part.num_rows:
            continue
        vectors, quality = portrait_vectors(part)
        names, sources = FaceEmbeddingRow.annotator.values(part), FaceEmbeddingRow.source_id.values(part)
        rows: dict[str, list[int]] = defaultdict(list)
        for i, track_id in enumerate(FaceEmbeddingRow.track_id.values(part)):
            rows[track_id].append(i)
        for track_id, index in rows.items():
            embedder = names[index[0]]
            mean, weight = mean_face(vectors[index], quality[index], unit=distances_of(embedder).unit)
            out[track_id] = Face(mean, weight, float(quality[index].max()), embedder, sources[index[0]])
    return out


def person_faces(faces: Mapping[str, Face], person_of: Mapping[str, str]) -> dict[str, Face]:
    """Return each person's face: the weighted mean of their tracks', those with an aligned portrait if there are any.

    A person's tracks are of one embedder, as others are never compared.
    """
    tracks: dict[str, list[Face]] = defaultdict(list)
    for track, face in sorted(faces.items()):
        if track in person_of:
            tracks[person_of[track]].append(face)
    out: dict[str, Face] = {}
    for person, found in tracks.items():
        usable = [f for f in found if f.best > 0] or found
        usable = [f for f in usable if f.embedder == usable[0].embedder]
        weight = sum(f.weight for f in usable)
        mean = sum((f.weight * f.mean for f in usable), np.zeros_like(usable[0].mean)) / weight
        if distances_of(usable[0].embedder).unit:
            mean = mean / max(1e-12, float(np.linalg.norm(mean)))
        best = max(f.best for f in usable)
        out[person] = Face(mean, weight, best, usable[0].embedder, usable[0].source_id)
    return out


def portrait_vectors(part: pa.Table) -> tuple[Array, Array]:
    """Return embeddings [n, E] of rows of FACE_EMBEDDINGS, and what each is quality [n], 0-1; 0 = not aligned."""
    yaw = FaceEmbeddingRow.yaw_deg.array(part).astype(np.float64)
    quality = FaceEmbeddingRow.quality.array(part).astype(np.float64)
    return np.array(FaceEmbeddingRow.embedding.values(part), np.float64), quality * frontality(yaw)


def mean_face(vectors: Array, quality: Array, *, unit: bool) -> tuple[Array, float]:
    """Return the weighted mean [E] of vectors [n, E] and its weight; `unit` scales it to length 1.

    The weight is the root of what a portrait is quality: a little more say for the poorer ones finds more of a person's
    tracks, as they show other sides of the face.
    """
    weights = np.sqrt(np.maximum(quality, 0.0)) if quality.max() > 0 else np.full(len(quality), _LEAST)
    total = float(weights.sum())
    mean: Array = weights @ vectors / total
    return mean / max(1e-12, float(np.linalg.norm(mean))) if unit else mean, total


def frontality(yaw_deg: Array) -> Array:
    """Return how much a head turned by yaw (degrees) shows for identity: 1 in front, 0 from the side; cos squared.

    0 where the yaw is not known.
    """
    known = np.isfinite(yaw_deg)
    return np.where(known, np.maximum(np.cos(np.radians(np.where(known, yaw_deg, 90.0))), 0.0) ** 2, 0.0)
