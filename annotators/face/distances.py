"""How far apart two faces of one person lie, for each embedder: the limits that go with its numbers.

L2 distances. Limits inside a source are wider than across sources: a source shows a handful of people, so few pairs can
go wrong, while the pairs of a dataset's people grow with their square. How the limits were chosen, and what errors
they leave, is in docs/models.md (`benchmarks/identity.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from annotators.face.dlib_embedder import FaceEmbedder
from annotators.face.face_reid import FaceReid


@dataclass(frozen=True, slots=True)
class FaceDistances:
    """Limits of one embedder.

    Attributes:
        unit: a mean of vectors is scaled to length 1, as the vectors themselves are.
        within_source: below it two tracks of one source are one person.
        across_sources: below it people of two sources are one person.
        doubtful: share of these limits up to which two people may still be one, and are listed for people to judge.
        portrait: farthest from the mean of a person's other portraits that one portrait of that person is trusted.
    """

    unit: bool
    within_source: float
    across_sources: float
    doubtful: float
    portrait: float


RETAIL = FaceDistances(unit=True, within_source=1.10, across_sources=0.90, doubtful=1.12, portrait=1.0)
DLIB = FaceDistances(unit=False, within_source=0.40, across_sources=0.33, doubtful=1.25, portrait=0.45)


def distances_of(annotator: str) -> FaceDistances:
    """Return the limits of the embedder that an `annotator` column names.

    An ArcFace network of one's own is scaled to dlib's line between two people and was not measured: dlib's limits.
    """
    return {FaceReid.name: RETAIL, FaceEmbedder.name: DLIB}.get(annotator, DLIB)
