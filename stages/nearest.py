"""The nearest of known grid points. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def nearest_index(known: Ints, wanted: Ints) -> Ints:
    """Return for each of `wanted` [T] the index of the nearest of the increasing `known` [N >= 1]; of two, the earlier.

    Raises ValueError without a known point.
    """
    if not len(known):
        raise ValueError("no grid point is known: nothing can be nearest")
    right = np.clip(np.searchsorted(known, wanted), 0, len(known) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(known[left] - wanted) <= np.abs(known[right] - wanted), left, right)
