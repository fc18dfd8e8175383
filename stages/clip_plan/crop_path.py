"""Where a clip's crop lies over time: one rectangle for the whole clip, or one that follows the face smoothly. Pure.

A following crop goes along a low-passed line of the face's place and size, straight between knots a fifth of a second
apart; it keeps its aspect and never leaves its bounds. Microseconds a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.time import GRID_HZ

FloatArray = npt.NDArray[np.floating]

_KNOT_STEP = 5
"""Grid points between two knots of a path (0.2 s)."""

SIGMAS_S = (0.5, 0.8, 1.3, 2.0, 3.0)
"""Widths of the low-pass filter, tried in turn until the crop is slow enough."""

_GLITCH = 9
"""Grid points of the running median before it (0.36 s): single boxes beside the face move no crop."""


@dataclass(frozen=True, slots=True)
class CropPath:
    """Knots [n, 5]: seconds from the clip's start, then x, y, w, h in pixels; one knot = a still crop."""

    knots: FloatArray

    @classmethod
    def of(cls, flat: Sequence[float]) -> CropPath:
        """Read a flattened path, as the table CLIP_PLANS holds it. Raises ValueError where it is none."""
        knots = np.asarray(flat, np.float64)
        if not knots.size or knots.size % 5:
            raise ValueError(f"a crop path has five numbers a knot, not {knots.size} in all")
        return cls(knots.reshape(-1, 5))

    @property
    def moves(self) -> bool:
        """Say whether the crop is not still."""
        return len(self.knots) > 1

    def at(self, t_s: FloatArray | float) -> FloatArray:
        """Return x, y, w, h [..., 4] at times from the clip's start; the ends hold beyond it."""
        return np.stack([np.interp(t_s, self.knots[:, 0], self.knots[:, i]) for i in range(1, 5)], axis=-1)

    @property
    def speed(self) -> float:
        """Fastest motion of the centre, crop heights a second."""
        t, centre = self.knots[:, 0], self.knots[:, 1:3] + self.knots[:, 3:5] / 2
        if not self.moves:
            return 0.0
        steps = np.hypot(*np.diff(centre, axis=0).T) / np.minimum(self.knots[1:, 4], self.knots[:-1, 4])
        return float((steps / np.diff(t)).max())

    @property
    def zoom(self) -> float:
        """Fastest change of the height, as a share of it a second."""
        if not self.moves:
            return 0.0
        return float((np.abs(np.diff(np.log(self.knots[:, 4]))) / np.diff(self.knots[:, 0])).max())


def still(x: float, y: float, w: float, h: float) -> CropPath:
    """Return a crop that stays where it is."""
    return CropPath(np.array([[0.0, x, y, w, h]]))


def knot_places(n: int) -> npt.NDArray[np.int64]:
    """Return the indices of knots among n grid points: every fifth, and the last."""
    return np.unique(np.append(np.arange(0, n, _KNOT_STEP), n - 1))


def smoothed(values: FloatArray, sigma_s: float) -> FloatArray:
    """Return [n, m] low-passed along the first axis: a running median, then a Gaussian of `sigma_s` seconds."""
    n = len(values)
    half = min(_GLITCH // 2, (n - 1) // 2)
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    clean = np.median(windows, axis=-1)
    reach = round(3 * sigma_s * GRID_HZ)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (sigma_s * GRID_HZ)) ** 2)
    kernel /= kernel.sum()
    # Beyond the ends the motion is mirrored in the end point, so that a steady pan is followed to its end.
    before = 2 * clean[:1] - clean[1 : reach + 1][::-1]
    after = 2 * clean[-1:] - clean[-reach - 1 : -1][::-1]
    long = np.concatenate([before, clean, after])
    missing = 2 * reach + n - len(long)
    long = np.pad(long, ((missing // 2, missing - missing // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in long.T], axis=1)
