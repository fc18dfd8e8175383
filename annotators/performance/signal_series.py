"""One face's measurements over one segment at 25 Hz, and the small tools that turn series into events.

Blendshapes carry a bias of the person and of the camera's height: a track's median, given as `baseline`, removes it.
Angles keep the signs of `protocols.FaceMesh`: yaw > 0 = turned to image right, pitch > 0 = up, roll > 0 = clockwise.
Pure numpy and scipy; below a millisecond a second of video.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from annotators.face.mesh import BLENDSHAPES
from schemas.samples.caption import Tag, TagKind
from schemas.time import GRID_HZ

Series = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SIGNAL_RULES = "signal-rules-v1"
"""The annotator name of everything derived here: rules with hand-set thresholds, no trained model."""

BODY_RULES = "body-rules-v1"
"""The same of what is derived from body points."""

EYE_DEG_PER_UNIT = 28.0
"""Turn of the eyes in degrees at a look coefficient difference of 1.

Found by the vestibulo-ocular reflex: people who talk into a lens hold their gaze while the head turns, so head angle
against coefficient gives the scale. Two such clips gave 27 and 22 degrees a unit sideways (r = -0.98, -0.92) and 31 and
26 up and down (r = -0.92, -0.91), lower bounds because of noise; 28 is used for both.
"""

_MIN_VALID_RATIO = 0.6
"""Share of an event's frames in which the face must have been measured, not interpolated."""

_PROFILE_DEG = 45.0
"""From this turn on a face is in profile: its far half is guessed, and pose and actions with it."""
_TURN_HZ = 1.5

_INDEX = {name: index for index, name in enumerate(BLENDSHAPES)}


@dataclass(frozen=True, eq=False)
class FaceSignals:
    """Per-frame measurements of one face, T frames at about 25 Hz.

    `t_s` [T] seconds (any clock), `blendshapes` [T, 52] in `faces_mesh.BLENDSHAPES` order, angles [T] in degrees,
    `mouth_open` [T] as `faces_mesh.mouth_opening`, `box_xywh` [T, 4] face box in pixels of a `frame_wh` picture,
    `valid` [T]: the face was measured; where it is False the other values are ignored and may be nan.
    """

    t_s: Series
    blendshapes: Series
    yaw_deg: Series
    pitch_deg: Series
    roll_deg: Series
    mouth_open: Series
    box_xywh: Series
    frame_wh: tuple[int, int]
    valid: Mask

    def __post_init__(self) -> None:
        n = len(self.t_s)
        valid = np.asarray(self.valid, np.bool_)
        if valid.shape != (n,):
            raise ValueError(f"valid has shape {valid.shape}, expected ({n},)")
        object.__setattr__(self, "valid", valid)
        shapes = {"t_s": (n,), "blendshapes": (n, len(BLENDSHAPES)), "box_xywh": (n, 4)}
        for name in ("t_s", "blendshapes", "yaw_deg", "pitch_deg", "roll_deg", "mouth_open", "box_xywh"):
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != shapes.get(name, (n,)):
                raise ValueError(f"{name} has shape {value.shape}, expected {shapes.get(name, (n,))}")
            object.__setattr__(self, name, value)
            if not np.isfinite(value if name == "t_s" else value[valid]).all():
                raise ValueError(f"{name} is not finite in a frame that `valid` marks as measured")
        if n > 1 and not (np.diff(self.t_s) > 0).all():
            raise ValueError("t_s does not increase from frame to frame")
        if min(self.frame_wh) <= 0:
            raise ValueError(f"frame_wh is {self.frame_wh}, expected the picture's width and height in pixels")

    @property
    def valid_ratio(self) -> float:
        """Share of frames in which the face was measured; 0 without frames."""
        return float(self.valid.mean()) if len(self.valid) else 0.0

    def shape(self, name: str) -> Series:
        """Return one blendshape [T], or the mean of its left and right sides; raise KeyError for an unknown name."""
        if name in _INDEX:
            return self.blendshapes[:, _INDEX[name]]
        return (self.blendshapes[:, _INDEX[name + "Left"]] + self.blendshapes[:, _INDEX[name + "Right"]]) / 2

    def filled(self) -> FaceSignals:
        """Return the signals with gaps bridged by linear interpolation; `valid` still tells which were measured.

        Raises ValueError when no frame is valid.
        """
        if not self.valid.any():
            raise ValueError("the face was measured in no frame: there is nothing to annotate")
        if self.valid.all():
            return self
        known = np.flatnonzero(self.valid)
        steps = np.arange(len(self.valid))

        def bridge(value: Series) -> Series:
            columns = value.reshape(len(value), -1)
            done = np.stack([np.interp(steps, known, columns[known, i]) for i in range(columns.shape[1])], axis=1)
            return done.reshape(value.shape)

        return replace(
            self,
            blendshapes=bridge(self.blendshapes),
            yaw_deg=bridge(self.yaw_deg),
            pitch_deg=bridge(self.pitch_deg),
            roll_deg=bridge(self.roll_deg),
            mouth_open=bridge(self.mouth_open),
            box_xywh=bridge(self.box_xywh),
        )


@dataclass(frozen=True, eq=False)
class Baseline:
    """What is usual for one person in one track: median blendshapes [52] and head pose in degrees."""

    blendshapes: Series
    yaw_deg: float
    pitch_deg: float
    roll_deg: float

    def shape(self, name: str) -> float:
        """Return one blendshape's usual value, or the mean of its left and right sides."""
        if name in _INDEX:
            return float(self.blendshapes[_INDEX[name]])
        return float(self.blendshapes[_INDEX[name + "Left"]] + self.blendshapes[_INDEX[name + "Right"]]) / 2


def baseline_of(track: FaceSignals) -> Baseline:
    """Return the medians over a track's measured frames; best taken over the whole track, not over a segment.

    Raises ValueError when no frame is valid.
    """
    if not track.valid.any():
        raise ValueError("the face was measured in no frame: it has no baseline")
    keep = track.valid
    poses = (float(np.median(angle[keep])) for angle in (track.yaw_deg, track.pitch_deg, track.roll_deg))
    return Baseline(np.median(track.blendshapes[keep], axis=0), *poses)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a vocabulary term with its evidence span [start_s, end_s) on the signals' clock.

    `strength` is in the measure's own unit (degrees or blendshape share); `count` is how many cycles it holds;
    `direction` tells where a lean goes.
    """

    name: str
    kind: TagKind
    start_s: float
    end_s: float
    confidence: float
    strength: float
    count: int = 1
    direction: str | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s

    def tag(self, offset_s: float = 0.0) -> Tag:
        """Return the event as a tag; `offset_s` moves it to another clock. Times are rounded to milliseconds."""
        return Tag(
            name=self.name,
            kind=self.kind,
            start_s=round(self.start_s + offset_s, 3),
            end_s=round(self.end_s + offset_s, 3),
            confidence=round(self.confidence, 3),
            annotator=BODY_RULES if self.kind == "body_action" else SIGNAL_RULES,
        )


def low_pass(series: Series, cutoff_hz: float) -> Series:
    """Return a series [T] or [T, n] at 25 Hz without what is faster than `cutoff_hz`, not moved in time."""
    if len(series) < 2:
        return series.copy()
    sos = scipy.signal.butter(2, cutoff_hz, "low", fs=GRID_HZ, output="sos")
    done: Series = scipy.signal.sosfiltfilt(sos, series, axis=0, padlen=min(len(series) - 1, GRID_HZ))
    return done


def spans(series: Series, on: float, off: float, min_frames: int) -> list[tuple[int, int]]:
    """Return frame ranges [start, end) that rise to `on` or more and last until the series falls below `off`.

    Hysteresis: `off` <= `on`. A range also reaches back to where the series last was below `off`. Ranges shorter
    than `min_frames` are left out.
    """
    if off > on:
        raise ValueError(f"hysteresis needs off <= on, got on {on}, off {off}")
    active = np.concatenate(([False], series >= off, [False]))
    edges = np.flatnonzero(np.diff(active.astype(np.int8)))
    ranges = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(a, b) for a, b in ranges if b - a >= min_frames and series[a:b].max() >= on]


def span_event(
    signals: FaceSignals, span: tuple[int, int], name: str, kind: TagKind, confidence: float, strength: float
) -> Event | None:
    """Make an event of a frame range, or None where too few of its frames were measured.

    The confidence is scaled by the share of measured frames.
    """
    start, end = span
    measured = float(signals.valid[start:end].mean())
    if measured < _MIN_VALID_RATIO:
        return None
    return Event(name, kind, float(signals.t_s[start]), end_time(signals, end), confidence * measured, strength)


def end_time(signals: FaceSignals, end: int) -> float:
    """Return the time at which frame range [.., end) ends: the next frame's time, or one grid step past the last."""
    return float(signals.t_s[end]) if end < len(signals.t_s) else float(signals.t_s[-1]) + 1 / GRID_HZ


def in_profile(signals: FaceSignals) -> Mask:
    """Return [T] True where the head is turned so far that half of the face is guessed; signals must be `filled()`."""
    return np.asarray(np.abs(low_pass(signals.yaw_deg, _TURN_HZ)) >= _PROFILE_DEG, np.bool_)


def mostly(mask: Mask, signals: FaceSignals, event: Event) -> bool:
    """Say whether a mask [T] holds in more than half of an event's frames."""
    during = (signals.t_s >= event.start_s) & (signals.t_s < event.end_s)
    return bool(during.any() and mask[during].mean() > 0.5)


def event_ratio(events: list[Event], name: str, signals: FaceSignals) -> float:
    """Return the share of the segment's time that events of one name cover, in [0, 1]."""
    total = end_time(signals, len(signals.t_s)) - float(signals.t_s[0])
    return min(1.0, sum(e.duration_s for e in events if e.name == name) / total)
