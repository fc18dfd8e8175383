"""What a dataset found in one source, frame by frame: which track stands where, in which state, with which score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from scipy.optimize import linear_sum_assignment
from truth_people import Face

from curation import Dataset
from schemas import tables as t
from schemas.time import Interval, grid_index, grid_range

X_SLACK, Y_SLACK = 0.03, 0.06
"""How far outside its labelled range a face's centre may lie, as a share of width and height: labels name the range
to a hundredth, and a detector's box is not centred as an eye would centre it."""

FAR = 100.0
"""The cost of a track that stands elsewhere."""


@dataclass(frozen=True)
class Box:
    """A track's face at one grid point: centre and width as shares of the picture; was a face confirmed there."""

    track_id: str
    x: float
    y: float
    size: float
    confirmed: bool


@dataclass(frozen=True)
class Run:
    """A run of a track's timeline."""

    state: str
    reason: str
    confidence: float


class FoundTracks:
    """Tracks of one source over its grid."""

    def __init__(
        self,
        tracks: Sequence[Mapping[str, Any]],
        runs: Sequence[Mapping[str, Any]],
        boxes: Mapping[str, npt.NDArray[np.float64]],
        scores: Mapping[str, Mapping[int, float]],
        speech: Mapping[int, float],
    ) -> None:
        """Take TRACKS and TIMELINE rows, per track [n, 5] of k, x, y, size, confirmed, its scores and speech by k."""
        self.scores, self.speech = scores, speech
        self._runs: dict[str, dict[int, Run]] = defaultdict(dict)
        for r in runs:
            run = Run(str(r["state"]), str(r["reason"]), float(r["confidence"]))
            for k in grid_range(Interval(r["start_s"], r["end_s"])):
                self._runs[r["track_id"]][k] = run
        self._at: dict[int, list[Box]] = defaultdict(list)
        self._rows = {str(r["track_id"]): r for r in tracks}
        for r in tracks:
            self._place(str(r["track_id"]), boxes.get(str(r["track_id"])), r)

    def _place(self, track: str, box: npt.NDArray[np.float64] | None, row: Mapping[str, Any]) -> None:
        if box is None or not len(box):
            return
        box = box[np.argsort(box[:, 0])]
        last = max(int(box[-1, 0]), grid_index(row["end_s"]) - 1)
        sure = {int(k) for k, _, _, _, confirmed in box if confirmed}
        for k in range(min(int(box[0, 0]), grid_index(row["start_s"])), last + 1):
            x, y, size = (float(np.interp(k, box[:, 0], box[:, i])) for i in (1, 2, 3))
            self._at[k].append(Box(track, x, y, size, k in sure))

    @property
    def track_ids(self) -> list[str]:
        """Every track."""
        return list(self._rows)

    def run(self, track: str | None, k: int) -> Run | None:
        """Return the run of a track's timeline at a grid point."""
        return None if track is None else self._runs[track].get(k)

    def confirmed(self, track: str | None, k: int) -> bool:
        """Return whether a face was confirmed in a track at a grid point; boxes are carried on where it is hidden."""
        return any(b.confirmed for b in self.boxes(k) if b.track_id == track)

    def boxes(self, k: int) -> list[Box]:
        """Return the faces tracked at a grid point."""
        return self._at.get(k, [])

    def match(self, faces: Sequence[Face], k: int) -> list[str | None]:
        """Return the track of each person in view, None where none is found; no track stands for two people.

        People with an `x` range are given tracks whose centre lies in it: as many as can be, nearest to the middles of
        their ranges, the larger face counting as nearer. People with a place take the largest face there.
        """
        found: list[str | None] = [None] * len(faces)
        boxes = self.boxes(k)
        ranged = [i for i, face in enumerate(faces) if face.x is not None]
        if ranged and boxes:
            cost = np.array([[_apart(faces[i], box) for box in boxes] for i in ranged])
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if cost[row, column] < FAR:
                    found[ranged[row]] = boxes[column].track_id
        for i, face in enumerate(faces):
            if face.x is None:
                here = [b for b in boxes if _at(face.place, self._rows[b.track_id]["center_x"])]
                best = max(here, key=lambda b: self._rows[b.track_id]["median_face_px"], default=None)
                found[i] = None if best is None else best.track_id
        return found


def _at(place: str, center_x: float) -> bool:
    return {"left": center_x < 0.5, "right": center_x >= 0.5}.get(place, True)


def _apart(face: Face, box: Box) -> float:
    """Return how badly a box fits a labelled face: outside its range first, then smallness; FAR when not at all."""
    assert face.x is not None
    outside = max(0.0, face.x[0] - box.x, box.x - face.x[1])
    if outside > X_SLACK:
        return FAR
    if face.y is not None:
        below = max(0.0, face.y[0] - box.y, box.y - face.y[1])
        if below > Y_SLACK:
            return FAR
        outside += below
    return 10 * outside + abs(box.x - sum(face.x) / 2) - box.size


def found_tracks(
    dataset: Dataset, source_ids: Sequence[str], timeline: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, FoundTracks]:
    """Read what was found in some sources; with `timeline`, those TIMELINE rows stand for the dataset's own."""
    of = {r["tracklet_id"]: r["track_id"] for r in dataset.table(t.TRACKLETS).to_pylist()}
    size = {r["source_id"]: (r["width"], r["height"]) for r in dataset.table(t.SOURCES).to_pylist()}
    boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    faces = dataset.table(t.FACE_FRAMES, ["source_id", "tracklet_id", "k", "x", "y", "w", "h", "has_mesh"])
    for r in faces.to_pylist():
        if r["tracklet_id"] in of:
            width, height = size[r["source_id"]]
            boxes[of[r["tracklet_id"]]].append(
                (r["k"], (r["x"] + r["w"] / 2) / width, (r["y"] + r["h"] / 2) / height, r["w"] / width, r["has_mesh"])
            )
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for r in dataset.table(t.ASD_FRAMES, ["track_id", "k", "score"]).to_pylist():
        scores[r["track_id"]][r["k"]] = r["score"]
    speech: dict[str, dict[int, float]] = defaultdict(dict)
    for r in dataset.table(t.SPEECH_FRAMES, ["source_id", "k", "speech"]).to_pylist():
        speech[r["source_id"]][r["k"]] = r["speech"]
    tracks, runs = dataset.table(t.TRACKS), dataset.table(t.TIMELINE)
    out = {}
    for source in source_ids:
        mine = tracks.filter(pc.field("source_id") == source).to_pylist()
        ids = {r["track_id"] for r in mine}
        out[source] = FoundTracks(
            mine,
            [r for r in timeline if r["source_id"] == source]
            if timeline is not None
            else runs.filter(pc.field("source_id") == source).to_pylist(),
            {i: np.array(boxes[i], float) for i in ids if boxes[i]},
            {i: scores[i] for i in ids},
            speech[source],
        )
    return out
