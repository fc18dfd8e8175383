"""Stage `example_stage`: how far each head turns, from the faces that the scan measured.

Put it beside a workflow's YAML and name it there, after `tracks`:

    example_stage: {use: "example_stage:ExampleStage"}

Its table is then in `lpm query`, a policy's rules on tracks may use `yaw_spread_deg`, and as that column is marked as
packed, every sample and the manifest have it.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas import columns as c
from schemas.packed import SCORES
from schemas.table import Column, Row, Table
from schemas.tables import FACE_FRAMES, TRACKLETS, TRACKS
from schemas.tables.scan import FaceFrameRow
from schemas.tables.tracks import TrackletRow


class ExampleStageRow(Row):
    """How far a head turns."""

    track_id: Column[str] = c.track_id()
    yaw_spread_deg: Column[float | None] = c.real(
        "its yaw from the share `low` to 1 - `low`", "deg", null=True, packed=SCORES
    )
    annotator: Column[str] = c.annotator()


EXAMPLE_STAGE = Table(ExampleStageRow, "example_stage", (ExampleStageRow.track_id,))
"""Its key is a unit's id alone: the table belongs to that unit, and rules on it see the columns."""


class ExampleStageSettings(StageSettings):
    """What counts as a turn. A field is a setting: `--set example_stage.low=0.1`."""

    low: float = Field(0.05, ge=0, lt=0.5, description="share of the frames left out at either end")


class ExampleStage:
    """Stage: head turns of each live track."""

    name: ClassVar[str] = "example_stage"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (TRACKS, TRACKLETS, FACE_FRAMES)
    writes: ClassVar[tuple[Table, ...]] = (EXAMPLE_STAGE,)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = ExampleStageSettings

    def __init__(self, settings: ExampleStageSettings) -> None:
        """Load models here, and raise here when one is missing: that stops the run before its first item."""
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Measure each track; one that raises harms no other."""
        pieces, faces = inputs.read(TRACKLETS), inputs.read(FACE_FRAMES)

        def measure(track_id: str) -> Rows:
            mine = pieces.filter(pc.is_in(TrackletRow.track_id.of(pieces), pa.array([track_id])))
            tracklets = pa.array(TrackletRow.tracklet_id.values(mine), pa.string())
            seen = faces.filter(pc.is_in(FaceFrameRow.tracklet_id.of(faces), tracklets))
            yaw = FaceFrameRow.yaw_deg.of(seen).drop_null().to_numpy()
            ends = np.quantile(yaw, [self._settings.low, 1 - self._settings.low]) if yaw.size else None
            spread = None if ends is None else float(ends[1] - ends[0])
            row = ExampleStageRow(track_id=track_id, yaw_spread_deg=spread, annotator="yaw-quantiles")
            return {EXAMPLE_STAGE: [row]}

        return each_unit(item.units, measure)
