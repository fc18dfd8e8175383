"""Stage `active_speaker`: does this face speak, frame by frame, and how late is the sound against its lips.

LR-ASD where its weights are found (about 2 ms a face and frame on one core), otherwise a lip-motion and loudness
heuristic that names itself as such in the data. Each track is measured on its own, so a looser policy costs only the
tracks it brings back. LR-ASD follows moving lips under anybody's voice; what that means is decided in `pairing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from annotators import weights
from annotators.active_speaker import active_speaker, audio_of_frames
from annotators.lip_sync import EnvelopeLipSync
from curation.media.audio import read_audio
from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import ASD_FRAMES, FACE_CROPS, FACE_FRAMES, SOURCES, SPEECH, SYNC, TRACKLETS, TRACKS
from schemas.time import AUDIO_HZ, GRID_HZ

FloatArray = npt.NDArray[np.float32]

_WEIGHT = "lr_asd_talkset.pt"
_PER_FRAME = AUDIO_HZ // GRID_HZ


class ActiveSpeakerSettings(StageSettings):
    """Which scorer."""

    backend: Literal["auto", "lr-asd", "heuristic"] = Field(
        "auto", description="auto: LR-ASD when its weights are here"
    )
    min_sync_s: float = Field(2.0, gt=0, description="speech needed for a lip-audio offset, seconds")


class ActiveSpeakerStage:
    """Stage: active speaker scores and lip-audio offset per track."""

    name: ClassVar[str] = "active_speaker"
    version: ClassVar[int] = 2
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, TRACKS, TRACKLETS, FACE_CROPS, FACE_FRAMES, SPEECH)
    writes: ClassVar[tuple[Table, ...]] = (ASD_FRAMES, SYNC)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = ActiveSpeakerSettings

    def __init__(self, settings: ActiveSpeakerSettings) -> None:
        """Load the scorer. Raises WeightsNotFound when LR-ASD is asked for and not here."""
        self._settings = settings
        self._scorer = active_speaker(_choice(settings))
        self._sync = EnvelopeLipSync()

    @classmethod
    def identity(cls, settings: ActiveSpeakerSettings) -> Mapping[str, str]:
        """Name the scorer in use with its weights' hash."""
        if _choice(settings) == "heuristic":
            return {"asd": "lip-motion-envelope-heuristic", "sync": EnvelopeLipSync.name}
        return {"asd": "lr-asd", _WEIGHT: weights.sha256(_WEIGHT), "sync": EnvelopeLipSync.name}

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Score the item's tracks."""
        source = inputs.read(SOURCES).to_pylist()[0]
        tracks = {r["track_id"]: r for r in inputs.read(TRACKS).to_pylist()}
        pieces: dict[str, list[str]] = {}
        for r in inputs.read(TRACKLETS).to_pylist():
            pieces.setdefault(r["track_id"], []).append(r["tracklet_id"])
        speech = [(r["start_s"], r["end_s"]) for r in inputs.read(SPEECH).to_pylist()]

        def measure(track_id: str) -> Mapping[Table, Iterable[Mapping[str, Any]]]:
            return self._track(tracks[track_id], pieces[track_id], inputs, source["has_audio"], speech)

        return each_unit(item.units, measure)

    def _track(
        self,
        track: Mapping[str, Any],
        tracklets: list[str],
        inputs: Inputs,
        has_audio: bool,
        speech: list[tuple[float, float]],
    ) -> dict[Table, list[dict[str, Any]]]:
        k, images, nearest = _crops(inputs, tracklets)
        first, n = int(k[0]), len(k)
        start_s = first / GRID_HZ
        heard = read_audio(inputs.media, start_s, start_s + n / GRID_HZ, AUDIO_HZ) if has_audio else None
        audio = audio_of_frames(np.zeros(0, np.float32) if heard is None else heard, 0, n)
        mouth = _mouth(inputs, tracklets, first, n)
        scores = np.empty(n, np.float32)
        for a, b, low, high in blocks(n):
            crops = _decode(images, nearest[low:high])
            part = self._scorer.scores(crops, audio[low * _PER_FRAME : high * _PER_FRAME], mouth[low:high])
            scores[a:b] = part[a - low : b - low]
        name = self._scorer.name
        rows = [
            {"track_id": track["track_id"], "k": int(i), "score": float(s), "annotator": name}
            for i, s in zip(k, scores, strict=True)
        ]
        return {ASD_FRAMES: rows, SYNC: [self._offset(track["track_id"], audio, mouth, first, speech)]}

    def _offset(
        self, track_id: str, audio: FloatArray, mouth: FloatArray, first: int, speech: list[tuple[float, float]]
    ) -> dict[str, Any]:
        times = (first + np.arange(len(mouth)) + 0.5) / GRID_HZ
        spoken = np.zeros(len(mouth), bool)
        for a, b in speech:
            spoken |= (times >= a) & (times < b)
        evidence = float((spoken & np.isfinite(mouth)).sum() / GRID_HZ)
        row: dict[str, Any] = {
            "track_id": track_id,
            "offset_ms": None,
            "confidence": None,
            "correlation": None,
            "evidence_s": evidence,
            "annotator": self._sync.name,
        }
        if evidence >= self._settings.min_sync_s:
            m = self._sync.measure(audio, mouth)
            if math.isfinite(m.confidence):
                row |= {"offset_ms": m.offset_ms, "confidence": m.confidence, "correlation": m.correlation}
        return row


def _choice(settings: ActiveSpeakerSettings) -> Literal["lr-asd", "heuristic"]:
    """Settle "auto" by what is here, so that settings, fingerprint and model agree."""
    if settings.backend != "auto":
        return settings.backend
    return "lr-asd" if weights.find(_WEIGHT) is not None else "heuristic"


def _rows(inputs: Inputs, table: Table, tracklets: list[str], columns: list[str]) -> pa.Table:
    wanted = pa.array(tracklets, pa.string())
    parts = [p.filter(pc.is_in(p["tracklet_id"], wanted)).select(columns) for p in inputs.parts(table)]
    return pa.concat_tables(parts).sort_by("k") if parts else table.empty().select(columns)


def blocks(n: int, size: int = 1500, margin: int = 150) -> list[tuple[int, int, int, int]]:
    """Cut `n` frames into (start, end, from, to): frames [start, end) are scored in the context [from, to).

    A minute of crops is 19 MB, an hour would be a gigabyte. The margin is the longest window that scores average.
    """
    if n <= size + 2 * margin:
        return [(0, n, 0, n)]
    starts = list(range(0, n, size))
    ends = [*starts[1:], n]
    return [(a, b, max(0, a - margin), min(n, b + margin)) for a, b in zip(starts, ends, strict=True)]


def _crops(inputs: Inputs, tracklets: list[str]) -> tuple[npt.NDArray[np.int64], Any, npt.NDArray[np.int64]]:
    """Return every grid index from a track's first to last crop, its crops as JPEG, and which one each index shows.

    A gap shows the crop before it.
    """
    table = _rows(inputs, FACE_CROPS, tracklets, ["k", "crop"])
    found = np.asarray(table["k"].to_numpy(), np.int64)
    k = np.arange(found[0], found[-1] + 1)
    return k, table["crop"], np.clip(np.searchsorted(found, k, side="right") - 1, 0, len(found) - 1)


def _decode(data: Any, order: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return crops [T, 112, 112] in the given order."""
    images = np.empty((len(order), 112, 112), np.uint8)
    last = -1
    image: Any = None
    for i, n in enumerate(order):
        if n != last:
            image = cv2.imdecode(np.frombuffer(data[int(n)].as_py(), np.uint8), cv2.IMREAD_GRAYSCALE)
            last = int(n)
        images[i] = image
    return images


def _mouth(inputs: Inputs, tracklets: list[str], first: int, n: int) -> FloatArray:
    out = np.full(n, np.nan, np.float32)
    table = _rows(inputs, FACE_FRAMES, tracklets, ["k", "mouth_open"])
    at = np.asarray(table["k"].to_numpy(), np.int64) - first
    values = table["mouth_open"].to_pandas().to_numpy(np.float32)
    inside = (at >= 0) & (at < n)
    out[at[inside]] = values[inside]
    return out
