"""What the crops of one source's clips are planned from: faces, layout, shots, frames and sound, read once.

Tables in; some megabytes an hour of source and face in view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.stage import Inputs
from schemas.column import Column
from schemas.tables import FACE_FRAMES, FRAMES, LAYOUT, SHOTS, SOURCES, SPEECH_FRAMES, TRACKLETS
from schemas.tables.scan import FaceFrameRow, FrameRow, LayoutRow
from schemas.tables.speech import SpeechFrameRow
from schemas.time import Interval
from stages.clip_plan.crop import Place, clip_scene, usual_here, usual_text
from stages.clip_plan.crop_search import Scene
from stages.face_series import BOX, Series, track_series, tracklets_of
from stages.row_traits import Stretch
from stages.tracks.overlay import without_features

if TYPE_CHECKING:
    import pandas as pd

_FACE = (*BOX, FaceFrameRow.has_mesh, FaceFrameRow.score)


@dataclass(frozen=True)
class ClipSource:
    """Size of the picture in pixels, and what was measured of a source; frames and sound by grid point."""

    size: tuple[int, int]
    faces: Mapping[str, Series]
    layout: Sequence[LayoutRow]
    usual: Sequence[Place]
    shots: Mapping[str, Interval]
    frames: Series
    sound: Series

    def scene(self, segment: Stretch) -> Scene:
        """Return what is in the picture during a segment. Raises ValueError for a track without a face box."""
        usual = usual_here(self.usual, Interval(segment.start_s, segment.end_s))
        return clip_scene(segment, self.faces, self.layout, usual, self.size, self.shots[segment.shot_id])


def clip_source(inputs: Inputs) -> ClipSource:
    """Read a source; a stage that calls this reads the tables named above."""
    source = SOURCES.rows(inputs.read(SOURCES))[0]
    size = (source.width, source.height)
    faces = track_series(inputs.parts(FACE_FRAMES), tracklets_of(inputs.read(TRACKLETS)), _FACE)
    layout = inputs.read(LAYOUT).to_pandas()
    if len(layout) and faces:
        layout = without_features(layout, _faces_at(faces, set(LayoutRow.k.of(layout))), *size)
    rows = [LayoutRow.of({str(c): v for c, v in r.items()}) for r in layout.to_dict("records")]
    found = sorted(SHOTS.rows(inputs.read(SHOTS)), key=lambda r: r.start_s)
    shots = {r.shot_id: Interval(r.start_s, r.end_s) for r in found}
    return ClipSource(
        size=size,
        faces=faces,
        layout=rows,
        usual=usual_text(rows, list(shots.values())),
        shots=shots,
        frames=_by_grid(inputs.read(FRAMES), FrameRow.k, (FrameRow.is_frozen, FrameRow.is_black, FrameRow.is_damaged)),
        sound=_by_grid(
            inputs.read(SPEECH_FRAMES), SpeechFrameRow.k, (SpeechFrameRow.level_db, SpeechFrameRow.is_damaged)
        ),
    )


def _by_grid(table: pa.Table, at: Column[int], columns: Sequence[Column[Any]]) -> Series:
    ks = at.array(table).astype(np.int64)
    order = np.argsort(ks)
    return Series(ks[order], {c: c.array(table)[order] for c in columns})


def _faces_at(faces: Mapping[str, Series], ks: set[Any]) -> pd.DataFrame:
    """Return all faces on some grid points, as FACE_FRAMES has them."""
    import pandas as pd

    wanted = np.array(sorted(ks))
    parts = []
    for series in faces.values():
        rows = series.part(np.isin(series.k, wanted))
        parts.append(pd.DataFrame({FaceFrameRow.k.name: rows.k, **{c.name: rows[c] for c in BOX}}))
    return pd.concat(parts, ignore_index=True)
