"""What a caption tells beside the face: how the person speaks, the camera moves, the hands, the clothes' colour.

Each is looked up for a segment in what earlier stages measured of the whole source; only a few portraits a track are
decoded. A voice is compared with itself: all of its turns in the source, whichever segments are alive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotators.body.series import BodySignals
from annotators.body.summary import NOT_MEASURED, BodySummary, body_summary, in_crop
from annotators.performance.clothing import clothing_colour, patch_colour
from annotators.performance.speaking_style import NO_STYLE, SpeakingStyle, speaking_style, usual_level
from annotators.picture.camera_moves import CameraSeries
from curation.media.encode import decode_jpeg
from schemas.column import Column
from schemas.tables import BODIES, BODY_FRAMES, PORTRAITS, TURNS
from schemas.tables.body import BodyFrameRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.scan import FrameRow, LayoutRow, PortraitRow
from schemas.tables.speech import SpeechFrameRow
from schemas.time import GRID_HZ, Interval, grid_range
from stages.clip_plan.crop_path import CropPath
from stages.face_series import Series, tracklets_of
from stages.performance.body import body_signals
from stages.references.choice import MAX_TEXT
from stages.references.portrait_text import portrait_rect, text_share

SPEECH = 0.5
"""Speech probability from which a frame counts as speech."""
MAX_OVERLAP, MAX_MUSIC = 0.3, 0.3
"""Above these shares of two voices at once, and this score of music, the pitch may be somebody or something else's."""
_N_PORTRAITS = 5
_PORTRAIT = (PortraitRow.tracklet_id, PortraitRow.k, PortraitRow.image, PortraitRow.face_xywh)


class Voices:
    """The sound of a source on its grid, and what is usual of each of its voices."""

    def __init__(self, frames: pa.Table, turns: pa.Table) -> None:
        self._speech = SpeechFrameRow.speech.array(frames) >= SPEECH
        self._level = SpeechFrameRow.level_db.array(frames).astype(np.float64)
        self._pitch = SpeechFrameRow.pitch_hz.array(frames).astype(np.float64)
        self._syllables = SpeechFrameRow.syllables.array(frames).astype(np.float64)
        self._turns: dict[str, list[range]] = defaultdict(list)
        for r in TURNS.rows(turns):
            self._turns[r.speaker_id].append(grid_range(Interval(r.start_s, r.end_s)))

    def style(self, segment: SegmentRow, ks: range) -> SpeakingStyle:
        """Return how the person of a segment speaks; nothing where another voice or music is heard as well."""
        noisy = segment.overlap_ratio > MAX_OVERLAP or (segment.music or 0.0) > MAX_MUSIC
        if segment.state != "speak" or noisy:
            return NO_STYLE
        part = slice(ks.start, ks.stop)
        return speaking_style(
            self._speech[part], self._level[part], self._pitch[part], self._syllables[part], self._usual(ks)
        )

    def _usual(self, ks: range) -> float | None:
        """Return the usual level of the voice heard most in a stretch, by its turns that reach beyond the stretch."""
        shared = {v: sum(len(_common(r, ks)) for r in spans) for v, spans in self._turns.items()}
        voice = max(sorted(shared), key=lambda v: shared[v], default=None)
        if voice is None or shared[voice] == 0:
            return None
        mine = np.zeros(len(self._speech), bool)
        for span in self._turns[voice]:
            mine[span.start : span.stop] = True
        # A voice that is heard nowhere else is always as loud as usual: that says nothing.
        elsewhere = mine.copy()
        elsewhere[ks.start : ks.stop] = False
        if usual_level(self._level, elsewhere & self._speech) is None:
            return None
        return usual_level(self._level, mine & self._speech)


@dataclass(frozen=True, slots=True)
class SegmentBody:
    """A segment's body: what is seen of it in the source's picture, and what in the clip's own."""

    whole: BodySummary
    signals: BodySignals | None = None
    looked_at: int = 0
    start_s: float = 0.0
    duration_s: float = 0.0
    still_camera: bool = False

    def in_picture(self, path: CropPath) -> BodySummary:
        """Return what is seen of the body in a clip that is cropped along a path."""
        if self.signals is None:
            return NOT_MEASURED
        crops = np.asarray(path.at(self.signals.t_s - self.start_s), np.float64)
        shown = in_crop(self.signals, crops)
        return body_summary(shown, self.looked_at, self.duration_s, self.still_camera)


class Bodies:
    """The bodies of a source's segments; nothing where the body was not measured."""

    def __init__(self, frames: pa.Table, bodies: pa.Table) -> None:
        self._rows: dict[str, list[BodyFrameRow]] = defaultdict(list)
        for r in sorted(BODY_FRAMES.rows(frames), key=lambda r: r.k):
            self._rows[r.segment_id].append(r)
        self._looked_at = {r.segment_id: r.n_looked_at for r in BODIES.rows(bodies)}

    def of(self, segment: SegmentRow, face: Series, camera: str) -> SegmentBody:
        """Return the body of a segment; `face` is its track's series, `camera` the term of its camera's motion."""
        rows, n = self._rows.get(segment.segment_id, []), self._looked_at.get(segment.segment_id, 0)
        if not rows:
            return SegmentBody(NOT_MEASURED)
        signals = body_signals(rows, face)
        start_s = segment.start_s
        duration_s, still = segment.end_s - start_s, camera == "static"
        return SegmentBody(body_summary(signals, n, duration_s, still), signals, n, start_s, duration_s, still)


def camera_series(frames: pa.Table) -> CameraSeries:
    """Return the camera's motion over a source, on its grid from 0 to the last row."""
    ks = FrameRow.k.array(frames)
    n = int(ks[-1]) + 1 if len(ks) else 0

    def on_grid(column: Column[float | None]) -> np.ndarray[Any, Any]:
        out = np.full(n, np.nan)
        out[ks] = column.array(frames).astype(np.float64)
        return out

    x, y, zoom = (on_grid(c) for c in (FrameRow.camera_x, FrameRow.camera_y, FrameRow.camera_zoom))
    return CameraSeries(on_grid(FrameRow.camera_motion), x, y, zoom, GRID_HZ)


def camera_part(series: CameraSeries, ks: range) -> CameraSeries:
    """Return the part of a series over a range of grid points; nan where nothing was measured."""

    def part(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        known = values[ks.start : ks.stop]
        return np.concatenate([known, np.full(len(ks) - len(known), np.nan)])

    return CameraSeries(part(series.speed), part(series.x), part(series.y), part(series.zoom), series.rate_hz)


def clothing_of(
    parts: Iterable[pa.Table],
    tracklets: pa.Table,
    tracks: set[str],
    faces: Mapping[str, Series],
    layout: Sequence[LayoutRow],
    size: tuple[int, int],
) -> dict[str, str | None]:
    """Return the clothes' colour of each track, by up to five portraits of it without burnt-in text."""
    track_of = {k: v for k, v in tracklets_of(tracklets).items() if v in tracks}
    known = pa.array(sorted(track_of), pa.string())
    found: dict[str, list[PortraitRow]] = defaultdict(list)
    for part in parts:
        mine = part.filter(pc.is_in(PortraitRow.tracklet_id.of(part), known)).select([c.name for c in _PORTRAIT])
        for row in PORTRAITS.rows(mine):
            track = track_of[row.tracklet_id]
            at = int(np.searchsorted(faces[track].k, row.k)) if track in faces else 0
            rect = portrait_rect(faces[track], at, size) if track in faces else None
            if (text_share(layout, row.k, rect) or 0.0) <= MAX_TEXT:
                found[track].append(row)
    return {track: clothing_colour([_colour(r) for r in _spread(rows)]) for track, rows in sorted(found.items())}


def _spread(rows: Sequence[PortraitRow]) -> list[PortraitRow]:
    """Return up to five rows, evenly spread over time."""
    ordered = sorted(rows, key=lambda r: r.k)
    wanted = sorted({round(i * (len(ordered) - 1) / (_N_PORTRAITS - 1)) for i in range(_N_PORTRAITS)})
    return [ordered[i] for i in wanted]


def _colour(row: PortraitRow) -> str | None:
    return patch_colour(decode_jpeg(row.image), row.face_xywh)


def _common(a: range, b: range) -> range:
    return range(max(a.start, b.start), min(a.stop, b.stop))
