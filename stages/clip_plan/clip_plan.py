"""Stage `clip_plan`: how each candidate clip would be cropped, and what its picture and sound would hold.

Packing and captions take the crop from here, and policies judge it before anything is encoded. Tables in, tables out:
no media; 10 to 50 milliseconds a clip, most where a crop must be searched for that follows.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import CLIP_PLANS, FACE_FRAMES, FRAMES, LAYOUT, SEGMENTS, SHOTS, SOURCES, SPEECH_FRAMES, TRACKLETS
from schemas.tables.pairing import SegmentRow
from schemas.tables.plans import ClipPlanRow
from schemas.time import Interval, grid_range
from stages.clip_plan.content import content, frame_measures, packed, sound_measures
from stages.clip_plan.crop import CropSettings, near_rows
from stages.clip_plan.crop_search import best_crop
from stages.clip_plan.source import ClipSource, clip_source


class ClipPlanSettings(CropSettings):
    """How clips are framed, and how large they become."""

    short_side_px: int = Field(512, ge=32, le=4096, description="shorter side of the encoded picture (px)")
    max_upscale: float = Field(1.5, ge=1, description="crops are enlarged by at most this; smaller clips stay smaller")


class ClipPlan:
    """Stage: plan the live segments' clips."""

    name: ClassVar[str] = "clip_plan"
    version: ClassVar[int] = 8
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (
        SOURCES, SHOTS, FRAMES, TRACKLETS, FACE_FRAMES, LAYOUT, SPEECH_FRAMES, SEGMENTS,
    )  # fmt: skip
    writes: ClassVar[tuple[Table, ...]] = (CLIP_PLANS,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = ClipPlanSettings

    def __init__(self, settings: ClipPlanSettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Plan the item's segments; one that fails harms no other."""
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        source = clip_source(inputs)
        return each_unit(item.units, lambda unit: self._plan(segments[unit], source))

    def _plan(self, segment: SegmentRow, source: ClipSource) -> Rows:
        s = self._settings
        ks = grid_range(Interval(segment.start_s, segment.end_s))
        scene = source.scene(segment)
        found = best_crop(scene, s.shape)
        path = found.path
        measured = {
            **packed(path, scene.face, s.short_side_px, s.max_upscale),
            **content(path, scene, near_rows(source.layout, ks, source.shots[segment.shot_id]), source.size),
            **frame_measures(source.frames, ks),
            **sound_measures(source.sound, ks),
        }
        row = ClipPlanRow(
            segment_id=segment.segment_id,
            source_id=segment.source_id,
            framing=found.framing,
            crop_path=[float(v) for v in path.knots.ravel()],
            crop_moves=path.moves,
            crop_speed=path.speed,
            crop_zoom=path.zoom,
            **{column.name: value for column, value in measured.items()},
        )
        return {CLIP_PLANS: [row]}
