"""What the rules of this tree make of a dataset's stored faces and bodies; part of the programs beside it.

Nothing is decoded: a change of a rule is judged in seconds. A dataset that ends before states were told counts each
track as one stretch of speech.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from annotators.body.gestures import gestures, leans
from annotators.body.series import BodySignals
from annotators.performance.performance_signals import measure
from annotators.performance.signal_series import Baseline, Event, FaceSignals
from annotators.picture.camera_moves import CameraSeries, camera_move, panned
from curation import Dataset
from schemas import tables as t
from schemas.samples.sample import State
from schemas.tables.body import BodyFrameRow
from schemas.time import Interval, grid_range
from stages.clip_plan.framing import Crop
from stages.face_series import track_series, tracklets_of
from stages.performance.body import body_signals
from stages.performance.context import camera_part, camera_series
from stages.performance.performance import SIGNAL_COLUMNS, face_signals, track_baselines


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment's measurements: `clip` is the file's name, `x` the place of its face as a share of the width."""

    clip: str
    x: float
    state: State
    face: FaceSignals
    baseline: Baseline | None
    camera: CameraSeries
    body: BodySignals | None

    @property
    def speaking(self) -> bool:
        """The person's mouth moves for speech."""
        return self.state in ("speak", "both")

    def events(self) -> list[Event]:
        """Return what the rules find."""
        found = measure(self.face, self.baseline, self.speaking, panned=panned(self.camera)).events
        if self.body is None:
            return list(found)
        still = camera_move(self.camera) == "static"
        return [*found, *gestures(self.body), *(leans(self.body) if still else ())]

    def rows(self) -> list[dict[str, Any]]:
        """Return the events as rows with clip, x, event, start_s, end_s and kind."""
        return [
            {"clip": self.clip, "x": self.x, "event": e.name, "kind": e.kind, "start_s": e.start_s, "end_s": e.end_s}
            for e in self.events()
        ]


def pieces(dataset: Dataset) -> Iterator[Piece]:
    """Return the segments of a dataset that are somebody's performance, source by source."""
    names = {r["source_id"]: Path(r["name"]).name for r in dataset.table(t.INPUTS).to_pylist()}
    tracks = {r["track_id"]: r for r in dataset.table(t.TRACKS).to_pylist()}
    segments = dataset.table(t.SEGMENTS).to_pylist() or [
        {**r, "segment_id": k, "state": "speak"} for k, r in tracks.items()
    ]
    looks: dict[str, list[BodyFrameRow]] = defaultdict(list)
    for row in t.BODY_FRAMES.rows(dataset.table(t.BODY_FRAMES)):
        looks[row.segment_id].append(row)
    face_frames, tracklets = dataset.table(t.FACE_FRAMES), dataset.table(t.TRACKLETS)
    frames = dataset.table(t.FRAMES)
    for source in sorted(names, key=lambda s: names[s]):
        faces = track_series([_of(face_frames, source)], tracklets_of(_of(tracklets, source)), SIGNAL_COLUMNS)
        baselines, camera = track_baselines(faces), camera_series(_of(frames, source).sort_by("k"))
        for r in sorted((s for s in segments if s["source_id"] == source), key=lambda s: str(s["segment_id"])):
            if r["state"] == "discard":
                continue
            track, mine = r["track_id"], sorted(looks[r["segment_id"]], key=lambda row: row.k)
            ks = grid_range(Interval(r["start_s"], r["end_s"]))
            yield Piece(
                names[source], tracks[track]["center_x"], cast(State, r["state"]),
                face_signals(faces[track], ks, Crop(0, 0, 1, 1)), baselines.get(track), camera_part(camera, ks),
                body_signals(mine, faces[track]) if mine else None,
            )  # fmt: skip


def _of(table: pa.Table, source: str) -> pa.Table:
    return table.filter(pc.equal(table["source_id"], source))
