"""Aggregate a scan's rows into one SHOTS or TRACKS row. Pure: frames in, measures out; nothing is dropped here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from annotators.picture.motion import longest_run_s
from schemas.tables.scan import FaceFrameRow as F
from schemas.tables.scan import FrameRow, LayoutRow
from schemas.tables.tracks import ShotRow, TrackRow
from schemas.time import GRID_HZ, Interval
from stages.face_series import BOX

if TYPE_CHECKING:
    import pandas as pd


def shot_row(
    name: str,
    source_id: str,
    span: Interval,
    start_frame: int,
    mixed_s: float,
    frames: pd.DataFrame,
    layout: pd.DataFrame,
    faces: pd.DataFrame,
) -> ShotRow:
    """Measure one shot from its FRAMES, LAYOUT and FACE_FRAMES rows; `start_frame` is its first frame in the
    file, `mixed_s` how much of its end is mixed with the next shot.
    """
    confirmed = faces[F.has_mesh.of(faces)] if len(faces) else faces
    ks = FrameRow.k.of(frames)
    per_k = confirmed.groupby(F.k.name).size().reindex(ks, fill_value=0) if len(confirmed) else ks[:0]
    n = max(1, len(frames))
    bars = (
        LayoutRow.bar_top.of(layout) + LayoutRow.bar_bottom.of(layout),
        LayoutRow.bar_left.of(layout) + LayoutRow.bar_right.of(layout),
    )
    bar_area = 1.0 - (1.0 - bars[0]) * (1.0 - bars[1])
    frozen = FrameRow.is_frozen.of(frames)
    return ShotRow(
        shot_id=name,
        source_id=source_id,
        start_s=span.start_s,
        end_s=span.end_s,
        duration_s=span.duration_s,
        start_frame=start_frame,
        mixed_s=mixed_s,
        luma_mean=_mean(FrameRow.luma_mean.of(frames)),
        luma_std=_mean(FrameRow.luma_std.of(frames)),
        sharpness=_median(FrameRow.sharpness.of(frames)),
        black_ratio=_mean(FrameRow.is_black.of(frames)),
        frozen_ratio=_mean(frozen),
        longest_freeze_s=float(longest_run_s(frozen.tolist(), GRID_HZ)) if len(frames) else 0.0,
        bar_area=_median(bar_area),
        text_area=_quantile(LayoutRow.text_area.of(layout), 0.75),
        logo_area=_median(LayoutRow.logo_area.of(layout)),
        motion=_mean(FrameRow.motion.of(frames)),
        camera_motion=_null(FrameRow.camera_motion.of(frames).median()) if len(frames) else None,
        n_people_max=int(per_k.max()) if len(per_k) else 0,
        n_people_mean=float(per_k.sum()) / n,
        people_ratio=float((per_k > 0).sum()) / n,
    )


def track_row(
    name: str, shot: ShotRow, span: Interval, faces: pd.DataFrame, layout: pd.DataFrame, size: tuple[int, int]
) -> TrackRow:
    """Measure one track from its FACE_FRAMES rows, the shot's LAYOUT rows, and the picture's size in pixels."""
    width, height = size
    x, y, w, h = (column.of(faces) for column in BOX)
    side = faces[[F.w.name, F.h.name]].min(axis=1)
    meshed = faces[F.has_mesh.of(faces)]
    first, last = int(F.k.of(faces).iloc[0]), int(F.k.of(faces).iloc[-1])
    cx, cy = x + w / 2, y + h / 2
    out_x = np.maximum(0, -x) + np.maximum(0, x + w - width)
    out_y = np.maximum(0, -y) + np.maximum(0, y + h - height)
    outside = (out_x > 0.15 * w) | (out_y > 0.15 * h)
    speed = np.hypot(cx.diff(), cy.diff()) / w.clip(lower=1) * GRID_HZ
    shapes = np.stack(F.blendshapes.of(meshed).to_list()) if len(meshed) else np.zeros((0, 52))
    sharpness = F.sharpness.of(faces)
    return TrackRow(
        track_id=name,
        source_id=shot.source_id,
        shot_id=shot.shot_id,
        start_s=span.start_s,
        end_s=span.end_s,
        duration_s=span.duration_s,
        n_frames=len(faces),
        visible_ratio=len(meshed) / (last - first + 1),
        shot_ratio=span.duration_s / max(1e-6, shot.duration_s),
        median_face_px=float(side.median()),
        min_face_px=float(side.quantile(0.1)),
        face_area=float((w * h).median() / (width * height)),
        center_x=float(cx.median() / width),
        center_y=float(cy.median() / height),
        cropped_ratio=float(outside.mean()),
        inset_ratio=_inset_ratio(cx, cy, layout, size),
        sharpness=float(sharpness.median()) if sharpness.notna().any() else 0.0,
        yaw_abs_median_deg=_null(F.yaw_deg.of(meshed).abs().median()),
        pitch_abs_median_deg=_null(F.pitch_deg.of(meshed).abs().median()),
        text_overlap=_text_overlap(faces, layout, size),
        face_motion=_mean(speed.dropna()),
        mouth_motion=_null(F.mouth_open.of(meshed).std(ddof=0)) if len(meshed) else None,
        blendshape_variation=float(shapes.std(axis=0).mean()) if len(shapes) else None,
        score=_mean(F.score.of(faces)),
    )


def _boxes(flat: Sequence[float]) -> list[tuple[float, float, float, float]]:
    return [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]  # type: ignore[misc]


def _inset_ratio(cx: pd.Series, cy: pd.Series, layout: pd.DataFrame, size: tuple[int, int]) -> float:
    """Share of layout measurements in which the face's median centre lies in a picture within the picture."""
    if not len(layout):
        return 0.0
    x, y = float(cx.median() / size[0]), float(cy.median() / size[1])
    insets = LayoutRow.inset_boxes.of(layout)
    hits = [any(a <= x < c and b <= y < d for a, b, c, d in _boxes(flat)) for flat in insets]
    return sum(hits) / len(hits)


def _text_overlap(faces: pd.DataFrame, layout: pd.DataFrame, size: tuple[int, int]) -> float:
    """Largest share of the face's median box under one overlaid text or graphic."""
    width, height = size
    x, y, w, h = (float(column.of(faces).median()) for column in BOX)
    best = 0.0
    for column in (LayoutRow.text_boxes, LayoutRow.logo_boxes):
        for flat in column.of(layout):
            for a, b, c, d in _boxes(flat):
                over_x = min(x + w, c * width) - max(x, a * width)
                over_y = min(y + h, d * height) - max(y, b * height)
                best = max(best, max(0.0, over_x) * max(0.0, over_y) / max(1.0, w * h))
    return best


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else 0.0


def _median(values: pd.Series) -> float:
    return float(values.median()) if len(values) else 0.0


def _quantile(values: pd.Series, q: float) -> float:
    return float(values.quantile(q)) if len(values) else 0.0


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
