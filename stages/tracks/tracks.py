"""Stage `tracks`: shots from cuts, and tracks from the windows' tracklets, each with its measures.

Shots partition the source. A track never crosses a cut, and where two pieces lie near each other their portraits are
compared before they are joined. Cheap: tables in, tables out, no media; 17 ms for each portrait compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from annotators.face.portrait_embedder import PortraitEmbedder
from annotators.parts import Part, part
from annotators.protocols import Box
from annotators.shipped import FACE_COMPARERS
from curation.labels.apply import in_order, with_cuts
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Column, Table
from schemas.tables import CUT_LABELS, CUTS, FACE_FRAMES, FRAMES, LAYOUT, PORTRAITS, SHOTS, SOURCES, TRACKLETS, TRACKS
from schemas.tables.labels import CutLabelRow
from schemas.tables.scan import FaceFrameRow, FrameRow, LayoutRow, PortraitRow
from schemas.tables.tracks import ShotRow, TrackletRow, TrackRow
from schemas.time import GRID_HZ, Interval, grid_index, grid_time
from stages.face_series import BOX
from stages.scan import people as scan_people
from stages.scan.people import Vector
from stages.tracks.join import Piece, join, shot_of
from stages.tracks.measure import shot_row, track_row
from stages.tracks.overlay import without_features

if TYPE_CHECKING:
    import pandas as pd


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
    version: ClassVar[int] = 4
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, CUTS, FRAMES, LAYOUT, FACE_FRAMES, PORTRAITS, CUT_LABELS)
    writes: ClassVar[tuple[Table, ...]] = (SHOTS, TRACKS, TRACKLETS)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "once"
    Settings: ClassVar[type[StageSettings]] = TracksSettings

    def __init__(self, settings: TracksSettings) -> None:
        self._settings = settings
        self._people = settings.people.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Put a source's windows together."""
        (source,) = SOURCES.rows(inputs.read(SOURCES))
        seen, size = inputs.read(FACE_FRAMES), (source.width, source.height)
        frames, layout, faces = inputs.read(FRAMES).to_pandas(), inputs.read(LAYOUT).to_pandas(), seen.to_pandas()
        layout = without_features(layout, faces, *size)
        said = CUT_LABELS.rows(inputs.read(CUT_LABELS))
        cuts = _cuts(inputs.read(CUTS), said, source.duration_s, self._settings.min_shot_s)
        borders = [(0.0, 0, 0.0), *cuts, (source.duration_s, 0, 0.0)]
        shots = []
        for n, ((start_s, first, _), (end_s, _, mixed_s)) in enumerate(pairwise(borders)):
            span = Interval(start_s, end_s)
            inside = (
                _between(frames, FrameRow.t_s, span),
                _between(layout, LayoutRow.t_s, span),
                _between(faces, FaceFrameRow.t_s, span),
            )
            shots.append(shot_row(f"{item.source_id}-s{n:04d}", item.source_id, span, first, mixed_s, *inside))
        others = (lambda a, b: False) if self._people is None else _Others(self._people, inputs, seen).say
        tracks, tracklets = self._tracks(faces, layout, shots, size, others)
        return Outputs(
            {
                SHOTS: SHOTS.from_rows(shots),
                TRACKS: TRACKS.from_rows(tracks),
                TRACKLETS: TRACKLETS.from_rows(tracklets),
            }
        )

    def _tracks(
        self,
        faces: pd.DataFrame,
        layout: pd.DataFrame,
        shots: Sequence[ShotRow],
        size: tuple[int, int],
        others: Callable[[str, str], bool],
    ) -> tuple[list[TrackRow], list[TrackletRow]]:
        import pandas as pd

        groups = dict(iter(faces.groupby(FaceFrameRow.tracklet_id.name))) if len(faces) else {}
        starts = [shot.start_s for shot in shots]
        pieces = [_piece(str(i), g, starts) for i, g in groups.items()]
        tracks, tracklets = [], []
        for n, chain in enumerate(join(pieces, grid_index(self._settings.max_gap_s), others=others)):
            rows = pd.concat([groups[p.tracklet_id] for p in chain])
            shot = shots[chain[0].shot]
            track_id = f"{shot.source_id}-t{n:04d}"
            start = max(shot.start_s, grid_time(chain[0].first_k))
            end = min(shot.end_s, grid_time(chain[-1].last_k + 1))
            # The grid rounds; a face seen to within a step of the shot's end is seen to its end.
            end = shot.end_s if shot.end_s - end < 1.0 / GRID_HZ else end
            around = _between(layout, LayoutRow.t_s, Interval(shot.start_s, shot.end_s))
            tracks.append(track_row(track_id, shot, Interval(start, max(start, end)), rows, around, size))
            tracklets += [
                TrackletRow(tracklet_id=p.tracklet_id, source_id=shot.source_id, track_id=track_id) for p in chain
            ]
        return tracks, tracklets


class _Others:
    """Compares the portraits of two tracklets; each is decoded and embedded when it is first needed."""

    def __init__(self, embedder: PortraitEmbedder, inputs: Inputs, faces: pa.Table) -> None:
        self._embedder, self._inputs, self._faces = embedder, inputs, faces
        self._vectors: dict[tuple[str, bool], list[Vector]] = {}

    def say(self, before: str, after: str) -> bool:
        """Say whether the last portraits of one tracklet and the first of a later one are of different people.

        A single portrait on a side is enough here: what is kept apart by mistake is only shorter.
        """
        return scan_people.different(self._of(before, last=True), self._of(after, last=False)) is not False

    def _of(self, tracklet: str, last: bool) -> list[Vector]:
        if (tracklet, last) not in self._vectors:
            parts = [_rows_of(part, PortraitRow.tracklet_id, tracklet) for part in self._inputs.parts(PORTRAITS)]
            portraits = sorted((r for part in parts for r in PORTRAITS.rows(part)), key=lambda r: r.k)
            faces = _rows_of(self._faces, FaceFrameRow.tracklet_id, tracklet)
            faces = faces.filter(pc.is_in(FaceFrameRow.k.of(faces), pa.array([p.k for p in portraits], pa.int32())))
            face_at = {r.k: r for r in FACE_FRAMES.rows(faces)}
            clear = [p for p in portraits if scan_people.comparable(p, face_at.get(p.k))]
            clear = clear[-scan_people.SIDE :] if last else clear[: scan_people.SIDE]
            self._vectors[tracklet, last] = [scan_people.embed_row(self._embedder, p) for p in clear]
        return self._vectors[tracklet, last]


def _rows_of(table: pa.Table, column: Column[str], value: str) -> pa.Table:
    return table.filter(pc.equal(column.of(table), pa.scalar(value)))


def _cuts(
    table: pa.Table, said: Sequence[CutLabelRow], duration_s: float, min_shot_s: float
) -> list[tuple[float, int, float]]:
    """Return (time, frame index, mixed seconds before it) of cuts, in order, without those that people took out.

    They are at least `min_shot_s` apart, the stronger of two close ones. The file's first and last shot may be
    shorter: often a frame of another shot is left over from cutting the file.
    """
    rows = sorted(CUTS.rows(table), key=lambda r: (-r.score, r.t_s))
    held = with_cuts((r.t_s for r in rows), in_order(said)) if said else []
    rows = [r for r in rows if not said or r.t_s in held]
    kept: list[tuple[float, int, float]] = []
    for r in rows:
        if 0.0 < r.t_s < duration_s and all(abs(r.t_s - t) >= min_shot_s for t, *_ in kept):
            kept.append((r.t_s, r.frame, r.mixed_s))
    return sorted(kept)


def _piece(tracklet_id: str, rows: pd.DataFrame, starts: list[float]) -> Piece:
    boxes = [Box(*(float(column.of(rows).iloc[i]) for column in BOX)) for i in (0, -1)]
    ks, times = FaceFrameRow.k.of(rows), FaceFrameRow.t_s.of(rows)
    shot = shot_of(float(times.iloc[0]), starts)
    return Piece(tracklet_id, shot, int(ks.iloc[0]), int(ks.iloc[-1]), boxes[0], boxes[1], len(rows))


def _between(frame: pd.DataFrame, t_s: Column[float], span: Interval) -> pd.DataFrame:
    times = t_s.of(frame)
    return frame[(times >= span.start_s - 1e-6) & (times < span.end_s - 1e-6)]
