"""Sampled frames of the real footage, for tests of picture measures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def frames(path: Path, step_s: float = 0.0, limit: int | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield (seconds, frame) at least `step_s` apart, at most `limit` of them."""
    due, n = 0.0, 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            t = float(frame.time or 0.0)
            if t < due - 1e-6:
                continue
            due = t + step_s if step_s else 0.0
            yield t, frame
            n += 1
            if n == limit:
                return


def every_nth(path: Path, every: int, limit: int) -> list[Image]:
    """Decode every n-th frame of a clip, at most `limit`."""
    with av.open(str(path)) as container:
        picked = []
        for index, frame in enumerate(container.decode(video=0)):
            if index % every == 0:
                picked.append(frame.to_ndarray(format="rgb24"))
            if len(picked) == limit:
                break
    return picked


def gray(path: Path, step_s: float = 0.0, limit: int | None = None) -> list[Image]:
    """Return full-range luma pictures."""
    return [frame.to_ndarray(format="gray") for _, frame in frames(path, step_s, limit)]
