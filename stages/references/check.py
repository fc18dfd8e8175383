"""Does a reference image show the person of this very clip: compared with the clip's own face and with others. Pure.

Who is who may err, and a track may hold two people; so each image is held against the portraits of the clip's own
track, those inside the clip where there are two, and against the other people of its source. It must lie near the own
face, and nearer to it than to anybody else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.tables.people import FaceEmbeddingRow
from schemas.time import Interval
from stages.identity.clustering import Array
from stages.identity.faces import Face, mean_face, person_faces, portrait_vectors
from stages.references.choice import Clip, Image, inside

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Portrait:
    """An embedded portrait: when, its vector [E], and what it is worth (0-1, 0 = not aligned)."""

    t_s: float
    vector: Array
    worth: float


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """How far an image lies from the clip's own face, and from the nearest other person of the source (None: nobody).

    `own` is None where the image is the only portrait there is to compare with.
    """

    own: float | None
    rival: float | None

    def passes(self, limit: float, margin: float) -> bool:
        """Say whether the image is near enough to the own face, and nearer than to anybody else by `margin`."""
        if self.own is None:
            return True
        return self.own <= limit and (self.rival is None or self.own + margin <= self.rival)


@dataclass(frozen=True, slots=True)
class Own:
    """A clip's own face: the portraits of its track by key, and those that stand for it."""

    portraits: Mapping[Key, Portrait]
    anchors: tuple[Key, ...]
    unit: bool

    def mean_without(self, key: Key | None) -> Array | None:
        """Return the mean of the anchors, without one image where one is named; None where nothing is left."""
        left = [self.portraits[k] for k in self.anchors if k != key]
        if not left:
            return None
        vectors, worth = np.stack([p.vector for p in left]), np.array([p.worth for p in left])
        return mean_face(vectors, worth, unit=self.unit)[0]


class Rivals:
    """The mean faces of the people of each source."""

    def __init__(self, faces: Mapping[str, Face], person_of: Mapping[str, str]) -> None:
        """Take tracks' faces, of which those too poor to have an aligned portrait are left out, and who they are."""
        tracks: dict[str, dict[str, Face]] = defaultdict(dict)
        for track, face in faces.items():
            if face.best > 0:
                tracks[face.source_id][track] = face
        self._people = {source: person_faces(found, person_of) for source, found in tracks.items()}

    def of(self, source_id: str, person: str, embedder: str) -> Array:
        """Return the means [n, E] of a source's people but for one, as far as one embedder made them."""
        found = self._people.get(source_id, {})
        means = [f.mean for name, f in found.items() if name != person and f.embedder == embedder]
        return np.stack(means) if means else np.zeros((0, 0))


def track_portraits(part: pa.Table) -> dict[str, dict[Key, Portrait]]:
    """Return the portraits of each track in rows of FACE_EMBEDDINGS."""
    out: dict[str, dict[Key, Portrait]] = defaultdict(dict)
    if part.num_rows:
        vectors, worth = portrait_vectors(part)
        tracks, ks = FaceEmbeddingRow.track_id.values(part), FaceEmbeddingRow.k.values(part)
        times = FaceEmbeddingRow.t_s.values(part)
        for track, k, t_s, vector, w in zip(tracks, ks, times, vectors, worth, strict=True):
            out[track][track, k] = Portrait(t_s, vector, float(w))
    return out


def own_face(portraits: Mapping[Key, Portrait], span: Interval, *, unit: bool) -> Own:
    """Choose what stands for a clip: its track's aligned portraits inside it, else all aligned ones, else all."""
    aligned = [k for k, p in portraits.items() if p.worth > 0]
    within = [k for k in aligned if span.contains(portraits[k].t_s)]
    # One portrait inside may be a bad one: two at least, or the track as a whole.
    chosen = within if len(within) > 1 else aligned or list(portraits)
    return Own(portraits, tuple(sorted(chosen)), unit)


def check_images(vectors: Mapping[Key, Array], own: Own, rivals: Array) -> dict[Key, ImageCheck]:
    """Compare images (vectors [E] by key) with the clip's own face and with the other people of its source [n, E].

    An image that stands for the clip itself is compared with the others that do.
    """
    whole = own.mean_without(None)
    out: dict[Key, ImageCheck] = {}
    for key, vector in vectors.items():
        mean = own.mean_without(key) if key in own.anchors else whole
        rival = float(np.linalg.norm(rivals - vector, axis=1).min()) if len(rivals) else None
        out[key] = ImageCheck(None if mean is None else float(np.linalg.norm(vector - mean)), rival)
    return out


def outside_first(clip: Clip, images: Iterable[Image]) -> list[Image]:
    """Return the images outside the clip; those inside it too where no other is without much text."""
    everything = list(images)
    outside = [i for i in everything if not inside(i, clip)]
    return everything if all(i.covered for i in outside) else outside
