"""Two people followed as one: where a tracklet's portraits begin to show somebody else.

A tracker joins faces by place, so it follows another face where a change of shot was missed, or where faces cross.
Portraits before and after must disagree as two people do, and portraits on either side agree as one person does: a
face that turns away, or a hand before it, disagrees once and comes back.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.face.portrait_embedder import PortraitEmbedder
from annotators.protocols import Box
from curation.media.encode import decode_jpeg
from schemas.tables.scan import FaceFrameRow, PortraitRow

Vector = npt.NDArray[np.float32]

MIN_FACE_PX, MAX_YAW_DEG, MAX_PITCH_DEG, MIN_LUMA = 40.0, 40.0, 35.0, 30.0
"""A portrait beyond these is not compared: at a large turn, far away and in the dark one person looks like two."""

_OTHERS = 1.15
"""Mean distance (L2 of unit vectors) of portraits before and after from which they are of two people. Different people:
1.12 and up in 99.9 % of pairs; one person 1.06 or less in 95 %, the rest mostly single bad portraits."""
_OTHERS_LEAST = 1.0
"""And the least distance of any two of them."""
_AGREE = 0.3
"""How much nearer the portraits of either side lie to one another."""
SIDE = 3  # portraits compared on either side
_JUMP = 0.15  # face widths: a step of the landmarks that stands for a second portrait
_JUMP_RATIO = 3.0


@dataclass(frozen=True, slots=True)
class Portrait:
    """One portrait of a tracklet that can be compared."""

    k: int
    vector: Vector


def embed_row(embedder: PortraitEmbedder, portrait: PortraitRow) -> Vector:
    """Return the vector of a PORTRAITS row that has landmarks, float32 [256] of length 1."""
    five = np.asarray(portrait.points_xy, np.float32).reshape(-1, 2)
    return embedder.embed(decode_jpeg(portrait.image), five, Box(*portrait.face_xywh))


def comparable(portrait: PortraitRow, face: FaceFrameRow | None) -> bool:
    """Say whether a portrait shows its face well enough; `face` is what was measured at the same grid point."""
    if face is None or face.yaw_deg is None or face.pitch_deg is None or len(portrait.points_xy) == 0:
        return False
    turned = abs(face.yaw_deg) > MAX_YAW_DEG or abs(face.pitch_deg) > MAX_PITCH_DEG
    return not turned and portrait.face_px >= MIN_FACE_PX and portrait.luma_mean >= MIN_LUMA


def different(before: Sequence[Vector], after: Sequence[Vector]) -> bool | None:
    """Say whether portraits before and after a place show two people; None where one of a side leaves it open.

    The nearest three of either side are given, in any order; no portrait on a side is no evidence: False.
    """
    if not before or not after:
        return False
    cross = [_distance(a, b) for a in before for b in after]
    if float(np.mean(cross)) < _OTHERS or min(cross) < _OTHERS_LEAST:
        return False
    if len(before) < 2 or len(after) < 2:
        return None
    within = max(float(np.mean([_distance(a, b) for a, b in itertools.combinations(s, 2)])) for s in (before, after))
    return float(np.mean(cross)) - within >= _AGREE


def turns(portraits: Sequence[Portrait], steps: Mapping[int, float]) -> list[int]:
    """Return the grid points at which a tracklet goes on to another person, in order.

    Args:
        portraits: of one tracklet, comparable ones only, in order of time.
        steps: how far its landmarks moved since the frame before, by grid point, in face widths.
    """
    out: list[int] = []
    start = 0
    for i in range(1, len(portraits)):
        before = [p.vector for p in portraits[max(start, i - SIDE) : i]]
        after = [p.vector for p in portraits[i : i + SIDE]]
        verdict = different(before, after)
        if verdict is False:
            continue
        place = _largest_step(steps, portraits[i - 1].k, portraits[i].k)
        if verdict is None and not _jumps(steps, place):
            continue
        out.append(place)
        start = i
    return out


def divided(tracklet_id: str, k: int, places: Mapping[str, Sequence[int]]) -> str:
    """Return the name of what is a tracklet's at a grid point: from each of its places on it has one of its own."""
    part = sum(place <= k for place in places.get(tracklet_id, ()))
    return f"{tracklet_id}p{part}" if part else tracklet_id


def _distance(a: Vector, b: Vector) -> float:
    return float(np.linalg.norm(a - b))


def _largest_step(steps: Mapping[int, float], first: int, last: int) -> int:
    """Return the grid point in (first, last] at which the face moves most; `last` where nothing is known."""
    return max(range(last, first, -1), key=lambda k: steps.get(k, -1.0))


def _jumps(steps: Mapping[int, float], k: int) -> bool:
    around = [steps[j] for j in range(k - 5, k + 6) if j != k and j in steps]
    return k in steps and steps[k] >= _JUMP and steps[k] >= _JUMP_RATIO * (float(np.mean(around)) if around else 0.0)
