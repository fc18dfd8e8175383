"""Thumbnails for the page: small JPEGs as data URIs, from the portraits of a few sources."""

from __future__ import annotations

import base64
import functools
from collections.abc import Collection

import cv2
import numpy as np

from curation.dataset import Dataset
from schemas import tables as t
from schemas.tables.scan import PortraitRow
from schemas.time import GRID_HZ


class Pictures:
    """Portraits of some sources, by track, in order of time; those of the sources asked for last stay in memory."""

    def __init__(self, dataset: Dataset, sources: Collection[str] | None) -> None:
        """Take portraits of these sources; None = of all."""
        self._dataset, self._sources = dataset, sources
        self._of_source = functools.lru_cache(maxsize=4)(self._read)

    def _read(self, source_id: str) -> dict[str, list[tuple[float, bytes]]]:
        out: dict[str, list[tuple[float, bytes]]] = {}
        if self._sources is not None and source_id not in self._sources:
            return out
        tracklets = t.TRACKLETS.rows(self._dataset.table(t.TRACKLETS, sources=[source_id]))
        owner = {r.tracklet_id: r.track_id for r in tracklets}
        columns = (PortraitRow.tracklet_id, PortraitRow.k, PortraitRow.image)
        portraits = self._dataset.table(t.PORTRAITS, columns, [source_id])
        for r in t.PORTRAITS.rows(portraits):
            out.setdefault(owner.get(r.tracklet_id, ""), []).append((r.k / GRID_HZ, r.image))
        for images in out.values():
            images.sort(key=lambda x: x[0])
        return out

    def _of(self, track_id: str) -> list[tuple[float, bytes]]:
        return self._of_source(track_id[:16]).get(track_id, [])

    def spread(self, track_id: str, start_s: float, end_s: float, n: int, px: int = 96) -> list[tuple[float, str]]:
        """Return up to `n` (time, data URI) of a track inside an interval, evenly over time."""
        inside = [x for x in self._of(track_id) if start_s - 0.5 <= x[0] < end_s]
        if not inside:
            return []
        n = min(n, len(inside))
        picks = sorted({round(i * (len(inside) - 1) / max(1, n - 1)) for i in range(n)})
        return [(inside[i][0], _data_uri(inside[i][1], px)) for i in picks]

    def at(self, track_id: str, k: int, px: int = 120) -> str | None:
        """Return the data URI of the portrait at a grid index, None when there is none."""
        images = self._of(track_id)
        return next((_data_uri(data, px) for t_s, data in images if round(t_s * GRID_HZ) == k), None)


def _data_uri(jpeg: bytes, px: int) -> str:
    """Return a JPEG scaled to `px` on its longer side as a data URI."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return "data:,"
    scale = min(1.0, px / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
