"""The toy pipeline with faces: sources say who is in view ({"who": [0, 1]}), and the real stage finds people."""

from __future__ import annotations

from typing import Any

from toy import STAGES, ToyPacking, _Toy, filled

from curation.stage import Outputs, WorkItem, each_unit
from schemas import tables as t
from schemas.settings.workflow import StageSpec, Workflow
from schemas.table import Table


class ToyFaces(_Toy):
    name = "toy_faces"
    reads = (t.TRACKS,)
    writes = (t.FACE_EMBEDDINGS, t.BINDINGS)
    gate = "tracks"
    gate_mode = "each"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        spec = self.spec(inputs)

        def measure(track_id: str) -> dict[Table, list[dict[str, Any]]]:
            face = [2.0 * spec["who"][int(track_id[-4:])], 0.0]
            known = {"track_id": track_id, "source_id": item.source_id, "embedding": face}
            return {t.FACE_EMBEDDINGS: [filled(t.FACE_EMBEDDINGS, **known, quality=0.9, yaw_deg=0.0, annotator="toy")]}

        return each_unit(item.units, measure)


class ToyDuplicates(_Toy):
    name = "toy_duplicates"
    grain = "dataset"
    reads = (t.SOURCES,)
    writes = (t.DUPLICATES,)

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        return Outputs({})


WORKFLOW = Workflow(
    name="people",
    policy="default",
    window_s=4.0,
    stages={
        **{c.name: StageSpec(use=f"toy:{c.__name__}") for c in STAGES if c is not ToyPacking and c.grain != "dataset"},
        "toy_faces": StageSpec(use="people_toy:ToyFaces"),
        "toy_duplicates": StageSpec(use="people_toy:ToyDuplicates"),
        "identity": StageSpec(use="stages.identity.identity:Identity", settings={"val": 0.2, "test": 0.2}),
    },
)


def people_source(*who: int, duration_s: float = 10.0) -> dict[str, Any]:
    """Return a toy source that shows these people, each in a track as long as the source."""
    return {"duration_s": duration_s, "faces": [120] * len(who), "who": list(who)}
