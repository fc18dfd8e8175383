"""What pairing reads of faces: where each was confirmed, and where it laughs rather than speaks.

Laughter is a smile while laughter is heard, or a smile with the jaw opening in its rhythm, and no word recognised
meanwhile. The second is a heuristic, as syllables have the same rhythm; the first misses short laughter and quiet.
Read window by window; two numbers a face frame are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.face.mesh import BLENDSHAPES
from annotators.performance.facial_actions import LAUGH_JAW, LAUGH_MIN_S, laugh_rhythm
from annotators.performance.signal_series import spans
from curation.stage import Inputs
from schemas import tables as t
from schemas.tables.scan import FaceFrameRow
from schemas.tables.speech import WordRow
from schemas.time import GRID_HZ, Interval, grid_range
from stages.face_series import SURE, tracklets_of

Bools = npt.NDArray[np.bool_]

_MIN_SMILE = 0.5
_HAHA = re.compile(r"(?:[hx]?[aeio]h?){2,}|lol|", re.IGNORECASE)
"""What recognisers write for laughter; it is no word."""
_SMILE = [BLENDSHAPES.index(f"mouthSmile{side}") for side in ("Left", "Right")]
_JAW = BLENDSHAPES.index("jawOpen")


@dataclass(frozen=True, slots=True)
class LaughRule:
    """From which score laughter counts as heard, and how much of a smile (0-1) is then enough."""

    heard: float = 0.3
    smile: float = 0.3


@dataclass(frozen=True, slots=True)
class FaceSeries:
    """Where one track's face was confirmed: increasing grid points [N], smile and open jaw there [N], 0-1.

    `sure` are grid points where the detector was sure, landmarks or not.
    """

    ks: npt.NDArray[np.int64]
    smile: npt.NDArray[np.float32]
    jaw: npt.NDArray[np.float32]
    sure: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def seen(self, ks: range) -> Bools:
        """Return [T] whether the face was seen: confirmed by landmarks, or the detector was sure of it."""
        grid = np.asarray(ks)
        return np.isin(grid, self.ks) | np.isin(grid, self.sure)


NO_FACE = FaceSeries(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))


def face_series(inputs: Inputs) -> dict[str, FaceSeries]:
    """Return each track's face where landmarks confirmed it or the detector was sure of it."""
    owner = tracklets_of(inputs.read(t.TRACKLETS))
    parts: dict[str, list[npt.NDArray[np.float64]]] = {}
    sure: dict[str, list[npt.NDArray[np.int64]]] = {}
    for part in inputs.parts(t.FACE_FRAMES):
        clear = part.filter(np.asarray(FaceFrameRow.score.array(part), np.float64) >= SURE)
        for name, points in _by_track(clear, owner).items():
            sure.setdefault(name, []).append(points)
        rows = part.filter(FaceFrameRow.has_mesh.of(part)).combine_chunks()
        if not rows.num_rows:
            continue
        names = np.array([owner.get(x, "") for x in FaceFrameRow.tracklet_id.values(rows)], object)
        shapes = _shapes(FaceFrameRow.blendshapes.of(rows).combine_chunks(), rows.num_rows)
        values = np.stack([FaceFrameRow.k.array(rows), shapes[:, _SMILE].mean(axis=1), shapes[:, _JAW]], axis=1)
        for name in sorted(set(names) - {""}):
            parts.setdefault(name, []).append(values[names == name])
    out = {}
    for name in sorted({*parts, *sure}):
        whole = np.concatenate(parts.get(name, [np.zeros((0, 3))]))
        _, first = np.unique(whole[:, 0], return_index=True)
        ks, smile, jaw = whole[first].T
        clearly = np.unique(np.concatenate(sure.get(name, [np.zeros(0, np.int64)])))
        out[name] = FaceSeries(ks.astype(np.int64), smile.astype(np.float32), jaw.astype(np.float32), clearly)
    return out


def _by_track(rows: pa.Table, owner: Mapping[str, str]) -> dict[str, npt.NDArray[np.int64]]:
    ks = np.asarray(FaceFrameRow.k.array(rows), np.int64)
    at: dict[str, list[int]] = {}
    for i, tracklet in enumerate(FaceFrameRow.tracklet_id.values(rows)):
        name = owner.get(tracklet)
        if name is not None:
            at.setdefault(name, []).append(i)
    return {name: ks[rows_] for name, rows_ in sorted(at.items())}


def _shapes(column: Any, rows: int) -> npt.NDArray[np.float64]:
    """Return blendshapes [rows, 52]; zeros where a row has none."""
    out = np.zeros((rows, len(BLENDSHAPES)))
    full = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False)) == len(BLENDSHAPES)
    if full.any():
        out[full] = np.asarray(column.filter(full).flatten().to_numpy()).reshape(-1, len(BLENDSHAPES))
    return out


def laughing(
    face: FaceSeries,
    ks: range,
    words: Sequence[WordRow],
    heard: npt.NDArray[np.float32] | None = None,
    rule: LaughRule | None = None,
) -> Bools:
    """Return [T] where a face laughs.

    Args:
        face: its smile and jaw.
        ks: T grid points.
        words: WORDS rows of the source; no stretch with a word in it is laughter.
        heard: [T] how surely laughter is heard, 0-1; none where sound was not asked.
        rule: when heard laughter is this face's.
    """
    out = np.zeros(len(ks), bool)
    if len(ks) < GRID_HZ or len(face.ks) < GRID_HZ:
        return out
    at = np.asarray(ks)
    smile, jaw = (np.interp(at, face.ks, x) for x in (face.smile, face.jaw))
    rhythm = laugh_rhythm(jaw, smile, _MIN_SMILE)
    if heard is not None:
        rule = rule or LaughRule()
        rhythm[(heard >= rule.heard) & (smile >= rule.smile)] = LAUGH_JAW
    rhythm[~face.seen(ks)] = 0.0
    for word in words:
        if word.end_s * GRID_HZ < ks.start or word.start_s * GRID_HZ > ks.stop:
            continue
        if not _HAHA.fullmatch(re.sub(r"\W", "", word.guess)):
            inside = grid_range(Interval(word.start_s, max(word.start_s, word.end_s)))
            rhythm[max(0, inside.start - ks.start) : max(0, inside.stop - ks.start)] = 0.0
    for start, end in spans(rhythm, LAUGH_JAW, LAUGH_JAW / 2, round(LAUGH_MIN_S * GRID_HZ)):
        out[start:end] = True
    return out
