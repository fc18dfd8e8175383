"""A track's crops on their way to a scorer: window by window in, blocks of at most about a minute out.

An hour of crops is a gigabyte decoded and 0.3 GB as JPEG. Here each window is read once for all tracks, and a track
keeps what its next block needs, about 5 MB. Where a track has no crop, the last one before stands in, marked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables.scan import FaceCropRow

CROP_PX = 112
BLOCK_FRAMES = 1500
_MARGIN_FRAMES = 150
"""Context on both sides of a block: the longest window over which LR-ASD's scores are averaged (6 s)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Frames [start, end) to be scored, shown in their context from frame `low` on; frames count from the first."""

    start: int
    end: int
    low: int
    crops: npt.NDArray[np.uint8]
    """[T, 112, 112], grey"""


class CropBuffer:
    """One track's crops: `add` them in order of time, take complete blocks, at last the rest with `last`.

    A block is cut as soon as more than a block and two margins wait, so borders depend on the crops alone and not on
    the windows they came in.

    Attributes:
        first_k: grid index of the first crop; None before it.
        seen: for each frame, whether it has a crop of its own.
    """

    def __init__(self, size: int = BLOCK_FRAMES, margin: int = _MARGIN_FRAMES) -> None:
        self._size, self._margin = size, margin
        self._images: list[bytes] = []
        self._base = 0  # frame number of the first image that is kept
        self._done = 0
        self.first_k: int | None = None
        self.seen: list[bool] = []

    def add(self, ks: Sequence[int], images: Sequence[bytes]) -> None:
        """Take crops (JPEG) at grid indices in order. Raises ValueError for an index that is not after the last."""
        for k, image in zip(ks, images, strict=True):
            if self.first_k is None:
                self.first_k = k
            gap = k - self.first_k - len(self.seen)
            if gap < 0:
                raise ValueError(f"crop at grid index {k} is not after {self.first_k + len(self.seen) - 1}")
            self._images += self._images[-1:] * gap + [image]
            self.seen += [False] * gap + [True]

    def blocks(self, last: bool = False) -> Iterator[Block]:
        """Yield the blocks that are complete, with `last` everything."""
        while (waiting := len(self.seen) - self._done) > (0 if last else self._size + 2 * self._margin):
            whole = waiting <= self._size + 2 * self._margin
            end = len(self.seen) if whole else self._done + self._size
            low, high = max(0, self._done - self._margin), min(len(self.seen), end + self._margin)
            yield Block(self._done, end, low, decode(self._images[low - self._base : high - self._base]))
            self._done = end
            keep = max(self._base, end - self._margin)
            del self._images[: keep - self._base]
            self._base = keep


def decode(images: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Return JPEG crops as [T, 112, 112]; one that stands in for several frames is decoded once."""
    out = np.empty((len(images), CROP_PX, CROP_PX), np.uint8)
    for i, image in enumerate(images):
        if i and image is images[i - 1]:
            out[i] = out[i - 1]
            continue
        picture = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None or picture.shape != (CROP_PX, CROP_PX):
            raise ValueError(f"a face crop is not a JPEG of {CROP_PX} x {CROP_PX} pixels: scan the source again")
        out[i] = picture
    return out


def rows_of_tracks(
    part: pa.Table, track_of: Mapping[str, str]
) -> Iterator[tuple[str, set[str], list[int], list[bytes]]]:
    """Yield (track_id, its tracklets here, k, JPEG) of one window of FACE_CROPS, in order of track and time."""
    known = pa.array(sorted(track_of), pa.string())
    mine: Any = part.select([c.name for c in (FaceCropRow.tracklet_id, FaceCropRow.k, FaceCropRow.crop)])
    mine = mine.filter(pc.is_in(FaceCropRow.tracklet_id.of(mine), known)).sort_by(FaceCropRow.k.name)
    tracklets = np.array(FaceCropRow.tracklet_id.values(mine), object)
    owners = np.array([track_of[t] for t in tracklets], object)
    for track_id in sorted(set(owners)):
        at = np.flatnonzero(owners == track_id)
        rows = mine.take(at)
        yield track_id, set(tracklets[at]), FaceCropRow.k.values(rows), FaceCropRow.crop.values(rows)
