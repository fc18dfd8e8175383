"""Shot type from the size of the face in the picture. Pure arithmetic.

A head is about 1/7.5 of a standing person and the face, from hairline to chin, three quarters of a head. Shot sizes are
named by where the picture's lower edge cuts the body; with a little air above the head that fixes the face's share
of the picture's height. Limits lie between neighbours on a logarithmic scale; closest of all, the head does not fit:

    cut at        collar  chest  waist  knees  feet
    heads seen    1.6     2.5    3.7    6      8.5
    face share    0.47    0.30   0.20   0.125  0.088
"""

from __future__ import annotations

import numpy as np

from annotators.performance.signal_series import FaceSignals

SHOT_LIMITS = (
    ("extreme_close_up", 0.72),
    ("close_up", 0.38),
    ("medium_close_up", 0.245),
    ("medium", 0.158),
    ("medium_full", 0.1),
    ("full", 0.0),
)
"""Lowest face height / picture height of each shot type, closest first."""


def shot_type(face_height_px: float, frame_height_px: float) -> str:
    """Return the shot type term for a face of this height, hairline to chin, in a picture of this height.

    A detector's box is up to a seventh lower than the face; limits lie a third apart or more.
    Raises ValueError for a height that is not positive.
    """
    if not (face_height_px > 0 and frame_height_px > 0):
        raise ValueError(f"face height {face_height_px} and picture height {frame_height_px} must be positive")
    share = face_height_px / frame_height_px
    return next(name for name, least in SHOT_LIMITS if share >= least)


def segment_shot_type(signals: FaceSignals) -> str:
    """Return the shot type of a segment, by its median face height over measured frames, else over detected boxes.

    Raises ValueError when there is no box at all.
    """
    heights = signals.box_xywh[signals.valid, 3] if signals.valid.any() else signals.box_xywh[:, 3]
    heights = heights[np.isfinite(heights)]
    if not len(heights):
        raise ValueError("the segment has no face box: the shot type is unknown")
    return shot_type(float(np.median(heights)), signals.frame_wh[1])
