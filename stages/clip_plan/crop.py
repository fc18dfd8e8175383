"""The picture of one candidate clip, from the measured faces and layout: its scene, and the bounds of its crop. Pure.

Overlays are measured every few seconds, so what stood in the shot just before and after a clip counts as in it, and
places where text comes back throughout the source (subtitles) are known beside.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from curation.stage import StageSettings
from schemas.tables.plans import ClipPlanRow
from schemas.tables.scan import FaceFrameRow, LayoutRow
from schemas.time import Interval, grid_range
from stages.clip_plan.bounds import person_bounds
from stages.clip_plan.crop_path import CropPath, FloatArray
from stages.clip_plan.crop_search import Scene
from stages.clip_plan.framing import Crop, CropShape, Rect, face_union
from stages.face_series import SURE, Series, between, between_or_nearest, boxes
from stages.row_traits import Stretch

_SPARE_PX = 2.0
"""Overlays are kept out with this much room: a crop is rounded to whole pixels."""
_BORDER = 0.01
"""A panel's, inset's or bar's edge is known to this share of the picture's width; a strip may be drawn along it."""
_GLYPHS = 0.3
"""Boxes of text hold the letters; what they are printed on reaches this share of a line's height further,"""
_PLATE = 0.01
"""and not more than this share of the picture's width: tall boxes hold several lines."""
_AGREE = 0.8
"""Boxes that share this much of the rectangle around both are one thing, measured twice."""
_BAND = 0.5
"""Lines of text that overlap by this share of the lower one's height, and at all in width, stand in one place."""
_GLIMPSE, _DOUBTFUL = 5, 12
"""Grid points for which a face must be seen to count as somebody (0.2 s): shorter ones are slips of the detector. One
that no landmarks fit and the detector was never sure of needs more (0.5 s)."""
_CLOSE_S = 8.0
"""Text of one shot alone may come back within this time."""
_USUAL, _USUAL_SHARE = 3, 0.1
"""A place is usual when text stood there in this many measurements, and this share of all."""
_STEADY = 0.8
"""Text of one shot in this share of its measurements is a title or a page of that shot: it cannot come in others."""


class CropSettings(StageSettings):
    """How persons are framed; margins in sizes of the face box (forehead to chin)."""

    aspect: float = Field(1.0, gt=0.2, lt=5, description="width / height of the person crop: 1 square, 0.75 upright")
    margin_above: float = Field(0.9, ge=0, description="room above the face box, in face heights")
    margin_below: float = Field(1.6, ge=0, description="room below it: shoulders")
    margin_below_body: float = Field(
        3.1, ge=0, description="room below it where there is room for half body; 0 = never"
    )
    margin_beside: float = Field(0.9, ge=0, description="room at each side of the face box, in face widths")
    least_above: float = Field(0.35, ge=0, description="least room above, where the picture has it: the hair")
    least_below: float = Field(0.06, ge=0, description="least room below: the chin's outline")
    least_beside: float = Field(0.15, ge=0, description="least room at each side: the ears")
    max_speed: float = Field(0.8, ge=0, description="a following crop's centre moves no faster (crop heights / s)")
    max_zoom: float = Field(0.5, ge=0, description="and its size changes no faster (share / s)")

    @property
    def shape(self) -> CropShape:
        """The settings as geometry."""
        return CropShape(
            self.aspect, self.margin_above, self.margin_below, self.margin_below_body, self.margin_beside,
            min(self.least_above, self.margin_above), min(self.least_below, self.margin_below),
            min(self.least_beside, self.margin_beside), self.max_speed, self.max_zoom,
        )  # fmt: skip


def near_rows(layout: Sequence[LayoutRow], ks: range, shot: Interval | None) -> list[LayoutRow]:
    """Return the layout rows of a clip: those inside it, and in its shot the last before and the first after it."""
    mine = [r for r in layout if shot is None or shot.start_s - 1e-6 <= r.t_s < shot.end_s]
    mine.sort(key=lambda r: r.k)
    before, after = [r for r in mine if r.k < ks.start], [r for r in mine if r.k >= ks.stop]
    near = [*before[-1:], *(r for r in mine if ks.start <= r.k < ks.stop), *after[:1]]
    return near or sorted(layout, key=lambda r: (abs(r.k - (ks.start + ks.stop) / 2), r.k))[:1]


def clip_bounds(
    segment: Stretch, faces: Mapping[str, Series], layout: Sequence[LayoutRow], size: tuple[int, int]
) -> tuple[Rect, Rect]:
    """Return (rectangle around the person's face over the segment, where the crop may lie) in pixels.

    A segment that lies wholly in a gap of its track takes the nearest box. Raises ValueError for a track without any.
    """
    ks = grid_range(Interval(segment.start_s, segment.end_s))
    track = segment.track_id
    mine = boxes(between_or_nearest(faces[track], ks)) if track in faces else np.zeros((0, 4))
    if not len(mine):
        raise ValueError(f"segment {segment.segment_id} has no face box of {track}")
    face = face_union(mine)
    inside = [r for r in layout if ks.start <= r.k < ks.stop] or near_rows(layout, ks, None)
    bounds = person_bounds(inside, face, *size)
    spare = _BORDER * size[0]
    tight = Rect(
        bounds.x0 + spare * (bounds.x0 > 0), bounds.y0 + spare * (bounds.y0 > 0),
        bounds.x1 - spare * (bounds.x1 < size[0]), bounds.y1 - spare * (bounds.y1 < size[1]),
    )  # fmt: skip
    return face, tight if tight.x1 - tight.x0 > 8 and tight.y1 - tight.y0 > 8 and tight.meets(face) else bounds


def clip_scene(
    segment: Stretch,
    faces: Mapping[str, Series],
    layout: Sequence[LayoutRow],
    usual: FloatArray,
    size: tuple[int, int],
    shot: Interval | None,
) -> Scene:
    """Return what is in the picture during a segment.

    `faces` are the tracks' boxes over the whole source; `layout` its LAYOUT rows; `usual` the
    `usual_here` of its shot. Raises ValueError for a track without a face box.
    """
    _, bounds = clip_bounds(segment, faces, layout, size)
    ks = grid_range(Interval(segment.start_s, segment.end_s))
    own = on_grid(faces[segment.track_id], ks, gaps=False)
    strangers = [between(s, ks) for name, s in sorted(faces.items()) if name != segment.track_id]
    others = [on_grid(s, ks, gaps=True) for s in strangers if somebody(s)]
    seen = [o for o in others if _inside(o, bounds)]
    near = near_rows(layout, ks, shot)
    text, outward = overlays((r.text_boxes for r in near), size), np.array([-1.0, -1.0, 1.0, 1.0])
    plates = text + outward * np.minimum(_GLYPHS * (text[:, 3:] - text[:, 1:2]), _PLATE * size[0])
    logos = overlays((r.logo_boxes for r in near), size)
    unwanted = [merged(x) for x in (text, logos, foreign_insets(near, own, size))]
    return Scene(
        face=own,
        others=np.stack(seen, axis=1) if seen else np.full((len(own), 0, 4), np.nan),
        unwanted=np.concatenate(unwanted) + _SPARE_PX * outward,
        usual=usual * np.tile(np.asarray(size, np.float64), 2),
        bounds=bounds,
        margins=merged(plates) + _SPARE_PX * outward,
    )


def somebody(face: Series) -> bool:
    """Say whether what was seen of a face (where known its `has_mesh` and `score`) is more than a slip."""
    sure = np.ones(len(face), bool)
    if FaceFrameRow.has_mesh in face:
        sure = (face[FaceFrameRow.has_mesh] | (face[FaceFrameRow.score] >= SURE)).astype(bool)
    return len(face) >= (_GLIMPSE if sure.any() else _DOUBTFUL)


def on_grid(series: Series, ks: range, gaps: bool) -> FloatArray:
    """Return face boxes [len(ks), 4] as edges; grid points without one are nan, or filled in where not `gaps`."""
    part = between(series, ks) if gaps else between_or_nearest(series, ks)
    edges = boxes(part)
    edges[:, 2:] += edges[:, :2]
    if not gaps and len(edges):
        return np.stack([np.interp(np.asarray(ks), part.k, edges[:, i]) for i in range(4)], axis=1)
    out = np.full((len(ks), 4), np.nan)
    out[part.k - ks.start] = edges
    return out


def overlays(measured: Iterable[Sequence[float]], size: tuple[int, int]) -> FloatArray:
    """Return the boxes [n, 4] (edges, pixels) of some measurements, each flattened as the table LAYOUT holds them."""
    flat = [v for boxes_ in measured for v in boxes_]
    boxes_ = np.asarray(flat, np.float64).reshape(-1, 4)
    return boxes_ * np.tile(np.asarray(size, np.float64), 2)


def merged(boxes_: FloatArray) -> FloatArray:
    """Return boxes [n, 4] (edges) with those that nearly agree as one around them: what stands is measured often."""
    out: list[FloatArray] = []
    for box in boxes_:
        for i, known in enumerate(out):
            low, high = np.minimum(known, box), np.maximum(known, box)
            shared = np.prod(np.clip(low[2:] - high[:2], 0, None))
            around = np.concatenate([low[:2], high[2:]])
            if shared >= _AGREE * np.prod(around[2:] - around[:2]):
                out[i] = around
                break
        else:
            out.append(box)
    return np.asarray(out, np.float64).reshape(-1, 4)


def foreign_insets(rows: Iterable[LayoutRow], face: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Return the pictures within the picture that do not hold a face [n, 4]."""
    found = overlays((r.inset_boxes for r in rows), size)
    x, y = np.median((face[:, 0] + face[:, 2]) / 2), np.median((face[:, 1] + face[:, 3]) / 2)
    mine = (found[:, 0] <= x) & (x < found[:, 2]) & (found[:, 1] <= y) & (y < found[:, 3])
    return found[~mine]


@dataclass(frozen=True)
class Place:
    """Where text comes back: edges [4] in shares of the picture, the shots that have it (by index), and when.

    `only` is the shot that it stands in throughout, where it stands in no other.
    """

    box: FloatArray
    shots: frozenset[int]
    times_s: tuple[float, ...]
    only: Interval | None = None


def usual_text(layout: Sequence[LayoutRow], shots: Sequence[Interval]) -> list[Place]:
    """Return places where text stands again and again in a source."""
    starts = [s.start_s for s in shots]
    lines = [(n, box) for n, r in enumerate(layout) for box in np.asarray(r.text_boxes, np.float64).reshape(-1, 4)]
    groups: list[list[tuple[int, FloatArray]]] = []
    for line in sorted(lines, key=lambda x: (x[1][1], x[0])):
        # Lines of one place stand at one height and over one another: captions of any width share their middle.
        home = next((g for g in reversed(groups) if _beside(g[0][1], line[1])), None)
        if home is None:
            groups.append([line])
        else:
            home.append(line)
    found = []
    for group in groups:
        rows = {n for n, _ in group}
        if len(rows) >= max(_USUAL, _USUAL_SHARE * len(layout)):
            edges = np.stack([box for _, box in group])
            # A single line that was found too tall or too wide must not widen the place.
            box = [np.quantile(edges[:, 0], 0.1), np.median(edges[:, 1]),
                   np.quantile(edges[:, 2], 0.9), np.median(edges[:, 3])]  # fmt: skip
            times = tuple(layout[n].t_s for n in sorted(rows))
            homes = frozenset(bisect_right(starts, x + 1e-6) - 1 for x in times)
            first = min(homes)
            only = shots[first] if len(homes) == 1 and 0 <= first < len(shots) else None
            looks = 0 if only is None else sum(only.contains(r.t_s) for r in layout)
            steady = len(rows) >= _STEADY * looks
            found.append(Place(np.array(box), homes, times, only if steady else None))
    return found


def usual_here(places: Sequence[Place], span: Interval) -> FloatArray:
    """Return the places [n, 4] where text may come during a clip: those of several shots, or with text close by.

    Text that stands throughout one shot alone is no caption that comes and goes: it counts in that shot only.
    """
    near = Interval(max(0.0, span.start_s - _CLOSE_S), span.end_s + _CLOSE_S)
    found = [
        p.box
        for p in places
        if (p.only is None or (p.only.start_s < span.end_s and span.start_s < p.only.end_s))
        and (len(p.shots) > 1 or any(near.contains(x) for x in p.times_s))
    ]
    return np.asarray(found, np.float64).reshape(-1, 4)


def plan_of(segment_id: str, plans: Mapping[str, ClipPlanRow]) -> tuple[ClipPlanRow, CropPath]:
    """Return what was planned for a segment, and its crop; `plans` are by segment id. Raises ValueError without one."""
    plan = plans.get(segment_id)
    if plan is None:
        raise ValueError(f"segment {segment_id} has no planned crop: run the stage `clip_plan` on it")
    return plan, CropPath.of(plan.crop_path)


def whole_crop(path: CropPath, size: tuple[int, int]) -> Crop:
    """Return a still crop in whole pixels: the path's own, or the middle of one that moves."""
    x, y, w, h = (float(v) for v in path.at(path.knots[len(path.knots) // 2, 0]))
    w_px, h_px = min(max(1, round(w)), size[0]), min(max(1, round(h)), size[1])
    return Crop(min(max(0, round(x)), size[0] - w_px), min(max(0, round(y)), size[1] - h_px), w_px, h_px)


def _beside(a: FloatArray, b: FloatArray) -> bool:
    high, wide = min(a[3], b[3]) - max(a[1], b[1]), min(a[2], b[2]) - max(a[0], b[0])
    return bool(high >= _BAND * min(a[3] - a[1], b[3] - b[1]) and wide > 0)


def _inside(face: FloatArray, bounds: Rect) -> bool:
    """Say whether a face [n, 4] stands in the bounds: people in other panels are no neighbours."""
    x, y = np.nanmedian(face[:, ::2], axis=0).mean(), np.nanmedian(face[:, 1::2], axis=0).mean()
    return bool(bounds.x0 <= x < bounds.x1 and bounds.y0 <= y < bounds.y1)
