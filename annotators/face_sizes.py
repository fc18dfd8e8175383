"""How large a face must be for what is said of its eyes, brows, mouth and pose.

A mesh is found in faces of 24 px and less, and then says what an average face would do: lids of two pixels are "shut".
Limits are those of `benchmarks/face_size.py`, which shrinks large faces and compares (PLACEHOLDER). Constants and
lookups; costs nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from annotators.signal_series import FaceSignals

Part = Literal["eyes", "brows", "mouth", "pose"]

LEAST_PX: dict[Part, float] = {"eyes": 80.0, "brows": 56.0, "mouth": 48.0, "pose": 24.0}
"""Median shorter side of the face box, in pixels of the source, from which a part of the face may be spoken of."""

NEUTRAL_NEEDS: frozenset[Part] = frozenset({"brows", "mouth"})
"""A face is called neutral only where these can be read: not to see a frown is no sign of calm."""

_PART_OF: dict[str, Part] = {
    **dict.fromkeys(("blink", "eyes_closed", "squint", "wide_eyes", "downcast"), "eyes"),
    **dict.fromkeys(("brow_raise", "frown", "nose_wrinkle"), "brows"),
    **dict.fromkeys(("smile", "laugh", "lip_press", "pucker", "mouth_frown", "jaw_open"), "mouth"),
}


def part_of(name: str) -> Part:
    """Return the part of the face that a facial action or head motion is read from."""
    return _PART_OF.get(name, "pose")


def face_px(signals: FaceSignals) -> float:
    """Return the median shorter side of the face box over measured frames, in pixels; 0 without any."""
    return float(np.median(signals.box_xywh[signals.valid, 2:].min(axis=1))) if signals.valid.any() else 0.0


def readable_parts(px: float) -> frozenset[Part]:
    """Return the parts of a face of this size that may be spoken of."""
    return frozenset(part for part, least in LEAST_PX.items() if px >= least)
