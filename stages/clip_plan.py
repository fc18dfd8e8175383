"""Stage `clip_plan`: how each candidate clip would be cropped, and what its picture and sound would hold.

Packing and captions take the crop from here, and policies judge it before anything is encoded. Tables in, tables out:
no media; 10 to 50 milliseconds a clip, most where a crop must be searched for that follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from curation.stage import Gate, GateMode, Inputs, Outputs, Rows, StageSettings, Unit, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import CLIP_PLANS, FACE_FRAMES, FRAMES, LAYOUT, SEGMENTS, SHOTS, SOURCES, SPEECH_FRAMES, TRACKLETS
from schemas.time import Interval, grid_range
from stages.clip_content import content, digital_silence, frame_measures, packed
from stages.clip_crop import CropSettings, Place, Row, clip_scene, near_rows, usual_here, usual_text
from stages.crop_path import FloatArray
from stages.crop_search import best_crop
from stages.face_series import Columns, track_series, tracklets_of
from stages.tracks_overlay import without_features


class ClipPlanSettings(CropSettings):
    """How clips are framed, and how large they become."""

    short_side_px: int = Field(512, ge=32, le=4096, description="shorter side of the encoded picture (px)")
    max_upscale: float = Field(1.5, ge=1, description="crops are enlarged by at most this; smaller clips stay smaller")


@dataclass(frozen=True)
class _Source:
    size: tuple[int, int]
    faces: Mapping[str, Columns]
    layout: Sequence[Row]
    usual: Sequence[Place]
    shots: Mapping[str, Interval]
    frames: Mapping[int, Row]
    levels: FloatArray


class ClipPlan:
    """Stage: plan the live segments' clips."""

    name: ClassVar[str] = "clip_plan"
    version: ClassVar[int] = 1
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (
        SOURCES, SHOTS, FRAMES, TRACKLETS, FACE_FRAMES, LAYOUT, SPEECH_FRAMES, SEGMENTS,
    )  # fmt: skip
    writes: ClassVar[tuple[Table, ...]] = (CLIP_PLANS,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = ClipPlanSettings

    def __init__(self, settings: ClipPlanSettings) -> None:
        self._settings = settings

    @classmethod
    def identity(cls, settings: ClipPlanSettings) -> Mapping[str, str]:
        """Name the method."""
        return {"crop": "search"}

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Plan the item's segments; one that fails harms no other."""
        segments = {r["segment_id"]: r for r in inputs.read(SEGMENTS).to_pylist()}
        source = _source(inputs)
        return each_unit(item.units, lambda unit: self._plan(segments[unit], source))

    def _plan(self, segment: Row, source: _Source) -> Rows:
        s = self._settings
        shot, span = source.shots[segment["shot_id"]], Interval(segment["start_s"], segment["end_s"])
        usual = usual_here(source.usual, span)
        ks = grid_range(span)
        scene = clip_scene(segment, source.faces, source.layout, usual, source.size, shot)
        found = best_crop(scene, s.shape)
        path = found.path
        row = {
            "segment_id": segment["segment_id"],
            "source_id": segment["source_id"],
            "framing": found.framing,
            "crop_path": [float(v) for v in path.knots.ravel()],
            "crop_moves": path.moves,
            "crop_speed": path.speed,
            "crop_zoom": path.zoom,
            **packed(path, scene.face, s.short_side_px, s.max_upscale),
            **content(path, scene, near_rows(source.layout, ks, shot), source.size),
            **frame_measures([source.frames[k] for k in ks if k in source.frames], len(ks)),
            "digital_silence_ratio": digital_silence(source.levels[ks.start : ks.stop]),
        }
        return {CLIP_PLANS: [row]}


def _source(inputs: Inputs) -> _Source:
    source = inputs.read(SOURCES).to_pylist()[0]
    size = (source["width"], source["height"])
    faces = track_series(inputs.parts(FACE_FRAMES), tracklets_of(inputs.read(TRACKLETS)), ("k", "x", "y", "w", "h"))
    layout = inputs.read(LAYOUT).to_pandas()
    if len(layout) and faces:
        layout = without_features(layout, _faces_at(faces, set(layout["k"])), *size)
    rows: list[Row] = [{str(c): v for c, v in r.items()} for r in layout.to_dict("records")]
    found = sorted(inputs.read(SHOTS).to_pylist(), key=lambda r: float(r["start_s"]))
    shots = {r["shot_id"]: Interval(r["start_s"], r["end_s"]) for r in found}
    frames = inputs.read(FRAMES).select(["k", "is_frozen", "is_black"]).to_pylist()
    sound = inputs.read(SPEECH_FRAMES).select(["k", "level_db"])
    ks = np.asarray(sound["k"].to_numpy(), np.int64)
    levels = np.zeros(ks.max() + 1 if len(ks) else 0)
    levels[ks] = sound["level_db"].to_numpy()
    return _Source(
        size=size,
        faces=faces,
        layout=rows,
        usual=usual_text(rows, list(shots.values())),
        shots=shots,
        frames={r["k"]: r for r in frames},
        levels=levels,
    )


def _faces_at(faces: Mapping[str, Columns], ks: set[Any]) -> pd.DataFrame:
    """Return all faces on some grid points, as FACE_FRAMES has them."""
    wanted = np.array(sorted(ks))
    parts = []
    for series in faces.values():
        rows = np.isin(series["k"], wanted)
        parts.append(pd.DataFrame({c: series[c][rows] for c in ("k", "x", "y", "w", "h")}))
    return pd.concat(parts, ignore_index=True)
