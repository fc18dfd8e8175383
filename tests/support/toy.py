"""A tiny pipeline over text files, for testing the engine without media: files say what is to be "measured".

A file holds JSON: {"duration_s": 10, "faces": [120, 40]} gives one shot with two tracks of those face sizes.
{"fail": "toy_scan"} raises there. `CALLS` counts runs of each stage in this process.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from curation.stage import Outputs, StageSettings, WorkItem, each_unit
from schemas import tables as t
from schemas.settings.workflow import StageSpec, Workflow
from schemas.table import Table

CALLS: Counter[str] = Counter()


def filled(table: Table, **values: Any) -> dict[str, Any]:
    """Return a row with neutral values in the columns that are not given."""
    row: dict[str, Any] = {}
    for c in table.columns:
        if c.nullable:
            row[c.name] = None
        elif pa.types.is_string(c.type):
            row[c.name] = ""
        elif pa.types.is_list(c.type):
            row[c.name] = []
        elif pa.types.is_boolean(c.type):
            row[c.name] = False
        elif pa.types.is_binary(c.type):
            row[c.name] = b""
        else:
            row[c.name] = 0
    return {**row, **values}


class ToySettings(StageSettings):
    tweak: float = 1.0
    broken_import: bool = False
    broken_run: bool = False


class _Toy:
    name: ClassVar[str]
    version = 1
    grain = "source"
    reads: ClassVar[tuple[Table, ...]] = ()
    writes: ClassVar[tuple[Table, ...]] = ()
    gate = None
    gate_mode = "once"
    Settings = ToySettings

    def __init__(self, settings: ToySettings) -> None:
        self.settings = settings
        if settings.broken_import:
            raise ImportError("no module named 'missing_model'")

    def spec(self, inputs: Any) -> dict[str, Any]:
        self.count(self.name)
        if self.settings.broken_run:
            raise TypeError("unexpected keyword argument 'color'")
        spec: dict[str, Any] = json.loads(inputs.media.read_text())
        if spec.get("fail") == self.name:
            raise ValueError(f"made to fail in {self.name}")
        return spec

    def together(self, n: int) -> None:
        self.count(f"{self.name}: {n} together")

    def count(self, what: str) -> None:
        CALLS[what] += 1
        counter = os.environ.get("OPENLPM_TOY_CALLS")
        if counter:
            with Path(counter).open("a") as f:
                f.write(what + "\n")


class ToyProbe(_Toy):
    name = "toy_probe"
    writes = (t.SOURCES,)

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        spec = self.spec(inputs)
        row = filled(
            t.SOURCES, source_id=item.source_id, duration_s=spec["duration_s"], has_audio=spec.get("audio", True)
        )
        return Outputs({t.SOURCES: t.SOURCES.from_rows([row])})


class ToyScan(_Toy):
    name = "toy_scan"
    grain = "window"
    reads = (t.SOURCES,)
    writes = (t.CUTS,)
    gate = "sources"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        self.spec(inputs)
        assert item.window is not None
        row = filled(t.CUTS, source_id=item.source_id, t_s=item.window.start_s, score=self.settings.tweak)
        return Outputs({t.CUTS: t.CUTS.from_rows([row] if item.window_index else [])})


class ToyTracks(_Toy):
    name = "toy_tracks"
    reads = (t.SOURCES, t.CUTS)
    writes = (t.SHOTS, t.TRACKS)
    gate = "sources"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        spec = self.spec(inputs)
        d, s = spec["duration_s"], item.source_id
        time = {"start_s": 0.0, "end_s": d, "duration_s": d, "source_id": s, "shot_id": f"{s}-s0000"}
        faces = spec.get("faces", [])
        shots = [filled(t.SHOTS, **time, n_people_max=len(faces), luma_mean=spec.get("luma", 100.0))]
        tracks = [
            filled(
                t.TRACKS,
                **time,
                track_id=f"{s}-t{i + round(1000 * self.settings.tweak) - 1000:04d}",
                median_face_px=px * self.settings.tweak,
            )
            for i, px in enumerate(faces)
        ]
        return Outputs({t.SHOTS: t.SHOTS.from_rows(shots), t.TRACKS: t.TRACKS.from_rows(tracks)})


class ToyActive(_Toy):
    name = "toy_active"
    reads = (t.TRACKS,)
    writes = (t.ASD_FRAMES,)
    gate = "tracks"
    gate_mode = "each"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        spec = self.spec(inputs)
        CALLS["toy_active_units"] += len(item.units)
        assert sorted(inputs.read(t.TRACKS)["track_id"].to_pylist()) == sorted(item.units)

        def measure(track_id: str) -> dict[Table, list[dict[str, Any]]]:
            if spec.get("fail_track") is not None and track_id.endswith(f"t{spec['fail_track']:04d}"):
                raise ValueError("this track is made to fail")
            row = filled(t.ASD_FRAMES, track_id=track_id, score=self.settings.tweak, annotator="toy")
            return {t.ASD_FRAMES: [row]}

        return each_unit(item.units, measure)

    def run_many(self, work: Sequence[tuple[WorkItem, Any]]) -> list[Outputs]:
        self.together(len(work))
        return [self.run(item, inputs) for item, inputs in work]


class ToyPairing(_Toy):
    name = "toy_pairing"
    reads = (t.TRACKS, t.ASD_FRAMES)
    writes = (t.SEGMENTS,)
    gate = "tracks"
    gate_mode = "together"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        self.spec(inputs)
        rows = []
        for track in inputs.read(t.TRACKS).to_pylist():
            d = track["duration_s"]
            states = ("speak", "discard") if self.settings.tweak < 3 else ("discard",)
            for n, state in enumerate(states):
                a, b = n * d / 2 + self.settings.tweak - 1, (n + 1) * d / 2
                rows.append(
                    filled(
                        t.SEGMENTS, segment_id=f"{track['track_id']}-{round(a * 1000):08d}", state=state,
                        source_id=item.source_id, shot_id=track["shot_id"], track_id=track["track_id"],
                        start_s=a, end_s=b, duration_s=b - a,
                    )
                )  # fmt: skip
        return Outputs({t.SEGMENTS: t.SEGMENTS.from_rows(rows)})


class ToyPacking(_Toy):
    name = "toy_packing"
    reads = (t.SEGMENTS,)
    writes = (t.CLIPS,)
    gate = "segments"
    gate_mode = "each"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        self.spec(inputs)
        rows = []
        for segment_id in item.units:
            file = f"clips/bucket={segment_id[:2]}/{segment_id}.tar"
            inputs.save(file, segment_id.encode())
            rows.append(filled(t.CLIPS, segment_id=segment_id, source_id=item.source_id, file=file, sha256="x"))
        return Outputs({t.CLIPS: t.CLIPS.from_rows(rows)})


class ToyIdentity(_Toy):
    name = "toy_identity"
    grain = "dataset"
    reads = (t.TRACKS,)
    writes = (t.TRACK_IDENTITIES,)

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        CALLS[self.name] += 1
        rows = [
            filled(
                t.TRACK_IDENTITIES, track_id=r["track_id"], source_id=r["source_id"], identity_id="p-0", annotator="toy"
            )
            for r in inputs.read(t.TRACKS).to_pylist()
        ]
        return Outputs({t.TRACK_IDENTITIES: t.TRACK_IDENTITIES.from_rows(rows)})


STAGES = (ToyProbe, ToyScan, ToyTracks, ToyActive, ToyPairing, ToyPacking, ToyIdentity)

WORKFLOW = Workflow(
    name="toy",
    policy="default",
    window_s=4.0,
    stages={c.name: StageSpec(use=f"toy:{c.__name__}") for c in STAGES},
)

POLICY: dict[str, Any] = {
    "name": "toy",
    "rules": [
        {"id": "duration", "on": "shots", "step": "single_shot", "keep": "duration_s >= 3"},
        {"id": "face_size", "on": "tracks", "step": "human_presence", "keep": "median_face_px >= 96"},
        {"id": "audio", "on": "sources", "step": "av_sync", "keep": "has_audio"},
        {"id": "usable_state", "on": "segments", "step": "conversation", "keep": "state <> 'discard'"},
    ],
}


def write_sources(folder: Path, **specs: dict[str, Any]) -> Path:
    """Write one toy source a keyword as NAME.mp4 and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        (folder / f"{name}.mp4").write_text(json.dumps({"name": name, **spec}))
    return folder
