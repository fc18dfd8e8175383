"""Thumbnails for the page: small JPEGs as data URIs, from the portraits of a few sources."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import cv2
import numpy as np

from curation.dataset import Dataset
from schemas import tables as t
from schemas.time import GRID_HZ


class Pictures:
    """Portraits of the given sources, by track, in order of time."""

    def __init__(self, dataset: Dataset, sources: Iterable[str]) -> None:
        self._tracks: dict[str, list[tuple[float, bytes]]] = {}
        owner = {r["tracklet_id"]: r["track_id"] for r in dataset.table(t.TRACKLETS).to_pylist()}
        wanted = set(sources)
        for name in dataset.files(t.PORTRAITS):
            if name.rsplit("/", 1)[-1][:16] in wanted:
                part = dataset.store.read_table(name, t.PORTRAITS, ["tracklet_id", "k", "image"])
                for r in part.to_pylist():
                    track = owner.get(r["tracklet_id"], "")
                    self._tracks.setdefault(track, []).append((r["k"] / GRID_HZ, r["image"]))
        for images in self._tracks.values():
            images.sort(key=lambda x: x[0])

    def spread(self, track_id: str, start_s: float, end_s: float, n: int, px: int = 96) -> list[tuple[float, str]]:
        """Return up to `n` (time, data URI) of a track inside an interval, evenly over time."""
        inside = [x for x in self._tracks.get(track_id, []) if start_s - 0.5 <= x[0] < end_s]
        if not inside:
            return []
        n = min(n, len(inside))
        picks = sorted({round(i * (len(inside) - 1) / max(1, n - 1)) for i in range(n)})
        return [(inside[i][0], data_uri(inside[i][1], px)) for i in picks]

    def at(self, track_id: str, k: int, px: int = 120) -> str | None:
        """Return the data URI of the portrait at a grid index, None when there is none."""
        images = self._tracks.get(track_id, [])
        return next((data_uri(data, px) for t_s, data in images if round(t_s * GRID_HZ) == k), None)


def data_uri(jpeg: bytes, px: int) -> str:
    """Return a JPEG scaled to `px` on its longer side as a data URI."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return "data:,"
    scale = min(1.0, px / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
