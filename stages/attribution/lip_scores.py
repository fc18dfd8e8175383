"""Active speaker scores by track and grid point, held against what the mouth itself does.

A speaking mouth opens and closes. LR-ASD may go on scoring high on a face that has spoken and now holds still under
somebody else's voice; the landmarks know better.
"""

from __future__ import annotations

import pyarrow as pa

from schemas.tables.attribution import AsdFrameRow

STILL_SCORE = -1.0
"""What a still mouth's active speaker score is at most."""


def frame_scores(table: pa.Table, still_mouth: float) -> dict[str, dict[int, float]]:
    """Return per track the active speaker score at each grid index, at most -1 where the mouth holds still."""
    out: dict[str, dict[int, float]] = {}
    r = AsdFrameRow
    columns = (r.track_id.values(table), r.k.values(table), r.score.values(table), r.mouth_motion.values(table))
    for track_id, k, score, moved in zip(*columns, strict=True):
        still = moved is not None and moved < still_mouth
        out.setdefault(track_id, {})[k] = min(score, STILL_SCORE) if still else score
    return out
