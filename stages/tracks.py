"""Stage `tracks`: shots from cuts, and tracks from the windows' tracklets, each with its measures.

Shots partition the source. A track never crosses a cut. Cheap: tables in, tables out, no media.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
from pydantic import Field

from annotators.protocols import Box
from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem
from schemas.table import Table
from schemas.tables import CUTS, FACE_FRAMES, FRAMES, LAYOUT, SHOTS, SOURCES, TRACKLETS, TRACKS
from schemas.time import GRID_HZ, grid_index, grid_time
from stages.tracks_join import Piece, join, shot_of
from stages.tracks_measure import shot_measures, track_measures
from stages.tracks_overlay import without_features


class TracksSettings(StageSettings):
    """How pieces are put together."""

    min_shot_s: float = Field(0.2, ge=0, description="cuts closer than this are one cut (a flash, a dissolve)")
    max_gap_s: float = Field(0.6, ge=0, description="a face that comes back after so long is the same track")


class Tracks:
    """Stage: shots and tracks of one source."""

    name: ClassVar[str] = "tracks"
    version: ClassVar[int] = 2
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, CUTS, FRAMES, LAYOUT, FACE_FRAMES)
    writes: ClassVar[tuple[Table, ...]] = (SHOTS, TRACKS, TRACKLETS)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "any"
    Settings: ClassVar[type[StageSettings]] = TracksSettings

    def __init__(self, settings: TracksSettings) -> None:
        self._settings = settings

    @classmethod
    def identity(cls, settings: TracksSettings) -> Mapping[str, str]:
        """Name the method."""
        return {"join": "position"}

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
        tracks, tracklets = self._tracks(item.source_id, faces, layout, starts, ends, source)
        tables = {SHOTS: shots, TRACKS: tracks, TRACKLETS: tracklets}
        return Outputs({table: table.from_rows(rows) for table, rows in tables.items()})

    def _tracks(
        self,
        source_id: str,
        faces: pd.DataFrame,
        layout: pd.DataFrame,
        starts: list[float],
        ends: list[float],
        source: Mapping[str, Any],
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        groups = dict(iter(faces.groupby("tracklet_id"))) if len(faces) else {}
        pieces = [_piece(str(i), g, starts) for i, g in groups.items()]
        tracks, tracklets = [], []
        for n, chain in enumerate(join(pieces, grid_index(self._settings.max_gap_s))):
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


def _cuts(table: pa.Table, duration_s: float, min_shot_s: float) -> list[tuple[float, int]]:
    """Return (time, frame index) of cuts at least `min_shot_s` apart, the stronger of two close ones, in order."""
    rows = sorted(table.to_pylist(), key=lambda r: (-r["score"], r["t_s"]))
    kept: list[tuple[float, int]] = []
    for r in rows:
        times = [0.0, duration_s, *(k[0] for k in kept)]
        if all(abs(r["t_s"] - t) >= min_shot_s for t in times):
            kept.append((r["t_s"], r["frame"]))
    return sorted(kept)


def _piece(tracklet_id: str, rows: pd.DataFrame, starts: list[float]) -> Piece:
    boxes = [Box(*(float(r[c]) for c in "xywh")) for _, r in rows.iloc[[0, -1]].iterrows()]
    first, last = int(rows["k"].iloc[0]), int(rows["k"].iloc[-1])
    return Piece(tracklet_id, shot_of(float(rows["t_s"].iloc[0]), starts), first, last, boxes[0], boxes[1], len(rows))


def _between(table: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    return table[(table["t_s"] >= start_s - 1e-6) & (table["t_s"] < end_s - 1e-6)]
