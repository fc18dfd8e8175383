"""Full frames of the sources with what decided drawn into them: faces, text, graphics, bars, and the planned crop.

Frames are read from sources that lie on this machine and gave no error; of others the page shows portraits. One frame
costs one seek and the decoding from the key frame before it, in a process apart; a file that ends it is left alone from
then on, and the page says so in place of its frames.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from duckdb import DuckDBPyConnection
from markupsafe import Markup

from curation.dataset import Dataset
from curation.engine.fetch import MediaCache, SourceChangedError
from curation.media.apart import ReaderEndedError, media_apart
from curation.media.encode import encode_jpeg
from curation.media.errors import MediaError
from curation.media.video import read_frame_at
from curation.report import seen, svg
from curation.report.rows import path_of
from schemas import tables as t
from schemas.files.places import local_path
from schemas.time import Interval

SIDE = 480
"""Longer side of a frame on the page, in pixels."""
CUT_SIDE = 240
AROUND_S = 0.04
"""A frame before and after a cut is taken this far from it: one grid step."""
_TABLES = (
    t.SOURCES, t.INPUTS, t.ERRORS, t.TRACKS, t.TRACK_IDENTITIES, t.FACE_FRAMES, t.TRACKLETS, t.LAYOUT, t.CLIP_PLANS,
    t.SHOTS, t.SEGMENTS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A unit to be shown: where it is, and what of the picture the rule that decided looked at."""

    unit: str
    unit_id: str
    source_id: str
    span: Interval
    track_id: str | None = None
    looked_at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, and what it shows, in words."""

    drawing: Markup
    said: str


class Frames:
    """Reads and draws frames; the tables of the last few sources asked for stay open."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self._media = dataset, MediaCache(dataset.store)
        self.tables = functools.lru_cache(maxsize=32)(self._connect)
        """the tables of a source"""
        self._broken: dict[Path, str] = {}
        """files that ended their reader, and what is said of them"""

    def _connect(self, source_id: str) -> DuckDBPyConnection:
        return self._dataset.connect(tables=_TABLES, sources=[source_id])

    def file(self, source_id: str) -> Path | None:
        """Return a source's file where it lies on this machine as it was registered and was read without error."""
        con = self.tables(source_id)
        if con.execute("SELECT 1 FROM errors WHERE source_id = ? LIMIT 1", [source_id]).fetchall():
            return None
        path = path_of(con, source_id)
        if path is None or local_path(path) is None:
            return None
        try:
            return self._media.local(path, source_id)
        except (OSError, SourceChangedError):
            return None

    def of(self, shown: Shown) -> list[Picture]:
        """Return what there is to see of a unit: the frames around both cuts of a shot; of others the telling frame."""
        con = self.tables(shown.source_id)
        size = con.execute("SELECT width, height, duration_s FROM sources").fetchall()
        file = self.file(shown.source_id) if size else None
        if file is None:
            return []
        width, height, duration_s = size[0]
        if file not in self._broken:
            try:
                if shown.unit == "shots":
                    return [_cut(file, said, at) for said, at in cuts(shown.span, duration_s)]
                return [self._frame(con, file, shown, width, height)]
            except ReaderEndedError as e:
                self._broken[file] = str(e.args[0])
            except (MediaError, OSError):
                return []
        return [Picture(Markup(), f"no frame of it can be shown: {self._broken[file]}")]

    def _frame(self, con: DuckDBPyConnection, file: Path, shown: Shown, width: int, height: int) -> Picture:
        span = shown.span
        people = seen.faces(con, shown.source_id, span, shown.track_id) if shown.unit != "sources" else []
        laid = seen.overlays(con, shown.source_id, span) if set(shown.looked_at) - {"faces"} else []
        plan = con.execute("SELECT crop_path FROM clip_plans WHERE segment_id = ?", [shown.unit_id]).fetchall()
        knots = seen.crop_knots(plan[0][0], span.start_s) if plan else []
        at_s = telling(shown, people, laid, knots, (width, height))
        boxes = drawn(shown, people, laid, knots, at_s, (width, height))
        image, size = media_apart(jpeg_at, file, at_s, SIDE)
        kinds = [svg.KINDS[k] for k in dict.fromkeys(b.kind for b in boxes)]
        said = f"at {at_s:.2f} s" + (f": {', '.join(kinds)}" if kinds else "")
        return Picture(svg.picture(_uri(image), size, (width, height), boxes, said), said)


def _cut(file: Path, said: str, at_s: float) -> Picture:
    image, size = media_apart(jpeg_at, file, at_s, CUT_SIDE)
    return Picture(svg.picture(_uri(image), size, (1, 1), [], f"{said}, at {at_s:.2f} s"), said)


def jpeg_at(file: Path, at_s: float, max_side: int) -> tuple[bytes, tuple[int, int]]:
    """Return a frame as JPEG, its longer side at most so many pixels, with height and width. Raises MediaError."""
    rgb = read_frame_at(file, at_s, max_side=max_side).rgb()
    return encode_jpeg(rgb, 78), (rgb.shape[0], rgb.shape[1])


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def cuts(span: Interval, duration_s: float) -> list[tuple[str, float]]:
    """Return what to show of a shot: the frames on both sides of both cuts, without those outside the source."""
    first, last = span.start_s, span.end_s
    found = [
        ("before the cut", first - AROUND_S, first > AROUND_S),
        ("first frame", first + 1e-3, True),
        ("last frame", max(first, last - AROUND_S), True),
        ("after the cut", last + AROUND_S, last + AROUND_S < duration_s),
    ]
    return [(said, at_s) for said, at_s, there in found if there]


def telling(
    shown: Shown,
    people: Sequence[seen.Face],
    laid: Sequence[seen.Overlay],
    knots: list[list[float]],
    size: tuple[int, int],
) -> float:
    """Return the time at which a unit shows best why it was decided as it was; else its middle, where its face is."""
    span = shown.span
    middle = (span.start_s + span.end_s) / 2
    mine = [b[0] for f in people if f.mine for b in f.boxes if span.contains(b[0])]
    if kinds := [k for k in shown.looked_at if k not in ("faces", "bars")]:
        inside = [
            (_covered(_boxes(row, kind, size), _at(knots, row.t)), -abs(row.t - middle))
            for row in laid for kind in kinds
        ]  # fmt: skip
        if inside and max(inside)[0] > 0:
            t_s = laid[inside.index(max(inside)) // len(kinds)].t
            return min(max(t_s, span.start_s), max(span.start_s, span.end_s - AROUND_S))
    if "faces" in shown.looked_at:
        others = [(b[1:], b[0]) for f in people if not f.mine for b in f.boxes if span.contains(b[0])]
        if others:
            return max((_covered([b], _at(knots, at_s)), -abs(at_s - middle), at_s) for b, at_s in others)[2]
    return min(mine, key=lambda at_s: abs(at_s - middle), default=middle)


def drawn(
    shown: Shown,
    people: Sequence[seen.Face],
    laid: Sequence[seen.Overlay],
    knots: list[list[float]],
    at_s: float,
    size: tuple[int, int],
) -> list[svg.Box]:
    """Return the boxes at a time, in pixels of the source; what decided comes last, so that nothing hides it."""
    out: list[svg.Box] = []
    for face in people:
        near = min(face.boxes, key=lambda b: abs(b[0] - at_s), default=None)
        if near is not None and abs(near[0] - at_s) <= 3 * AROUND_S:
            out.append(svg.Box("mine" if face.mine else "face", *near[1:]))
    if crop := _at(knots, at_s):
        out.append(svg.Box("crop", *crop))
    before = [row for row in laid if row.t <= at_s + AROUND_S]
    if row := before[-1] if before else next(iter(laid), None):
        for kind in (k for k in shown.looked_at if k != "faces"):
            out += [svg.Box(kind, *b) for b in _boxes(row, kind, size)]
    return out


def _boxes(row: seen.Overlay, kind: str, size: tuple[int, int]) -> list[list[float]]:
    """Return x, y, w, h in pixels of what was laid over the picture."""
    (w, h), shares = size, getattr(row, kind)
    if kind == "bars":
        left, top, right, bottom = shares
        corners = [(0, 0, left, 1), (0, 0, 1, top), (1 - right, 0, 1, 1), (0, 1 - bottom, 1, 1)]
    else:
        corners = [tuple(shares[i : i + 4]) for i in range(0, len(shares) - 3, 4)]
    return [[a * w, b * h, (c - a) * w, (d - b) * h] for a, b, c, d in corners if c > a and d > b]


def _at(knots: list[list[float]], at_s: float) -> list[float]:
    """Return the crop x, y, w, h at a time; linear between knots."""
    if not knots:
        return []
    times = [k[0] for k in knots]
    return [float(np.interp(at_s, times, [k[i] for k in knots])) for i in range(1, 5)]


def _covered(boxes: Sequence[Sequence[float]], crop: Sequence[float]) -> float:
    """Return how many pixels of a crop boxes take; where they overlap, each counts."""
    x, y, w, h = crop or (0.0, 0.0, 1e9, 1e9)
    return sum(
        max(0.0, min(a + c, x + w) - max(a, x)) * max(0.0, min(b + d, y + h) - max(b, y)) for a, b, c, d in boxes
    )
