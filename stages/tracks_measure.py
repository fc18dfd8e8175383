"""Aggregate a scan's rows into one SHOTS or TRACKS row. Pure: frames in, measures out; nothing is dropped here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from annotators.picture_motion import longest_run_s
from schemas.time import GRID_HZ


def shot_measures(frames: pd.DataFrame, layout: pd.DataFrame, faces: pd.DataFrame) -> dict[str, Any]:
    """Measure one shot from its FRAMES, LAYOUT and FACE_FRAMES rows."""
    confirmed = faces[faces["has_mesh"]] if len(faces) else faces
    per_k = confirmed.groupby("k").size().reindex(frames["k"], fill_value=0) if len(confirmed) else pd.Series(dtype=int)
    n = max(1, len(frames))
    bars = layout["bar_top"] + layout["bar_bottom"], layout["bar_left"] + layout["bar_right"]
    bar_area = 1.0 - (1.0 - bars[0]) * (1.0 - bars[1])
    return {
        "luma_mean": _mean(frames["luma_mean"]),
        "luma_std": _mean(frames["luma_std"]),
        "sharpness": _median(frames["sharpness"]),
        "black_ratio": _mean(frames["is_black"]),
        "frozen_ratio": _mean(frames["is_frozen"]),
        "longest_freeze_s": float(longest_run_s(frames["is_frozen"].tolist(), GRID_HZ)) if len(frames) else 0.0,
        "bar_area": _median(bar_area),
        "text_area": _quantile(layout["text_area"], 0.75),
        "logo_area": _median(layout["logo_area"]),
        "motion": _mean(frames["motion"]),
        "camera_motion": _null(frames["camera_motion"].median()) if len(frames) else None,
        "n_people_max": int(per_k.max()) if len(per_k) else 0,
        "n_people_mean": float(per_k.sum()) / n,
        "people_ratio": float((per_k > 0).sum()) / n,
    }


def track_measures(faces: pd.DataFrame, layout: pd.DataFrame, width: int, height: int) -> dict[str, Any]:
    """Measure one track from its FACE_FRAMES rows, the shot's LAYOUT rows, and the picture's size in pixels."""
    side = faces[["w", "h"]].min(axis=1)
    meshed = faces[faces["has_mesh"]]
    first, last = int(faces["k"].iloc[0]), int(faces["k"].iloc[-1])
    cx, cy = faces["x"] + faces["w"] / 2, faces["y"] + faces["h"] / 2
    out_x = np.maximum(0, -faces["x"]) + np.maximum(0, faces["x"] + faces["w"] - width)
    out_y = np.maximum(0, -faces["y"]) + np.maximum(0, faces["y"] + faces["h"] - height)
    outside = (out_x > 0.15 * faces["w"]) | (out_y > 0.15 * faces["h"])
    speed = np.hypot(cx.diff(), cy.diff()) / faces["w"].clip(lower=1) * GRID_HZ
    shapes = np.stack(meshed["blendshapes"].to_list()) if len(meshed) else np.zeros((0, 52))
    return {
        "n_frames": len(faces),
        "visible_ratio": len(meshed) / (last - first + 1),
        "median_face_px": float(side.median()),
        "min_face_px": float(side.quantile(0.1)),
        "face_area": float((faces["w"] * faces["h"]).median() / (width * height)),
        "center_x": float(cx.median() / width),
        "center_y": float(cy.median() / height),
        "cropped_ratio": float(outside.mean()),
        "inset_ratio": _inset_ratio(faces, layout, width, height),
        "sharpness": float(faces["sharpness"].median()) if faces["sharpness"].notna().any() else 0.0,
        "yaw_abs_median_deg": _null(meshed["yaw_deg"].abs().median()),
        "pitch_abs_median_deg": _null(meshed["pitch_deg"].abs().median()),
        "text_overlap": _text_overlap(faces, layout, width, height),
        "face_motion": _mean(speed.dropna()),
        "mouth_motion": _null(meshed["mouth_open"].std(ddof=0)) if len(meshed) else None,
        "blendshape_variation": float(shapes.std(axis=0).mean()) if len(shapes) else None,
        "score": _mean(faces["score"]),
    }


def _boxes(flat: Sequence[float]) -> list[tuple[float, float, float, float]]:
    return [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]  # type: ignore[misc]


def _inset_ratio(faces: pd.DataFrame, layout: pd.DataFrame, width: int, height: int) -> float:
    """Share of layout measurements in which the face's median centre lies in a picture within the picture."""
    if not len(layout):
        return 0.0
    x = float((faces["x"] + faces["w"] / 2).median() / width)
    y = float((faces["y"] + faces["h"] / 2).median() / height)
    hits = [any(a <= x < c and b <= y < d for a, b, c, d in _boxes(flat)) for flat in layout["inset_boxes"]]
    return sum(hits) / len(hits)


def _text_overlap(faces: pd.DataFrame, layout: pd.DataFrame, width: int, height: int) -> float:
    """Largest share of the face's median box under one overlaid text or graphic."""
    x, y, w, h = (float(faces[c].median()) for c in "xywh")
    best = 0.0
    for column in ("text_boxes", "logo_boxes"):
        for flat in layout[column]:
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
    return None if pd.isna(value) else float(value)
