"""Stage `tracks`: shots from cuts, and tracks from the windows' tracklets, each with its measures.

Shots partition the source. A track never crosses a cut, and where two pieces lie near each other their portraits are
compared before they are joined. Cheap: tables in, tables out, no media; 17 ms for each portrait compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from annotators.parts import Part, part
from annotators.portrait_embedder import PortraitEmbedder
from annotators.protocols import Box
from annotators.shipped import FACE_COMPARERS
from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem
from schemas.table import Table
from schemas.tables import CUTS, FACE_FRAMES, FRAMES, LAYOUT, PORTRAITS, SHOTS, SOURCES, TRACKLETS, TRACKS
from schemas.time import GRID_HZ, grid_index, grid_time
from stages import scan_people
from stages.scan_people import Vector
from stages.tracks_join import Piece, join, shot_of
from stages.tracks_measure import shot_measures, track_measures
from stages.tracks_overlay import without_features


class TracksSettings(StageSettings):
    """How pieces are put together."""

    min_shot_s: float = Field(0.2, ge=0, description="cuts closer than this are one cut (a flash, a dissolve)")
    people: Part[PortraitEmbedder | None] = part(
        FACE_COMPARERS,
        "portraits are compared before pieces are joined; auto: where the embedder can be had",
        auto=("face-reid", "none"),
        fetch=True,
        shared="people",
    )
    max_gap_s: float = Field(0.6, ge=0, description="a face that comes back after so long is the same track")


class Tracks:
    """Stage: shots and tracks of one source."""

    name: ClassVar[str] = "tracks"
    version: ClassVar[int] = 3
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, CUTS, FRAMES, LAYOUT, FACE_FRAMES, PORTRAITS)
    writes: ClassVar[tuple[Table, ...]] = (SHOTS, TRACKS, TRACKLETS)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "any"
    Settings: ClassVar[type[StageSettings]] = TracksSettings

    def __init__(self, settings: TracksSettings) -> None:
        self._settings = settings
        self._people = settings.people.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Put a source's windows together."""
        source = inputs.read(SOURCES).to_pylist()[0]
        frames, layout = inputs.read(FRAMES).to_pandas(), inputs.read(LAYOUT).to_pandas()
        faces = inputs.read(FACE_FRAMES).to_pandas()
        layout = without_features(layout, faces, source["width"], source["height"])
        cuts = _cuts(inputs.read(CUTS), source["duration_s"], self._settings.min_shot_s)
        starts = [0.0, *(c[0] for c in cuts)]
        ends = [*starts[1:], source["duration_s"]]
        shots = []
        for n, (start, end) in enumerate(zip(starts, ends, strict=True)):
            inside = [_between(table, start, end) for table in (frames, layout, faces)]
            shots.append(
                {
                    "shot_id": f"{item.source_id}-s{n:04d}",
                    "source_id": item.source_id,
                    "start_s": start,
                    "end_s": end,
                    "duration_s": end - start,
                    "start_frame": 0 if n == 0 else cuts[n - 1][1],
                    **shot_measures(*inside),
                }
            )
        others = (lambda a, b: False) if self._people is None else _Others(self._people, inputs, faces).say
        tracks, tracklets = self._tracks(item.source_id, faces, layout, starts, ends, source, others)
        tables: dict[Table, Any] = {SHOTS: shots, TRACKS: tracks, TRACKLETS: tracklets}
        return Outputs({table: table.from_rows(rows) for table, rows in tables.items()})

    def _tracks(
        self,
        source_id: str,
        faces: pd.DataFrame,
        layout: pd.DataFrame,
        starts: list[float],
        ends: list[float],
        source: Mapping[str, Any],
        others: Callable[[str, str], bool],
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        groups = dict(iter(faces.groupby("tracklet_id"))) if len(faces) else {}
        pieces = [_piece(str(i), g, starts) for i, g in groups.items()]
        tracks, tracklets = [], []
        for n, chain in enumerate(join(pieces, grid_index(self._settings.max_gap_s), others=others)):
            rows = pd.concat([groups[p.tracklet_id] for p in chain])
            track_id = f"{source_id}-t{n:04d}"
            shot = chain[0].shot
            start = max(starts[shot], grid_time(chain[0].first_k))
            end = min(ends[shot], grid_time(chain[-1].last_k + 1))
            # The grid rounds; a face seen to within a step of the shot's end is seen to its end.
            end = ends[shot] if ends[shot] - end < 1.0 / GRID_HZ else end
            tracks.append(
                {
                    "track_id": track_id,
                    "source_id": source_id,
                    "shot_id": f"{source_id}-s{shot:04d}",
                    "start_s": start,
                    "end_s": max(start, end),
                    "duration_s": max(0.0, end - start),
                    "shot_ratio": max(0.0, end - start) / max(1e-6, ends[shot] - starts[shot]),
                    **track_measures(
                        rows, _between(layout, starts[shot], ends[shot]), source["width"], source["height"]
                    ),
                }
            )
            tracklets += [{"tracklet_id": p.tracklet_id, "source_id": source_id, "track_id": track_id} for p in chain]
        return tracks, tracklets


class _Others:
    """Compares the portraits of two tracklets; each is decoded and embedded when it is first needed."""

    def __init__(self, embedder: PortraitEmbedder, inputs: Inputs, faces: pd.DataFrame) -> None:
        self._embedder, self._inputs, self._faces = embedder, inputs, faces
        self._vectors: dict[tuple[str, bool], list[Vector]] = {}

    def say(self, before: str, after: str) -> bool:
        """Say whether the last portraits of one tracklet and the first of a later one are of different people.

        A single portrait on a side is enough here: what is kept apart by mistake is only shorter.
        """
        return scan_people.different(self._of(before, last=True), self._of(after, last=False)) is not False

    def _of(self, tracklet: str, last: bool) -> list[Vector]:
        if (tracklet, last) not in self._vectors:
            faces = self._faces[self._faces["tracklet_id"] == tracklet].set_index("k")
            rows = sorted(
                (r for part in self._inputs.parts(PORTRAITS) for r in _rows_of(part, tracklet)), key=lambda r: r["k"]
            )
            rows = [r for r in rows if r["k"] in faces.index and scan_people.comparable(r, faces.loc[r["k"]])]
            rows = rows[-scan_people.SIDE :] if last else rows[: scan_people.SIDE]
            self._vectors[tracklet, last] = [scan_people.embed_row(self._embedder, r) for r in rows]
        return self._vectors[tracklet, last]


def _rows_of(part: pa.Table, tracklet: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = part.filter(pc.is_in(part["tracklet_id"], pa.array([tracklet]))).to_pylist()
    return rows


def _cuts(table: pa.Table, duration_s: float, min_shot_s: float) -> list[tuple[float, int]]:
    """Return (time, frame index) of cuts at least `min_shot_s` apart, the stronger of two close ones, in order.

    The file's first and last shot may be shorter: often a frame of another shot is left over from cutting the file.
    """
    rows = sorted(table.to_pylist(), key=lambda r: (-r["score"], r["t_s"]))
    kept: list[tuple[float, int]] = []
    for r in rows:
        if 0.0 < r["t_s"] < duration_s and all(abs(r["t_s"] - t) >= min_shot_s for t, _ in kept):
            kept.append((r["t_s"], r["frame"]))
    return sorted(kept)


def _piece(tracklet_id: str, rows: pd.DataFrame, starts: list[float]) -> Piece:
    boxes = [Box(*(float(r[c]) for c in "xywh")) for _, r in rows.iloc[[0, -1]].iterrows()]
    first, last = int(rows["k"].iloc[0]), int(rows["k"].iloc[-1])
    return Piece(tracklet_id, shot_of(float(rows["t_s"].iloc[0]), starts), first, last, boxes[0], boxes[1], len(rows))


def _between(table: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    return table[(table["t_s"] >= start_s - 1e-6) & (table["t_s"] < end_s - 1e-6)]
