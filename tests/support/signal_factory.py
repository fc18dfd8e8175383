"""Synthetic face series: a still, neutral face that looks into the lens, to which a test adds what it wants to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.face.mesh import BLENDSHAPES
from annotators.performance.signal_series import FaceSignals

Series = npt.NDArray[np.float64]


def time_axis(seconds: float) -> Series:
    """Return frame times at 25 Hz."""
    return np.arange(round(seconds * 25)) / 25


def bump(t_s: Series, start_s: float, end_s: float, height: float) -> Series:
    """Return a plateau of `height` between two times, with soft flanks of a tenth of a second."""
    rise = np.clip((t_s - start_s) / 0.1, 0, 1)
    fall = np.clip((end_s - t_s) / 0.1, 0, 1)
    return height * np.minimum(rise, fall)


def face(
    seconds: float = 6.0,
    shapes: Mapping[str, Any] | None = None,
    seed: int = 0,
    noise: float = 1.0,
    face_share: float = 0.3,
    **series: Any,
) -> FaceSignals:
    """Return a face with the noise of a real one; shapes without Left or Right set both sides; `series` override."""
    t_s = time_axis(seconds)
    n = len(t_s)
    rng = np.random.default_rng(seed)
    blendshapes = np.clip(noise * rng.normal(0.01, 0.01, (n, len(BLENDSHAPES))), 0, 1)
    for name, values in (shapes or {}).items():
        for column in [i for i, full in enumerate(BLENDSHAPES) if full in (name, name + "Left", name + "Right")]:
            blendshapes[:, column] += values
    box = np.tile([500.0, 300.0, 0.8 * face_share * 720, face_share * 720], (n, 1))
    fields: dict[str, Any] = {
        "t_s": t_s,
        "blendshapes": np.clip(blendshapes, 0, 1),
        "yaw_deg": noise * rng.normal(0, 0.2, n),
        "pitch_deg": noise * rng.normal(0, 0.2, n),
        "roll_deg": noise * rng.normal(0, 0.2, n),
        "mouth_open": np.full(n, 0.01),
        "box_xywh": box,
        "frame_wh": (1280, 720),
        "valid": np.ones(n, np.bool_),
    }
    return FaceSignals(**{**fields, **series})
