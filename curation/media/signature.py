"""A short perceptual signature of a video: the fewer bits differ, the more nearly two files show the same pictures.

Four frames at fixed fractions of the duration, each a 64-bit difference hash: the signs of horizontal luma differences
on a 9x8 reduction. Survives re-encoding, scaling and mild colour changes; not cropping or mirroring.
Costs the decoding of at most four groups of pictures.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.media.video import read_frames_at

_FRACTIONS = (0.125, 0.375, 0.625, 0.875)
"""Where in the video the frames are taken, as parts of its duration."""

_SIDE_PX = 128


def near_duplicate_signature(path: Path, duration_s: float) -> bytes:
    """Return 32 bytes: four 64-bit difference hashes of a video of `duration_s` seconds.

    Raises:
        MediaError: the video cannot be read, see `read_frames_at`.
    """
    frames = read_frames_at(path, [f * duration_s for f in _FRACTIONS], max_side=_SIDE_PX)
    return b"".join(_difference_hash(frame.gray()) for frame in frames)


def _difference_hash(gray: NDArray[np.uint8]) -> bytes:
    """Return the 8-byte difference hash of a luma picture [H, W]."""
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
