"""What a planned crop shows: shares of it under text, graphics, insets, bars and other faces; room around the face.

Pure; about a millisecond a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from annotators.picture_motion import longest_run_s
from schemas.time import GRID_HZ
from stages.clip_crop import Row, foreign_insets, overlays
from stages.crop_path import CropPath, FloatArray
from stages.crop_search import Scene, overlap

DIGITAL_SILENCE_DB = -90.0
"""Level below which sound has less than one step of 16 bits: no microphone in a room gives that."""

EDGE = 0.05
"""A face box this near to the picture's left or right edge, in its own width, is that of a face cut off there."""


def content(path: CropPath, scene: Scene, rows: Sequence[Row], size: tuple[int, int]) -> dict[str, Any]:
    """Return the columns of CLIP_PLANS that say what a crop shows; `rows` are the clip's LAYOUT rows."""
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

    at_edge = (face[:, 0] <= EDGE * width) | (face[:, 2] >= size[0] - EDGE * width) | (face[:, 3] >= size[1])
    others = [float(np.max(overlap(edges, scene.others[:, i]) / area)) for i in range(scene.others.shape[1])]
    beside = np.minimum(face[:, 0] - edges[:, 0], edges[:, 2] - face[:, 2]) / width
    return {
        "face_in_crop": float(np.quantile(held, 0.01)),
        "face_at_edge": float(at_edge.mean()),
        "room_above": float(np.median((face[:, 1] - edges[:, 1]) / height)),
        "room_below": float(np.median((edges[:, 3] - face[:, 3]) / height)),
        "room_beside": float(np.median(beside)),
        "text_in_crop": max((most(overlays([r], "text_boxes", size)) for r in rows), default=0.0),
        "usual_text_in_crop": most(scene.usual),
        "logo_in_crop": max((most(overlays([r], "logo_boxes", size)) for r in rows), default=0.0),
        "inset_in_crop": max((most(foreign_insets([r], face, size)) for r in rows), default=0.0),
        "bars_in_crop": _bars(edges, area, rows, size),
        "other_faces": sum(v > 0 for v in others),
        "other_face_in_crop": max(others, default=0.0),
    }


def packed(path: CropPath, face: FloatArray, short_side_px: int, max_upscale: float) -> dict[str, float]:
    """Return the columns about sizes: of the crop, of the encoded picture, and of the face in both, in pixels."""
    w, h = (float(v) for v in path.knots[:, 3:5].mean(axis=0))
    short = float(path.knots[:, 3:5].min())
    # No frame is enlarged by more than the limit.
    encoded = 2 * round(max(2.0, min(short_side_px, short * max_upscale)) / 2)
    side = float(np.median(np.minimum(face[:, 2] - face[:, 0], face[:, 3] - face[:, 1])))
    scale = encoded / min(w, h)
    return {
        "crop_x": float(path.knots[:, 1].mean()),
        "crop_y": float(path.knots[:, 2].mean()),
        "crop_w": w,
        "crop_h": h,
        "crop_short_px": short,
        "packed_short_px": float(encoded),
        "upscale": scale,
        "clip_face_px": side,
        "packed_face_px": side * scale,
    }


def encoded_size(path: CropPath, short_side_px: int) -> tuple[int, int]:
    """Return the even width and height of the encoded picture, the shorter side as planned."""
    w, h = (float(v) for v in path.knots[:, 3:5].mean(axis=0))
    scale = short_side_px / min(w, h)
    return max(2, 2 * round(w * scale / 2)), max(2, 2 * round(h * scale / 2))


def frame_measures(frames: Sequence[Row], n: int) -> dict[str, float]:
    """Return freezes and black frames of a clip of n grid points from its FRAMES rows."""
    rows = sorted(frames, key=lambda r: r["k"])
    return {
        "longest_freeze_s": float(longest_run_s([r["is_frozen"] for r in rows], GRID_HZ)) if rows else 0.0,
        "black_ratio": sum(r["is_black"] for r in rows) / max(1, n),
    }


def digital_silence(levels_db: FloatArray) -> float:
    """Return the share of levels (dBFS, one a grid point) that no room has; 0 without any."""
    return float((levels_db <= DIGITAL_SILENCE_DB).mean()) if len(levels_db) else 0.0


def _bars(edges: FloatArray, area: FloatArray, rows: Sequence[Row], size: tuple[int, int]) -> float:
    if not rows:
        return 0.0
    sides = ("top", "bottom", "left", "right")
    top, bottom, left, right = (float(np.median([r[f"bar_{side}"] for r in rows])) for side in sides)
    inner = np.array([[left * size[0], top * size[1], (1 - right) * size[0], (1 - bottom) * size[1]]])
    return float(max(0.0, 1.0 - np.median(overlap(edges, inner) / area)))
