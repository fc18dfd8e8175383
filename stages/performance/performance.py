"""Performance captions of the live segments, from the faces measured in the scan.

The signal captioner decodes nothing: ten milliseconds a segment. A vision-language captioner behind an
OpenAI-compatible endpoint sees a few frames of the person crop instead. Either is checked against the timeline and
the measured signals, and disagreements are written beside the caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np

from annotators.captions.captioner import Captioner, ClipContext, Frame, Partner
from annotators.parts import Part, part
from annotators.performance.gaze_targets import Side
from annotators.performance.performance_signals import measure
from annotators.performance.signal_series import BODY_RULES, SIGNAL_RULES, Baseline, Event, FaceSignals, baseline_of
from annotators.picture.camera_moves import CameraSeries, camera_move, panned
from curation.media.grid import frames_on_grid
from curation.media.video import iter_frames
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas.samples.caption_checks import contradictions
from schemas.samples.sample import State
from schemas.table import Table
from schemas.tables import (
    BODIES,
    BODY_FRAMES,
    CAPTION_LABELS,
    CAPTIONS,
    CLIP_PLANS,
    EVENTS,
    FACE_FRAMES,
    FRAMES,
    LAYOUT,
    PORTRAITS,
    SEGMENTS,
    SOURCES,
    SPEECH_FRAMES,
    TRACKLETS,
    TRACKS,
    TURNS,
)
from schemas.tables.labels import CaptionLabelRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.performance import EventRow
from schemas.tables.plans import ClipPlanRow
from schemas.tables.scan import FaceFrameRow, LayoutRow
from schemas.tables.tracks import TrackRow
from schemas.time import GRID_HZ, Interval, grid_range
from stages.clip_plan.crop import clip_bounds, plan_of, whole_crop
from stages.clip_plan.framing import Crop, face_union
from stages.face_series import BOX, Series, between, between_or_nearest, boxes, track_series, tracklets_of
from stages.performance.context import Bodies, Voices, camera_part, camera_series, clothing_of
from stages.performance.labels import labels_of, with_labels

SIGNAL_COLUMNS = (
    *BOX, FaceFrameRow.has_mesh, FaceFrameRow.yaw_deg, FaceFrameRow.pitch_deg, FaceFrameRow.roll_deg,
    FaceFrameRow.mouth_open, FaceFrameRow.blendshapes,
)  # fmt: skip


class PerformanceSettings(StageSettings):
    """Who writes the captions."""

    backend: Part[Captioner] = part(
        {
            "signals": "annotators.captions.captioner:SignalCaptioner",
            "openai": "annotators.captions.captioner_openai:OpenAICaptioner.served",
        },
        "signals: rules on measured signals; openai: a model behind an endpoint, with `base_url`, `model` and more",
    )


@dataclass(frozen=True)
class _Source:
    media: Path | None
    size: tuple[int, int]
    faces: Mapping[str, Series]
    layout: Sequence[LayoutRow]
    plans: Mapping[str, ClipPlanRow]
    baselines: Mapping[str, Baseline]
    voices: Voices
    camera: CameraSeries
    clothing: Mapping[str, str | None]
    bodies: Bodies
    places: Mapping[str, TrackRow]
    labels: Sequence[CaptionLabelRow]


class Performance:
    """Stage: caption the live segments."""

    name: ClassVar[str] = "performance"
    version: ClassVar[int] = 8
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (
        SOURCES,
        FRAMES,
        TRACKLETS,
        FACE_FRAMES,
        PORTRAITS,
        LAYOUT,
        SPEECH_FRAMES,
        TURNS,
        SEGMENTS,
        CLIP_PLANS,
        BODY_FRAMES,
        BODIES,
        TRACKS,
        CAPTION_LABELS,
    )
    writes: ClassVar[tuple[Table, ...]] = (CAPTIONS, EVENTS)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[PerformanceSettings]] = PerformanceSettings

    def __init__(self, settings: PerformanceSettings) -> None:
        self._settings = settings
        self._captioner = settings.backend.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Caption the item's segments; one that fails harms no other."""
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        source = SOURCES.rows(inputs.read(SOURCES))[0]
        faces = track_series(inputs.parts(FACE_FRAMES), tracklets_of(inputs.read(TRACKLETS)), SIGNAL_COLUMNS)
        wanted = {segments[unit].track_id for unit in item.units}
        layout = LAYOUT.rows(inputs.read(LAYOUT))
        size = (source.width, source.height)
        shared = _Source(
            media=inputs.media if self._captioner.n_frames else None,
            size=size,
            faces=faces,
            layout=layout,
            plans={r.segment_id: r for r in CLIP_PLANS.rows(inputs.read(CLIP_PLANS))},
            baselines=track_baselines({t: faces[t] for t in sorted(wanted & faces.keys())}),
            voices=Voices(inputs.read(SPEECH_FRAMES), inputs.read(TURNS)),
            camera=camera_series(inputs.read(FRAMES)),
            places={r.track_id: r for r in TRACKS.rows(inputs.read(TRACKS))},
            labels=CAPTION_LABELS.rows(inputs.read(CAPTION_LABELS)),
            bodies=Bodies(inputs.read(BODY_FRAMES), inputs.read(BODIES)),
            clothing=clothing_of(inputs.parts(PORTRAITS), inputs.read(TRACKLETS), wanted, faces, layout, size),
        )
        return each_unit(item.units, lambda unit: self._caption(segments[unit], shared))

    def _caption(self, segment: SegmentRow, source: _Source) -> Rows:
        state: State | None = next((s for s in get_args(State) if s == segment.state), None)
        if state is None:
            return {}  # nobody's performance: a discarded stretch
        _, path = plan_of(segment.segment_id, source.plans)
        crop = whole_crop(path, source.size)
        ks = grid_range(Interval(segment.start_s, segment.end_s))
        signals = face_signals(source.faces[segment.track_id], ks, crop)
        baseline = source.baselines.get(segment.track_id)
        partner, side = partner_place(segment, source.faces, source.layout, source.size)
        motion = camera_part(source.camera, ks)
        camera, moving = camera_move(motion), panned(motion)
        body = source.bodies.of(segment, source.faces[segment.track_id], camera)
        clip = ClipContext(
            state, signals, baseline, segment.text or "", partner, side,
            voice=source.voices.style(segment, ks), camera=camera,
            clothing=source.clothing.get(segment.track_id), body=body.in_picture(path), panned=moving,
        )  # fmt: skip
        said = labels_of(segment, source.places[segment.track_id], source.labels) if source.labels else []
        caption, unfit = with_labels(self._captioner.caption(clip, self._frames(segment, crop, source.media)), said)
        shown = measure(signals, baseline, clip.speaking, side, moving)
        found = [*unfit, *contradictions(caption, clip.state, shown.summary)]
        return {
            CAPTIONS: [caption.row(segment.segment_id, segment.source_id, found, clip.voice)],
            EVENTS: _event_rows(segment, [*shown.events, *body.whole.events]),
        }

    def _frames(self, segment: SegmentRow, crop: Crop, media: Path | None) -> list[Frame]:
        n = self._captioner.n_frames
        if media is None or n == 0:
            return []
        start_s, end_s = segment.start_s, segment.end_s
        step_s = (end_s - start_s) / n
        chosen = frames_on_grid(iter_frames(media, start_s, end_s), start_s + step_s / 2, n, 1 / step_s)
        rows, columns = slice(crop.y, crop.y + crop.h), slice(crop.x, crop.x + crop.w)
        return [Frame(frame.pts_s, np.ascontiguousarray(frame.rgb()[rows, columns])) for frame in chosen]


def face_signals(series: Series, ks: range, crop: Crop) -> FaceSignals:
    """Return a track's signals over grid points `ks`, boxes in pixels of the crop; gaps are not valid.

    Where no box lies in the range, the nearest one stands for all, so that the size of the shot is known.
    """
    n = len(ks)
    part = between(series, ks)
    at = part.k - ks.start
    corner = np.array([crop.x, crop.y, 0, 0])
    finite = np.isfinite(part[FaceFrameRow.blendshapes]).all(axis=1) & np.isfinite(part[FaceFrameRow.yaw_deg])
    valid = np.zeros(n, bool)
    valid[at] = part[FaceFrameRow.has_mesh] & finite

    def spread(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = np.full((n, *values.shape[1:]), np.nan)
        out[at] = values
        return out

    box = spread(boxes(part) - corner)
    if not len(at):
        box[:] = boxes(between_or_nearest(series, ks)) - corner
    return FaceSignals(
        t_s=np.arange(ks.start, ks.stop) / GRID_HZ,
        blendshapes=spread(part[FaceFrameRow.blendshapes]),
        yaw_deg=spread(part[FaceFrameRow.yaw_deg]),
        pitch_deg=spread(part[FaceFrameRow.pitch_deg]),
        roll_deg=spread(part[FaceFrameRow.roll_deg]),
        mouth_open=spread(part[FaceFrameRow.mouth_open]),
        box_xywh=box,
        frame_wh=(crop.w, crop.h),
        valid=valid,
    )


def track_baselines(faces: Mapping[str, Series]) -> dict[str, Baseline]:
    """Return what is usual in each track whose face was measured at least once."""
    out: dict[str, Baseline] = {}
    for track, series in faces.items():
        ks = range(int(series.k[0]), int(series.k[-1]) + 1)
        signals = face_signals(series, ks, Crop(0, 0, 1, 1))
        if signals.valid.any():
            out[track] = baseline_of(signals)
    return out


def partner_place(
    segment: SegmentRow, faces: Mapping[str, Series], layout: Sequence[LayoutRow], size: tuple[int, int]
) -> tuple[Partner | None, Side | None]:
    """Return whether the other person is seen in the same picture, and on which side of this one.

    In a split screen the other one is on screen, but no side of this person's picture points at them.
    """
    other = segment.partner_track_id
    ks = grid_range(Interval(segment.start_s, segment.end_s))
    series = faces.get(other) if other is not None else None
    seen = between(series, ks) if series is not None else None
    if seen is None or not len(seen):
        return ("off_screen" if other or segment.partner else None), None
    face, bounds = clip_bounds(segment, faces, layout, size)
    theirs = face_union(boxes(seen))
    x, y = (theirs.x0 + theirs.x1) / 2, (theirs.y0 + theirs.y1) / 2
    if not (bounds.x0 <= x < bounds.x1 and bounds.y0 <= y < bounds.y1):
        return "on_screen", None
    return "on_screen", "left" if x < (face.x0 + face.x1) / 2 else "right"


def _event_rows(segment: SegmentRow, events: Sequence[Event]) -> list[EventRow]:
    """Return the EVENTS rows of a segment: what was seen to happen, without what it may mean."""
    kinds = ("facial_action", "head_motion", "gaze", "body_action")
    seen = sorted((e for e in events if e.kind in kinds), key=lambda e: (e.start_s, e.end_s, e.kind, e.name))
    return [
        EventRow(
            segment_id=segment.segment_id,
            source_id=segment.source_id,
            track_id=segment.track_id,
            n=n,
            event=e.name,
            kind=e.kind,
            start_s=e.start_s,
            end_s=e.end_s,
            confidence=e.confidence,
            strength=e.strength,
            count=e.count,
            direction=e.direction,
            annotator=BODY_RULES if e.kind == "body_action" else SIGNAL_RULES,
        )
        for n, e in enumerate(seen)
    ]
