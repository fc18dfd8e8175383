"""Which detection belongs to which face: association by position, from frame to frame. Pure geometry, no model.

A face is followed by its own landmarks; the detector is asked now and then for new faces and for lost ones. A track
survives short occlusion, and never crosses a cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from annotators.protocols import Box, FaceBox


@dataclass(slots=True)
class Followed:
    """A face being followed: where it was last, and since when it has not been confirmed."""

    number: int
    box: Box
    score: float
    missed: int = 0
    """grid points since the landmarker or the detector last confirmed the face"""
    meshed: int = 0
    """grid points with a mesh so far"""
    rows: list[int] = field(default_factory=list)


def iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes, 0-1."""
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    if w <= 0 or h <= 0:
        return 0.0
    shared = w * h
    return shared / (a.w * a.h + b.w * b.h - shared)


def near(a: Box, b: Box) -> float:
    """Return how well two boxes may be one face, 0-1: by centre distance in face sizes and by size ratio."""
    size_a, size_b = max(a.w, a.h), max(b.w, b.h)
    if min(size_a, size_b) <= 0:
        return 0.0
    dx = (a.x + a.w / 2) - (b.x + b.w / 2)
    dy = (a.y + a.h / 2) - (b.y + b.h / 2)
    distance = (dx * dx + dy * dy) ** 0.5 / ((size_a + size_b) / 2)
    ratio = min(size_a, size_b) / max(size_a, size_b)
    return max(0.0, 1.0 - distance / 0.7) if ratio > 0.45 else 0.0


def associate(
    faces: Sequence[Followed], found: Sequence[FaceBox]
) -> tuple[list[tuple[Followed, FaceBox]], list[FaceBox]]:
    """Pair followed faces with detections, best first, each at most once; return the pairs and the new faces.

    Deterministic: ties go to the older face and the higher score.
    """
    pairs = [(near(f.box, d), -f.number, i, f, d) for f in faces for i, d in enumerate(found)]
    pairs = sorted((p for p in pairs if p[0] > 0.0), key=lambda p: (-p[0], -p[1], p[2]))
    taken_faces: set[int] = set()
    taken: set[int] = set()
    out = []
    for _, _, i, face, detection in pairs:
        if face.number not in taken_faces and i not in taken:
            taken_faces.add(face.number)
            taken.add(i)
            out.append((face, detection))
    return out, [d for i, d in enumerate(found) if i not in taken]


def duplicate_faces(faces: Sequence[Followed], limit: float = 0.5) -> set[int]:
    """Return the numbers of faces that have come to follow the same face as an older one."""
    out: set[int] = set()
    ordered = sorted(faces, key=lambda f: (-f.meshed, f.number))
    for i, face in enumerate(ordered):
        if face.number in out:
            continue
        out |= {other.number for other in ordered[i + 1 :] if iou(face.box, other.box) > limit}
    return out
