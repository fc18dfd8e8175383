"""How large a face must be for what is said of its eyes, brows, mouth and pose.

A mesh is found in faces of 24 px and less, and then says what an average face would do: lids of two pixels are "shut".
`benchmarks/face_size.py` shrinks large faces and compares. Constants and lookups; costs nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from annotators.performance.signal_series import FaceSignals

Part = Literal["lids", "gaze", "knit_brows", "raised_brows", "mouth", "swings", "pose"]

LEAST_PX: dict[Part, float] = {
    "lids": 80.0,
    "gaze": 64.0,
    "knit_brows": 80.0,
    "raised_brows": 40.0,
    "mouth": 48.0,
    "swings": 64.0,
    "pose": 24.0,
}
"""Median shorter side of the face box, in pixels of the source, from which a part of the face may be spoken of.

From 80 px four of five frames with shut lids or knit brows are so in the large face too; at 48 px it is one of two, at
32 px one of six. Smiles and raised brows are seldom false at any size (0.91 and more at 24 px and more; 0.85), only
missed: two of three smiles are found at 48 px. In nine of ten frames head angles are within 5 degrees from 32 px on,
and gaze within 8 from 64 px on (15 at 32 px, where "to the camera" means 12). A nod or shake swings by 3 or 4 degrees
at least; angles are within 2.6 from 64 px on. Frames, not events: these last several.
"""

NEUTRAL_NEEDS: frozenset[Part] = frozenset({"knit_brows", "raised_brows", "mouth"})
"""A face is called neutral only where these can be read: not to see a frown is no sign of calm."""

_PART_OF: dict[str, Part] = {
    **dict.fromkeys(("blink", "eyes_closed", "squint", "wide_eyes"), "lids"),
    **dict.fromkeys(("frown", "nose_wrinkle"), "knit_brows"),
    **dict.fromkeys(("smile", "laugh", "lip_press", "pucker", "mouth_frown", "jaw_open"), "mouth"),
    "downcast": "gaze",
    "brow_raise": "raised_brows",
    "nod": "swings",
    "shake": "swings",
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
