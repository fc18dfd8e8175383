"""A dataset that a run made of a drawn video, by stages that write given tables and the project's own pairing.

Two faces talk in turn: the left one for 0-4 s, the right one for 4-8 s, then the left one again. What corrections are
read by (`scan`, which here only writes cuts, attribution, pairing, captions) runs as it does in a conversation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import review_case as case
from conversation_case import SOURCE, Case, Face
from engine_case import LocalEngine
from table_rows import row

from curation import Dataset
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.stage import Outputs, StageSettings, WorkItem, each_unit
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.settings.workflow import StageSpec, Workflow
from schemas.table import Table

LEFT, RIGHT = f"{SOURCE}-t0000", f"{SOURCE}-t0001"
SAID = Case(
    {
        LEFT: Face(f"{SOURCE}-s0000", 0.0, 12.0, [(0, 4, 3.0), (4, 8, -3.0), (8, 12, 3.0)]),
        RIGHT: Face(f"{SOURCE}-s0000", 0.0, 12.0, [(0, 4, -3.0), (4, 8, 3.0), (8, 12, -3.0)]),
    },
    {f"{SOURCE}-v0": [(0.0, 4.0), (8.0, 12.0)], f"{SOURCE}-v1": [(4.0, 8.0)]},
    words=[(n + 0.2, n + 0.7, f"word{n}") for n in range(12)],
)
POLICY = Policy.model_validate({
    "name": "said",
    "rules": [
        {"id": "usable_state", "on": "segments", "step": "conversation", "keep": "state <> 'discard'"},
        {"id": "longer", "on": "segments", "step": "conversation", "keep": "duration_s >= 1"},
    ],
})  # fmt: skip
RAN: list[str] = []
"""Stages in the order in which they were run."""


def _of(source_id: str, table: Table) -> list[dict[str, Any]]:
    parts = SAID.tables().get(table, [])
    rows = [r for part in parts for r in part.to_pylist()]
    found: list[dict[str, Any]] = json.loads(json.dumps(rows).replace(SOURCE, source_id))
    return found


class _Stage:
    name = ""
    version = 1
    grain = "source"
    reads: tuple[Table, ...] = ()
    writes: tuple[Table, ...] = ()
    gate = None
    gate_mode = "once"
    Settings = StageSettings

    def __init__(self, settings: StageSettings) -> None: ...

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        RAN.append(self.name)
        return Outputs({x: x.from_rows([x.row(**r) for r in _of(item.source_id, x)]) for x in self.writes})


class Heard(_Stage):
    name = "heard"
    writes = (t.SOURCES, t.SPEECH, t.SPEECH_FRAMES, t.SPEAKERS, t.TURNS, t.WORDS, t.AUDIO_EVENTS)


class Seen(_Stage):
    name = "seen"
    grain = "window"
    reads = (t.SOURCES, t.CUT_LABELS)
    writes = (t.CUTS, t.FRAMES, t.LAYOUT, t.FACE_FRAMES)
    gate = "sources"


class Followed(_Stage):
    name = "followed"
    reads = (t.SOURCES, t.CUTS)
    writes = (t.SHOTS, t.TRACKS, t.TRACKLETS, t.ASD_FRAMES, t.SYNC, t.SYNC_FRAMES)
    gate = "sources"


class Packed(_Stage):
    name = "packed"
    reads = (t.SEGMENTS,)
    writes = (t.CLIPS,)
    gate = "segments"
    gate_mode = "each"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        RAN.append(self.name)

        def one(segment_id: str) -> dict[Table, list[dict[str, Any]]]:
            file = f"clips/bucket={segment_id[:2]}/{segment_id}.tar"
            inputs.save(file, segment_id.encode())
            clip = row(t.CLIPS, segment_id=segment_id, source_id=item.source_id, file=file, sha256="x")
            return {t.CLIPS: [dict(clip)]}

        return each_unit(item.units, one)


class People(_Stage):
    name = "people"
    grain = "dataset"
    reads = (t.TRACKS,)
    writes = (t.TRACK_IDENTITIES, t.IDENTITIES)

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        RAN.append(self.name)
        found = [(r["track_id"], r["source_id"]) for r in inputs.read(t.TRACKS).to_pylist()]
        members = [row(t.TRACK_IDENTITIES, track_id=n, source_id=s, identity_id=f"p-{n[-1]}") for n, s in found]
        people = [row(t.IDENTITIES, identity_id=f"p-{n[-1]}", seen_s=12.0) for n, _ in found]
        return Outputs({x: x.from_rows(r) for x, r in ((t.TRACK_IDENTITIES, members), (t.IDENTITIES, people))})


class Met(_Stage):
    """Every face looks like somebody else: who is the same person is said by people alone."""

    name = "met"
    reads = (t.TRACKS,)
    writes = (t.FACE_EMBEDDINGS,)

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        RAN.append(self.name)
        faces = [
            row(t.FACE_EMBEDDINGS, track_id=r["track_id"], source_id=item.source_id, quality=0.9, yaw_deg=0.0,
                annotator="case", embedding=[float(int(item.source_id[:4], 16)), 9.0 * int(r["track_id"][-1])])
            for r in inputs.read(t.TRACKS).to_pylist()
        ]  # fmt: skip
        return Outputs({t.FACE_EMBEDDINGS: t.FACE_EMBEDDINGS.from_rows(faces)})


WORKFLOW = Workflow(
    name="said",
    policy="default",
    stages={
        "heard": StageSpec(use="correct_case:Heard"),
        "seen": StageSpec(use="correct_case:Seen"),
        "followed": StageSpec(use="correct_case:Followed"),
        "attribution": StageSpec(use="stages.attribution.attribution:Attribution"),
        "pairing": StageSpec(use="stages.pairing.pairing:Pairing"),
        "packed": StageSpec(use="correct_case:Packed"),
        "people": StageSpec(use="correct_case:People"),
    },
)


MET = WORKFLOW.model_copy(
    update={
        "stages": {n: s for n, s in WORKFLOW.stages.items() if n != "people"}
        | {
            "met": StageSpec(use="correct_case:Met"),
            "duplicates": StageSpec(use="people_toy:ToyDuplicates"),
            "identity": StageSpec(use="stages.identity.identity:Identity"),
        }
    }
)
"""The same with the project's own stage `identity`."""


def go(out: Path, *videos: Path, workflow: Workflow = WORKFLOW) -> Dataset:
    """Run it, first on videos and then on what is registered; `RAN` says which stages ran."""
    RAN.clear()
    named = expand([str(v) for v in videos], str(out)) if videos else []
    run(Job(str(out), resolve(workflow), POLICY, False, in_process=True), LocalEngine(), named)
    return Dataset(str(out))


def video(file: Path, length_s: float = case.LENGTH_S) -> Path:
    """Draw the video; of another length it is another source."""
    return case.video(file, length_s=length_s)
