"""Stage `body`: posture and hands of every segment's person, a few times a second.

Only what may be kept is looked at, and only around the person's face, in the panel in which it lies; while no wrist is
in view, as in most close-ups, half as often. Within a segment, which no cut crosses, hands are followed from look to
look; its first look is a new one, so that its numbers do not depend on what else is measured. The pictures are decoded
here a second time (1.6 ms a frame of 1280 x 720), since no other stage sees the frames of live segments before captions
are written; all people of a picture share one decoding. Without the networks the tables stay empty and the run goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from pydantic import Field

from annotators.body.measures import Posture, body_yaw_deg, posture, shoulder_width_px, shoulders_seen, wrist
from annotators.body.series import BodySignals, summary
from annotators.parts import Part, part
from annotators.performance.signal_series import BODY_RULES
from annotators.protocols import Box, Image
from annotators.protocols_body import SHOULDERS, Body, BodyAnalyzer
from annotators.shipped import BODY_ANALYZERS
from curation.media.grid import frames_on_grid
from curation.media.video import iter_frames
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas.settings.use import Shared
from schemas.table import Table
from schemas.tables import BODIES, BODY_FRAMES, FACE_FRAMES, LAYOUT, SEGMENTS, SOURCES, TRACKLETS
from schemas.tables.body import BodyFrameRow, BodyRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.scan import LayoutRow
from schemas.time import GRID_HZ, Interval, grid_range
from stages.clip_plan.crop import clip_bounds
from stages.clip_plan.framing import Crop, Rect
from stages.face_series import BOX, Series, row_at, track_series, tracklets_of

_GAP_S = 2.0
"""Looked-at times nearer than this are decoded in one go: seeking costs about as much."""
_FOLLOW_S = 0.45
"""Hands are followed over this time: two looks, one of them passed over."""

Faces = Mapping[str, Series]


class BodySettings(StageSettings):
    """How often bodies are looked at."""

    backend: Part[BodyAnalyzer | None] = part(
        BODY_ANALYZERS, "pose and hands; auto: these where their weights are, else none", auto=("mediapipe", "none")
    )
    every: int = Field(5, ge=1, description="grid points (40 ms) from one measurement to the next")
    max_side_px: Annotated[int, Shared("max_side_px")] = Field(
        1280, ge=256, description="pictures are analysed at this size at most, longer side"
    )


class BodyStage:
    """Stage: measure the bodies of the live segments."""

    name: ClassVar[str] = "body"
    version: ClassVar[int] = 4
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, TRACKLETS, FACE_FRAMES, LAYOUT, SEGMENTS)
    writes: ClassVar[tuple[Table, ...]] = (BODY_FRAMES, BODIES)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[BodySettings]] = BodySettings

    def __init__(self, settings: BodySettings, analyzer: BodyAnalyzer | None = None) -> None:
        """Load the networks, or take an analyzer. Raises WeightsNotFound where they are asked for by name."""
        self._settings = settings
        self._analyzer = analyzer or settings.backend.build()

    def close(self) -> None:
        """Release the models."""
        if self._analyzer is not None:
            self._analyzer.close()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Measure the item's segments. Raises MediaError where the media cannot be read."""
        if self._analyzer is None or not item.units:
            return Outputs({t: t.empty() for t in self.writes})
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        source = SOURCES.rows(inputs.read(SOURCES))[0]
        faces = track_series(inputs.parts(FACE_FRAMES), tracklets_of(inputs.read(TRACKLETS)), BOX)
        size = (source.width, source.height)
        ks = {unit: looked_at(segments[unit], self._settings.every) for unit in item.units}
        layout = LAYOUT.rows(inputs.read(LAYOUT))
        wanted = {u: _Wanted(segments[u], ks[u], panel(segments[u], faces, layout, size)) for u in item.units}
        found = self._look(inputs.media, wanted, faces, size)

        def rows(unit: str) -> Rows:
            mine = found[unit]
            return {BODY_FRAMES: mine, BODIES: [segment_row(segments[unit], mine, len(ks[unit]))]}

        return each_unit(item.units, rows)

    def _look(
        self, media: Path, wanted: Mapping[str, _Wanted], faces: Faces, size: tuple[int, int]
    ) -> dict[str, list[BodyFrameRow]]:
        assert self._analyzer is not None
        units: dict[int, list[str]] = defaultdict(list)
        for unit, one in wanted.items():
            for k in one.ks:
                units[k].append(unit)
        looks = {unit: _Looks(one.segment, self._analyzer) for unit, one in wanted.items()}
        for k, t_s, rgb in pictures(media, sorted(units), self._settings):
            scale = size[0] / rgb.shape[1]
            here = {track: box for track, s in faces.items() if (box := _face_at(s, k, scale)) is not None}
            for unit in units[k]:
                track = wanted[unit].segment.track_id
                if track not in here:
                    continue
                place = _within(wanted[unit].panel, scale, rgb.shape)
                part = rgb[place.y : place.y + place.h, place.x : place.x + place.w]
                near = {t: Box(b.x - place.x, b.y - place.y, b.w, b.h) for t, b in here.items()}
                others = [b for t, b in near.items() if t != track]
                looks[unit].add(_Look(k, t_s, part, near[track], others, place, scale))
        return {unit: one.close() for unit, one in looks.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """One picture of one person: the part `place` of it, the face and other faces in it, source pixels per pixel."""

    k: int
    t_s: float
    rgb: Image
    face: Box
    others: Sequence[Box]
    place: Crop
    scale: float


class _Looks:
    """The looks at one segment's body: every second one is passed over while no wrist is in view before and after it.

    So hands that come into view are followed from the first look on, and a close-up costs half.
    """

    def __init__(self, segment: SegmentRow, analyzer: BodyAnalyzer) -> None:
        self._segment, self._analyzer = segment, analyzer
        self._rows: list[BodyFrameRow] = []
        self._stands = False  # the last look was measured, so its row may stand for the next one
        self._hands = True
        self._held: _Look | None = None
        self._before: tuple[float, Body] | None = None

    def add(self, look: _Look) -> None:
        """Measure a look, or hold it until the next one has been seen."""
        if not self._hands and self._held is None:
            self._held = look
            return
        body = self._measure(look)
        row = self._row(look, body)
        hands = row is not None and bool(row.left_wrist_xy or row.right_wrist_xy)
        if self._held is not None and hands:
            self._keep(self._row(self._held, self._measure(self._held)))
        self._before = None if body is None else (look.t_s, body)
        self._pass_over()
        self._keep(row)
        self._hands = hands

    def close(self) -> list[BodyFrameRow]:
        """Return the rows."""
        self._pass_over()
        return self._rows

    def _measure(self, look: _Look) -> Body | None:
        """Return the look's body, given the last one that was measured where that is not long ago."""
        seen = self._before
        before = seen[1] if seen is not None and look.t_s - seen[0] <= _FOLLOW_S else None
        return self._analyzer.measure(look.rgb, look.face, look.others, before=before)

    def _row(self, look: _Look, body: Body | None) -> BodyFrameRow | None:
        name = self._analyzer.name
        return None if body is None else _frame_row(self._segment, look.k, look.t_s, body, look.place, look.scale, name)

    def _keep(self, row: BodyFrameRow | None) -> None:
        self._held, self._stands = None, row is not None
        if row is not None:
            self._rows.append(row)

    def _pass_over(self) -> None:
        if self._held is not None and self._stands:
            self._rows[-1] = self._rows[-1].but(looks=self._rows[-1].looks + 1)
        self._held = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A segment, the grid points at which it is looked at, and the part of the source's picture that is its own."""

    segment: SegmentRow
    ks: Sequence[int]
    panel: Rect


def panel(segment: SegmentRow, faces: Faces, layout: Sequence[LayoutRow], size: tuple[int, int]) -> Rect:
    """Return the part of the picture that is a segment's own: its panel of a split screen, else all of it."""
    if segment.track_id not in faces:
        return Rect(0.0, 0.0, *map(float, size))
    return clip_bounds(segment, faces, layout, size)[1]


def looked_at(segment: SegmentRow, every: int) -> list[int]:
    """Return the grid points of a segment at which its body is looked at: multiples of `every` on the source's grid."""
    ks = grid_range(Interval(segment.start_s, segment.end_s))
    return list(range(-(-ks.start // every) * every, ks.stop, every))


def pictures(media: Path, ks: Sequence[int], settings: BodySettings) -> Iterator[tuple[int, float, Any]]:
    """Yield grid point, time and RGB picture of sorted grid points; stretches far from all of them are skipped."""
    breaks = np.flatnonzero(np.diff(ks) > _GAP_S * GRID_HZ) + 1
    for stretch in np.split(np.asarray(ks, np.int64), breaks):
        if not len(stretch):
            continue
        first, last, chosen = int(stretch[0]), int(stretch[-1]), set(stretch.tolist())
        span = iter_frames(media, first / GRID_HZ - 0.2, last / GRID_HZ + 0.2, max_side=settings.max_side_px)
        n = (last - first) // settings.every + 1
        shown = frames_on_grid(span, first / GRID_HZ, n, GRID_HZ / settings.every)
        for k, frame in zip(range(first, last + 1, settings.every), shown, strict=True):
            if k in chosen:
                yield k, frame.pts_s, frame.rgb()


def _frame_row(
    segment: SegmentRow, k: int, t_s: float, body: Body, place: Crop, scale: float, annotator: str
) -> BodyFrameRow:
    """Return a BODY_FRAMES row, in pixels of the source.

    `body` is measured in the part `place` of the analysed picture, whose pixels are `scale` source pixels each.
    """
    picture = (place.w, place.h)
    wide = shoulders_seen(body, picture)
    corner = np.array([place.x, place.y])
    wrists = [wrist(body, side, picture) for side in (0, 1)]
    return BodyFrameRow(
        segment_id=segment.segment_id,
        source_id=segment.source_id,
        track_id=segment.track_id,
        k=k,
        t_s=t_s,
        shoulders_xy=((body.points[list(SHOULDERS)] + corner) * scale).ravel().tolist() if wide else [],
        shoulder_width=shoulder_width_px(body) * scale if wide else None,
        body_yaw_deg=body_yaw_deg(body, picture),
        left_wrist_xy=[] if wrists[0] is None else ((wrists[0] + corner) * scale).tolist(),
        right_wrist_xy=[] if wrists[1] is None else ((wrists[1] + corner) * scale).tolist(),
        left_hand=body.hands[0],
        right_hand=body.hands[1],
        posture=posture(body, picture),
        looks=1,
        annotator=annotator,
    )


def body_signals(rows: Sequence[BodyFrameRow], face: Series | None = None) -> BodySignals:
    """Return BODY_FRAMES rows of one segment as series; `face` are the boxes of its track."""
    n = len(rows)
    middle = np.full((n, 3), np.nan)
    if face is not None:
        for i, r in enumerate(rows):
            if (at := row_at(face, r.k)) is not None:
                x, y, w, h = (float(face[c][at]) for c in BOX)
                middle[i] = x + w / 2, y + h / 2, h
    return BodySignals(
        t_s=np.array([r.t_s for r in rows], np.float64),
        shoulders=np.array([_points(r.shoulders_xy, 2) for r in rows]).reshape(n, 2, 2),
        wrists=np.array([[_points(xy, 1)[0] for xy in (r.left_wrist_xy, r.right_wrist_xy)] for r in rows]).reshape(
            n, 2, 2
        ),
        width=np.array([r.shoulder_width for r in rows], np.float64),
        yaw_deg=np.array([r.body_yaw_deg for r in rows], np.float64),
        hands=np.array([(r.left_hand, r.right_hand) for r in rows], np.float64).reshape(n, 2),
        face=middle,
        looks=np.array([r.looks for r in rows], np.float64),
        postures=cast(tuple[Posture | None, ...], tuple(r.posture for r in rows)),
    )


def segment_row(segment: SegmentRow, rows: Sequence[BodyFrameRow], looked_at: int) -> BodyRow:
    """Return the BODIES row of a segment."""
    told = summary(body_signals(rows), looked_at)
    return BodyRow(
        segment_id=segment.segment_id,
        source_id=segment.source_id,
        track_id=segment.track_id,
        n_looked_at=looked_at,
        measured_ratio=sum(r.looks for r in rows) / max(1, looked_at),
        hands_visible_ratio=told.hands_visible_ratio,
        gesture_energy=told.gesture_energy,
        body_yaw_deg=told.body_yaw_deg,
        body_view=told.body_view,
        posture=told.posture,
        arms=told.arms,
        annotator=BODY_RULES,
    )


def _within(panel: Rect, scale: float, shape: Sequence[int]) -> Crop:
    """Return a panel, in source pixels, as whole pixels of an analysed picture [height, width, ...]."""
    x0, y0 = max(0, round(panel.x0 / scale)), max(0, round(panel.y0 / scale))
    x1, y1 = min(shape[1], round(panel.x1 / scale)), min(shape[0], round(panel.y1 / scale))
    return Crop(x0, y0, max(1, x1 - x0), max(1, y1 - y0))


def _points(values: Sequence[float], n: int) -> np.ndarray[Any, Any]:
    return np.reshape(values, (n, 2)) if len(values) else np.full((n, 2), np.nan)


def _face_at(series: Series, k: int, scale: float) -> Box | None:
    """Return a track's face at a grid point, in pixels of the analysed picture; None where it has none there."""
    at = row_at(series, k)
    return None if at is None else Box(*(float(series[c][at]) / scale for c in BOX))
