"""What a planned crop truly shows, by overlays and people that were labelled by eye; part of policy_rules.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from truth_people import Truth

from schemas.time import GRID_HZ, Interval, grid_range
from stages.clip_plan.crop_path import CropPath

SHOWN = 0.002
"""Share of the crop from which an overlay is in it: places are labelled to a hundredth of the picture, and 0.002 of a
crop is a strip of that width along a fifth of its side."""


@dataclass(frozen=True)
class Overlay:
    """A labelled place: text, logo, inset or bars; x0, y0, x1, y1 in shares of the picture; when it may be there."""

    kind: str
    box: tuple[float, float, float, float]
    span: Interval


def read_overlays(file: Path) -> dict[str, list[Overlay]]:
    """Return the labelled overlays by clip; clips without any are in it too."""
    clips = json.loads(file.read_text(encoding="utf-8"))["clips"]
    return {
        clip: [Overlay(r["kind"], tuple(r["box"]), Interval(*r.get("s", (0.0, 1e9)))) for r in rows]
        for clip, rows in clips.items()
    }


def shows_overlay(
    plan: Mapping[str, Any], segment: Mapping[str, Any], size: tuple[int, int], overlays: Sequence[Overlay]
) -> bool:
    """Say whether a labelled overlay comes into a planned crop."""
    path = CropPath.of(plan["crop_path"])
    for o in overlays:
        first, last = max(o.span.start_s, segment["start_s"]), min(o.span.end_s, segment["end_s"])
        if last <= first:
            continue
        x, y, w, h = path.at(np.arange(first - segment["start_s"], last - segment["start_s"], 1 / GRID_HZ)).T
        x0, y0, x1, y1 = (v * size[i % 2] for i, v in enumerate(o.box))
        cx, cy = float((x + w / 2).mean()), float((y + h / 2).mean())
        if o.kind == "inset" and x0 <= cx < x1 and y0 <= cy < y1:
            continue  # the person's own
        across = np.clip(np.minimum(x + w, x1) - np.maximum(x, x0), 0, None)
        along = np.clip(np.minimum(y + h, y1) - np.maximum(y, y0), 0, None)
        if (across * along / (w * h)).max() > SHOWN:
            return True
    return False


def shows_another(
    plan: Mapping[str, Any], segment: Mapping[str, Any], size: tuple[int, int], truth: Truth, person: str | None
) -> bool | None:
    """Say whether another labelled person's face comes into a planned crop; None where the crop's person is unknown.

    Labels give the range of a face's centre; a part of the face is seen when that comes within half a face of the crop.
    People who stand over one another need `y` ranges.
    """
    if person is None:
        return None
    path, part = CropPath.of(plan["crop_path"]), plan["clip_face_px"] / 2
    inside = set(grid_range(Interval(segment["start_s"], segment["end_s"])))
    for k, faces in truth.faces():
        if k not in inside:
            continue
        x, y, w, h = path.at(k / GRID_HZ - segment["start_s"])
        for face in faces:
            if face.person == person or face.x is None:
                continue
            across = x - part <= sum(face.x) / 2 * size[0] < x + w + part
            along = face.y is None or y - part <= sum(face.y) / 2 * size[1] < y + h + part
            if across and along:
                return True
    return False
