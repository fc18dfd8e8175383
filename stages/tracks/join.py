"""Join a scan's tracklets into tracks: across window borders and short gaps, inside one shot. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from annotators.protocols import Box
from stages.scan.tracker import iou, near


@dataclass(frozen=True, slots=True)
class Piece:
    """One tracklet: where it begins and ends, on the 25 Hz grid and in the picture (pixels)."""

    tracklet_id: str
    shot: int
    first_k: int
    last_k: int
    first_box: Box
    last_box: Box
    n: int


def shot_of(t_s: float, starts: Sequence[float]) -> int:
    """Return the index of the shot that contains a time; `starts` are the shots' start times in order."""
    index = 0
    for i, s in enumerate(starts):
        if t_s >= s - 1e-6:
            index = i
    return index


def join(
    pieces: Sequence[Piece],
    max_gap: int,
    min_near: float = 0.35,
    others: Callable[[str, str], bool] = lambda a, b: False,
) -> list[list[Piece]]:
    """Group pieces of one face: a piece goes on where an earlier one ended, at most `max_gap` grid points before.

    Pieces are matched best first by how near their end and begin lie; each end and each begin is used once. The
    result does not depend on the order of the pieces. `others` says of two tracklets, the earlier first, that they
    show different people: it is asked only of pieces that would be joined.
    """
    pairs = []
    for a in pieces:
        for b in pieces:
            gap = b.first_k - a.last_k
            if a.shot == b.shot and 0 < gap <= max_gap:
                closeness = max(near(a.last_box, b.first_box), iou(a.last_box, b.first_box))
                if closeness >= min_near:
                    pairs.append((-closeness, gap, a.tracklet_id, b.tracklet_id))
    following: dict[str, str] = {}
    taken: set[str] = set()
    for _, _, a_id, b_id in sorted(pairs):
        if a_id not in following and b_id not in taken and not others(a_id, b_id):
            following[a_id] = b_id
            taken.add(b_id)
    by_id = {p.tracklet_id: p for p in pieces}
    groups = []
    for p in sorted(pieces, key=lambda p: (p.first_k, p.first_box.x, p.tracklet_id)):
        if p.tracklet_id in taken:
            continue
        chain = [p]
        while chain[-1].tracklet_id in following:
            chain.append(by_id[following[chain[-1].tracklet_id]])
        groups.append(chain)
    return groups
