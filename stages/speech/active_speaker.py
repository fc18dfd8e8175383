"""Stage `active_speaker`: does this face speak, frame by frame, and how late is the sound against its lips.

LR-ASD where its weights are found (two networks, about 5 ms a face and frame on one core), otherwise a lip-motion and
loudness heuristic that names itself as such in the data; a learned lip-audio sync (1 ms a face and frame). All tracks
are followed in one pass over the windows, in blocks, and sound is read a minute at a time, so memory is some megabytes
a track in view and 30 MB an hour of track. Each track is measured on its own, so a looser policy costs only the
tracks it brings back. LR-ASD follows moving lips under anybody's voice; what that means is decided in `pairing`.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from annotators.lips.active_speaker import LR_ASD_WEIGHTS, audio_of_frames
from annotators.lips.lip_signals import MIN_FRAMES, mouth_motion, mouth_motion_beside
from annotators.lips.lip_sync_model import MAX_LAG_FRAMES, LearnedLipSync
from annotators.parts import Part, part
from annotators.protocols_speech import ActiveSpeaker, LipSync, SyncMeasure
from curation.media.audio import AudioReader
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import ASD_FRAMES, FACE_CROPS, FACE_FRAMES, SOURCES, SPEECH, SYNC, SYNC_FRAMES, TRACKLETS
from schemas.tables.attribution import AsdFrameRow, SyncFrameRow, SyncRow
from schemas.tables.scan import FaceFrameRow
from schemas.time import AUDIO_HZ, GRID_HZ
from stages.face_series import Series, track_series, tracklets_of
from stages.speech.crop_blocks import CropBuffer, rows_of_tracks
from stages.speech.lip_series import LipSeries, frame_rows, lips_of_tracks, trace

FloatArray = npt.NDArray[np.float32]

_PER_FRAME = AUDIO_HZ // GRID_HZ
MIN_SYNC_FRAMES = 2 * MAX_LAG_FRAMES + MIN_FRAMES
"""A track shorter than this has no room for the lip-audio search."""


_LR_ASD = "annotators.lips.active_speaker:LrAsdActiveSpeaker"
_SYNC = "annotators.lips.lip_sync_model:LearnedLipSync.in_use"


class ActiveSpeakerSettings(StageSettings):
    """Which scorer."""

    backend: Part[ActiveSpeaker] = part(
        {
            "lr-asd": _LR_ASD,
            **{f"lr-asd({n[7:-3]})": {"use": _LR_ASD, "weight_names": [n]} for n in LR_ASD_WEIGHTS},
            "heuristic": "annotators.lips.active_speaker:EnvelopeActiveSpeaker",
        },
        "lr-asd: the mean of both networks; auto: of those whose weights are here, or heuristic",
        auto=("lr-asd", *(f"lr-asd({n[7:-3]})" for n in LR_ASD_WEIGHTS), "heuristic"),
    )
    sync: Part[LipSync] = part(
        {
            "whisper-base": {"use": _SYNC, "audio": "whisper-base"},
            "mel": {"use": _SYNC, "audio": "mel"},
            "heuristic": "annotators.lips.lip_sync:EnvelopeLipSync",
        },
        "lip-audio sync, learned on Whisper's features or on log-mel; auto: Whisper's when here",
        auto=("whisper-base", "mel"),
    )
    min_sync_s: float = Field(2.0, gt=0, description="speech needed for a lip-audio offset, seconds")


class ActiveSpeakerStage:
    """Stage: active speaker scores and lip-audio offset per track."""

    name: ClassVar[str] = "active_speaker"
    version: ClassVar[int] = 7
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, TRACKLETS, FACE_CROPS, FACE_FRAMES, SPEECH)
    writes: ClassVar[tuple[Table, ...]] = (ASD_FRAMES, SYNC, SYNC_FRAMES)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = ActiveSpeakerSettings

    def __init__(self, settings: ActiveSpeakerSettings) -> None:
        """Load the scorer. Raises WeightsNotFound when LR-ASD is asked for and not here."""
        self._settings = settings
        self._scorer = settings.backend.build()
        self._sync = settings.sync.build()
        self._learned = self._sync if isinstance(self._sync, LearnedLipSync) else None

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Score the item's tracks, all of them in one pass over the windows."""
        (source,) = SOURCES.rows(inputs.read(SOURCES))
        wanted = set(item.units)
        track_of = {i: track for i, track in tracklets_of(inputs.read(TRACKLETS)).items() if track in wanted}
        speech = [(r.start_s, r.end_s) for r in SPEECH.rows(inputs.read(SPEECH))]
        series = track_series(inputs.parts(FACE_FRAMES), track_of, [FaceFrameRow.mouth_open])
        sound = _Sound(inputs.media, source.has_audio)
        tracks = {i: _Track(i, self._scorer, sound, series.get(i)) for i in item.units}
        waiting: dict[str, set[str]] = {i: set() for i in item.units}
        for tracklet, track_id in track_of.items():
            waiting[track_id].add(tracklet)
        for window in inputs.parts(FACE_CROPS):
            for track_id, tracklets, ks, images in rows_of_tracks(window, track_of):
                waiting[track_id] -= tracklets
                tracks[track_id].feed(ks, images, last=not waiting[track_id])
            for track_id, at, shapes in lips_of_tracks(window, track_of) if self._learned else ():
                tracks[track_id].lips.add(at, shapes)

        def measure(track_id: str) -> Rows:
            track = tracks[track_id]
            sync, frames = self._offset(track, speech)
            return {ASD_FRAMES: track.rows(), SYNC: [sync], SYNC_FRAMES: frames}

        return each_unit(item.units, measure)

    def _offset(self, track: _Track, speech: list[tuple[float, float]]) -> tuple[SyncRow, list[SyncFrameRow]]:
        """Return the SYNC row, lips against sound while there is speech, and the SYNC_FRAMES rows.

        The row is null where there is too little speech; the heuristic has no frames.
        """
        first, n = track.span()
        mouth = track.mouth(first, n)
        times = (first + np.arange(n) + 0.5) / GRID_HZ
        spoken = np.zeros(n, bool)
        for a, b in speech:
            spoken |= (times >= a) & (times < b)
        evidence = float((spoken & np.isfinite(mouth)).sum() / GRID_HZ)
        enough = evidence >= self._settings.min_sync_s and n >= MIN_SYNC_FRAMES
        found: SyncMeasure | None = None
        frames: list[SyncFrameRow] = []
        name = self._sync.name
        if self._learned is not None:
            if n >= MIN_SYNC_FRAMES:
                over_time = trace(self._learned, track.lips, track.sound, first, n)
                found = self._learned.summary(over_time, spoken) if enough else None
                offset_ms = found.offset_ms if found else math.nan
                frames = frame_rows(over_time, track.track_id, first, offset_ms, name)
        elif enough:
            lips = np.where(spoken, mouth, np.float32(np.nan))
            found = self._sync.measure(track.sound(first, n), lips)
        return _sync_row(track.track_id, found, evidence, name), frames


def _sync_row(track_id: str, found: SyncMeasure | None, evidence_s: float, name: str) -> SyncRow:
    """Return the SYNC row; nulls where nothing was found."""
    if found is None or not math.isfinite(found.confidence):
        return SyncRow(
            track_id=track_id,
            offset_ms=None,
            confidence=None,
            correlation=None,
            own_voice=None,
            evidence_s=evidence_s,
            annotator=name,
        )
    return SyncRow(
        track_id=track_id,
        offset_ms=_finite(found.offset_ms),
        confidence=_finite(found.confidence),
        correlation=_finite(found.correlation),
        own_voice=_finite(found.own_voice),
        evidence_s=evidence_s,
        annotator=name,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class _Sound:
    """A source's sound under grid points, by one reader: tracks of the same time share what it has decoded."""

    def __init__(self, media: Path, has_audio: bool) -> None:
        self._media, self._has_audio = media, has_audio

    def __call__(self, first: int, n: int) -> FloatArray:
        """Return the [n * 640] samples under grid points from `first` on; zeros without sound. Raises MediaError."""
        if not self._has_audio or not self._reader.has_audio:
            return np.zeros(n * _PER_FRAME, np.float32)
        return audio_of_frames(self._reader.read(first / GRID_HZ, (first + n) / GRID_HZ), 0, n)

    @cached_property
    def _reader(self) -> AudioReader:
        return AudioReader(self._media, AUDIO_HZ)


class _Track:
    """One track on its way through the windows: crops in, scores out; its first error is kept for its own result."""

    def __init__(self, track_id: str, scorer: ActiveSpeaker, sound: _Sound, faces: Series | None) -> None:
        self.track_id, self.sound = track_id, sound
        self._scorer, self._faces = scorer, faces
        self._buffer = CropBuffer()
        self.lips = LipSeries()
        self._scores: list[FloatArray] = []
        self._fault: Exception | None = None

    def feed(self, ks: list[int], images: list[bytes], last: bool) -> None:
        """Take a window's crops and score what is complete."""
        if self._fault is not None:
            return
        try:
            self._buffer.add(ks, images)
            self._score(last)
        except MemoryError:
            raise
        except Exception as e:  # raised again by `span`, where the track's own result is asked for
            self._fault = e

    def _score(self, last: bool) -> None:
        first = self._buffer.first_k
        for block in self._buffer.blocks(last) if first is not None else ():
            at, n = (first or 0) + block.low, len(block.crops)
            scores = self._scorer.each(block.crops, self.sound(at, n), self.mouth(at, n))
            self._scores.append(scores[:, block.start - block.low : block.end - block.low])

    def span(self) -> tuple[int, int]:
        """Return the first grid index and the number of frames, all scored. Raises what went wrong on the way."""
        if self._fault is not None:
            raise self._fault
        first = self._buffer.first_k
        if first is None:
            raise ValueError(f"track {self.track_id} has no face crops: scan the source again")
        self._score(last=True)
        return first, len(self._buffer.seen)

    def mouth(self, first: int, n: int) -> FloatArray:
        """Return mouth opening [n] at grid points from `first` on; NaN where no face was confirmed."""
        out = np.full(n, np.nan, np.float32)
        if self._faces is not None:
            at = self._faces.k - first
            inside = (at >= 0) & (at < n)
            out[at[inside]] = self._faces[FaceFrameRow.mouth_open][inside]
        return out

    def rows(self) -> list[AsdFrameRow]:
        """Return ASD_FRAMES rows; a frame without a crop of its own says so."""
        first, _ = self.span()
        names = {True: self._scorer.name, False: f"{self._scorer.name} (last crop held)"}
        scores = np.concatenate(self._scores, axis=1)
        mouth = self.mouth(first, scores.shape[1])
        moved = (mouth_motion(mouth).tolist(), mouth_motion_beside(mouth).tolist())
        columns = (scores.mean(axis=0).tolist(), scores.max(axis=0).tolist(), *moved, self._buffer.seen)
        return [
            AsdFrameRow(
                track_id=self.track_id,
                k=first + i,
                score=score,
                score_highest=highest,
                mouth_motion=None if math.isnan(around) else around,
                mouth_motion_beside=None if math.isnan(beside) else beside,
                annotator=names[seen],
            )
            for i, (score, highest, around, beside, seen) in enumerate(zip(*columns, strict=True))
        ]
