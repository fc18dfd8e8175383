"""`example_stage` on two tracks held in memory: one turns, one was never measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_stage import EXAMPLE_STAGE, ExampleStage, ExampleStageSettings

from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas.table import Table
from schemas.tables import FACE_FRAMES, TRACKLETS


def rows(table: Table, *given: dict[str, Any]) -> list[pa.Table]:
    """Return rows with nothing in the columns that are not given."""
    return [pa.table({c.name: pa.array([r.get(c.name) for r in given], c.type) for c in table.columns})]


def test_the_spread_of_the_yaw() -> None:
    """The ends are left out; a track without a face has no spread."""
    faces = [{"tracklet_id": "a", "k": k, "yaw_deg": float(k)} for k in range(101)]
    tracklets = [{"tracklet_id": "a", "track_id": "t0"}, {"tracklet_id": "b", "track_id": "t1"}]
    inputs = MemoryInputs(
        Path("none"), {FACE_FRAMES: rows(FACE_FRAMES, *faces), TRACKLETS: rows(TRACKLETS, *tracklets)}
    )
    inputs.read = lambda table: inputs._parts[table][0]  # type: ignore[method-assign]  # rows are not complete
    stage = ExampleStage(ExampleStageSettings(low=0.1))
    found = stage.run(WorkItem("s", units=("t0", "t1")), inputs).tables[EXAMPLE_STAGE].to_pylist()
    assert [r["yaw_spread_deg"] for r in found] == [pytest.approx(80.0), None]
