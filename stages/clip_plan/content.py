"""What a planned crop shows: shares of it under text, graphics, insets, bars and other faces; room around the face.

Pure; about a millisecond a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from annotators.picture.motion import longest_run_s
from schemas.column import Column
from schemas.tables.plans import ClipPlanRow
from schemas.tables.scan import FrameRow, LayoutRow
from schemas.tables.speech import SpeechFrameRow
from schemas.time import GRID_HZ
from stages.clip_plan.crop import foreign_insets, overlays
from stages.clip_plan.crop_path import CropPath, FloatArray
from stages.clip_plan.crop_search import Scene, overlap
from stages.face_series import Series, between

Measures = dict[Column[Any], Any]
"""Some of the columns of CLIP_PLANS with their values."""

_DIGITAL_SILENCE_DB = -90.0
"""Level below which sound has less than one step of 16 bits: no microphone in a room gives that."""

_EDGE = 0.05
"""A face box this near to the picture's left or right edge, in its own width, is that of a face cut off there."""


def content(path: CropPath, scene: Scene, rows: Sequence[LayoutRow], size: tuple[int, int]) -> Measures:
    """Return the columns that say what a crop shows; `rows` are the clip's LAYOUT rows."""
    t_s = np.arange(len(scene.face)) / GRID_HZ
    crop = path.at(t_s)
    edges = np.concatenate([crop[:, :2], crop[:, :2] + crop[:, 2:]], axis=1)
    area = crop[:, 2] * crop[:, 3]
    face = scene.face
    height, width = face[:, 3] - face[:, 1], face[:, 2] - face[:, 0]
    held = overlap(edges, face) / np.maximum(width * height, 1e-6)

    def most(boxes: FloatArray) -> float:
        """Largest share over time under boxes [n, 4], overlaps among them counted once at most."""
        if not len(boxes):
            return 0.0
        parts = sum(overlap(edges, box[None]) for box in boxes) / area
        return float(min(1.0, np.max(parts)))

    at_edge = (face[:, 0] <= _EDGE * width) | (face[:, 2] >= size[0] - _EDGE * width) | (face[:, 3] >= size[1])
    others = [float(np.max(overlap(edges, scene.others[:, i]) / area)) for i in range(scene.others.shape[1])]
    beside = np.minimum(face[:, 0] - edges[:, 0], edges[:, 2] - face[:, 2]) / width
    return {
        ClipPlanRow.face_in_crop: float(np.quantile(held, 0.01)),
        ClipPlanRow.face_at_edge: float(at_edge.mean()),
        ClipPlanRow.room_above: float(np.median((face[:, 1] - edges[:, 1]) / height)),
        ClipPlanRow.room_below: float(np.median((edges[:, 3] - face[:, 3]) / height)),
        ClipPlanRow.room_beside: float(np.median(beside)),
        ClipPlanRow.text_in_crop: max((most(overlays([r.text_boxes], size)) for r in rows), default=0.0),
        ClipPlanRow.usual_text_in_crop: most(scene.usual),
        ClipPlanRow.logo_in_crop: max((most(overlays([r.logo_boxes], size)) for r in rows), default=0.0),
        ClipPlanRow.inset_in_crop: max((most(foreign_insets([r], face, size)) for r in rows), default=0.0),
        ClipPlanRow.bars_in_crop: _bars(edges, area, rows, size),
        ClipPlanRow.other_faces: sum(v > 0 for v in others),
        ClipPlanRow.other_face_in_crop: max(others, default=0.0),
    }


def packed(path: CropPath, face: FloatArray, short_side_px: int, max_upscale: float) -> Measures:
    """Return the columns about sizes: of the crop, of the encoded picture, and of the face in both, in pixels."""
    w, h = (float(v) for v in path.knots[:, 3:5].mean(axis=0))
    short = float(path.knots[:, 3:5].min())
    # No frame is enlarged by more than the limit.
    encoded = 2 * round(max(2.0, min(short_side_px, short * max_upscale)) / 2)
    side = float(np.median(np.minimum(face[:, 2] - face[:, 0], face[:, 3] - face[:, 1])))
    scale = encoded / min(w, h)
    return {
        ClipPlanRow.crop_x: float(path.knots[:, 1].mean()),
        ClipPlanRow.crop_y: float(path.knots[:, 2].mean()),
        ClipPlanRow.crop_w: w,
        ClipPlanRow.crop_h: h,
        ClipPlanRow.crop_short_px: short,
        ClipPlanRow.packed_short_px: float(encoded),
        ClipPlanRow.upscale: scale,
        ClipPlanRow.clip_face_px: side,
        ClipPlanRow.packed_face_px: side * scale,
    }


def encoded_size(path: CropPath, short_side_px: int) -> tuple[int, int]:
    """Return the even width and height of the encoded picture, the shorter side as planned."""
    w, h = (float(v) for v in path.knots[:, 3:5].mean(axis=0))
    scale = short_side_px / min(w, h)
    return max(2, 2 * round(w * scale / 2)), max(2, 2 * round(h * scale / 2))


def frame_measures(frames: Series, ks: range) -> Measures:
    """Return freezes, black and damaged frames of a clip from the source's frames."""
    part = between(frames, ks)
    frozen, black = part[FrameRow.is_frozen], part[FrameRow.is_black]
    return {
        ClipPlanRow.longest_freeze_s: float(longest_run_s(frozen.tolist(), GRID_HZ)) if len(part) else 0.0,
        ClipPlanRow.black_ratio: int(black.sum()) / max(1, len(ks)),
        ClipPlanRow.damaged_ratio: int(part[FrameRow.is_damaged].sum()) / max(1, len(ks)),
    }


def sound_measures(sound: Series, ks: range) -> Measures:
    """Return digital silence and damage of a clip from the source's sound."""
    part = between(sound, ks)
    return {
        ClipPlanRow.digital_silence_ratio: digital_silence(part[SpeechFrameRow.level_db]),
        ClipPlanRow.sound_damaged_ratio: int(part[SpeechFrameRow.is_damaged].sum()) / max(1, len(ks)),
    }


def digital_silence(levels_db: FloatArray) -> float:
    """Return the share of levels (dBFS, one a grid point) that no room has; 0 without any."""
    return float((levels_db <= _DIGITAL_SILENCE_DB).mean()) if len(levels_db) else 0.0


def _bars(edges: FloatArray, area: FloatArray, rows: Sequence[LayoutRow], size: tuple[int, int]) -> float:
    if not rows:
        return 0.0
    bars = [(r.bar_top, r.bar_bottom, r.bar_left, r.bar_right) for r in rows]
    top, bottom, left, right = (float(v) for v in np.median(bars, axis=0))
    inner = np.array([[left * size[0], top * size[1], (1 - right) * size[0], (1 - bottom) * size[1]]])
    return float(max(0.0, 1.0 - np.median(overlap(edges, inner) / area)))
