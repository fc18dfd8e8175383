"""Identity embeddings, view and expression of each track's best portraits.

Portraits were cut during the scan, so nothing is decoded but a few JPEGs. On one core the default network costs 14 ms
a portrait, dlib's 84; the body's view 31. Portrait images are read window by window and only the chosen kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from annotators.body.measures import body_yaw_deg, plausible_yaw
from annotators.face.portrait_embedder import PortraitEmbedder, Portrayed, embed_each
from annotators.face.views import expression_of, portrait_quality, view_from_yaw
from annotators.parts import Part, part
from annotators.protocols import Box, FloatArray, Image
from annotators.protocols_body import BodyAnalyzer
from annotators.shipped import BODY_ANALYZERS, FACE_REID
from curation.media.encode import decode_jpeg
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, Rows, StageSettings, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import FACE_EMBEDDINGS, FACE_FRAMES, LAYOUT, PORTRAITS, SOURCES, TRACKLETS, TRACKS
from schemas.tables.people import FaceEmbeddingRow
from schemas.tables.scan import FaceFrameRow, LayoutRow, PortraitRow
from stages.face_series import BOX, Series, track_series, tracklets_of
from stages.references.portrait_text import AROUND, clear_part, face_rect, portrait_rect, text_share
from stages.references.portraits import Candidate, choose, light_factor

_UNALIGNED = 0.3
"""Quality is scaled by this where no landmarks were found: the chip is cut by the box, and matches worse."""

_FACE = (
    *BOX, FaceFrameRow.yaw_deg, FaceFrameRow.pitch_deg, FaceFrameRow.eye_open, FaceFrameRow.blendshapes,
)  # fmt: skip
_IMAGE = (PortraitRow.tracklet_id, PortraitRow.k, PortraitRow.image, PortraitRow.points_xy, PortraitRow.face_xywh)
_PORTRAIT = (PortraitRow.t_s, PortraitRow.face_px, PortraitRow.sharpness, PortraitRow.luma_mean)


@dataclass(frozen=True, slots=True)
class Label:
    """What is told of a portrait; `text_area` and `part_xywh` as in FACE_EMBEDDINGS."""

    candidate: Candidate
    view: str
    expression_score: float
    text_area: float | None
    part_xywh: list[float]


Embedded = tuple[list[Portrayed], list[FloatArray]]


class EmbeddingSettings(StageSettings):
    """How many portraits stand for a track."""

    backend: Part[PortraitEmbedder] = part(
        {
            "retail": FACE_REID,
            "dlib": "annotators.face.portrait_embedder:DlibPortraits",
            "arcface": {"use": "annotators.face.portrait_embedder:ArcFacePortraits", "model": "w600k_r50.onnx"},
        },
        "retail: Intel's face-reidentification-retail-0095; dlib: its descriptor, weaker on many looks; arcface: a "
        "network of your own (`model`: an ONNX file or a pack's folder, by path or by name in OPENLPM_MODELS), run by "
        "insightface; "
        "auto: retail where its weights are, else dlib",
        auto=("retail", "dlib"),
    )
    body: Part[BodyAnalyzer | None] = part(
        BODY_ANALYZERS,
        "tells the body's view where a portrait shows the shoulders; auto: where the weights are",
        auto=("mediapipe", "none"),
    )
    n_portraits: int = Field(16, ge=1, le=64, description="portraits embedded a track, by quality and variety")


class Embedding:
    """Stage: embed the best portraits of each live track."""

    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 5
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, TRACKS, TRACKLETS, PORTRAITS, FACE_FRAMES, LAYOUT)
    writes: ClassVar[tuple[Table, ...]] = (FACE_EMBEDDINGS,)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = EmbeddingSettings

    def __init__(self, settings: EmbeddingSettings) -> None:
        """Load the network. Raises WeightsNotFound; PartNotInstalledError where arcface lacks what runs it."""
        self._settings = settings
        self._embedder = settings.backend.build()
        self._body = settings.body.build()

    def close(self) -> None:
        """Release the body networks."""
        if self._body is not None:
            self._body.close()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Embed the item's tracks; one that fails harms no other."""
        chosen = self._chosen(item, inputs)

        def embedded(track: str) -> Embedded:
            shown = [_portrayed(portrait) for _, portrait in chosen[track]]
            return shown, embed_each(self._embedder, shown)

        return self._outputs(item, chosen, embedded)

    def run_many(self, work: Sequence[tuple[WorkItem, Inputs]]) -> list[Outputs]:
        """Embed the tracks of several items, the portraits of all of them together."""
        chosen = [self._chosen(item, inputs) for item, inputs in work]
        shown = [{track: [_portrayed(p) for _, p in found] for track, found in of.items()} for of in chosen]
        vectors = iter(embed_each(self._embedder, [p for of in shown for portraits in of.values() for p in portraits]))
        done = [{track: (p, list(itertools.islice(vectors, len(p)))) for track, p in of.items()} for of in shown]
        return [
            self._outputs(item, of, found.__getitem__) for (item, _), of, found in zip(work, chosen, done, strict=True)
        ]

    def _chosen(self, item: WorkItem, inputs: Inputs) -> dict[str, list[tuple[Label, PortraitRow]]]:
        """Return the portraits that stand for each track, with what is measured of them; none of a track without."""
        live = set(item.units)
        track_of = {k: v for k, v in tracklets_of(inputs.read(TRACKLETS)).items() if v in live}
        source = SOURCES.rows(inputs.read(SOURCES))[0]
        layout, size = LAYOUT.rows(inputs.read(LAYOUT)), (source.width, source.height)
        faces = track_series(inputs.parts(FACE_FRAMES), track_of, _FACE)
        facts = track_series(inputs.parts(PORTRAITS), track_of, _PORTRAIT, PortraitRow)
        labels = {track: portrait_labels(p, faces[track], layout, size) for track, p in facts.items()}
        best = {
            track: choose([x.candidate for x in of.values()], self._settings.n_portraits)
            for track, of in labels.items()
        }
        images = portrait_images(inputs, track_of, {track: {c.k for c in found} for track, found in best.items()})
        return {track: [(labels[track][c.k], images[track, c.k]) for c in found] for track, found in best.items()}

    def _outputs(
        self,
        item: WorkItem,
        chosen: Mapping[str, list[tuple[Label, PortraitRow]]],
        embedded: Callable[[str], Embedded],
    ) -> Outputs:
        def measure(track: str) -> Rows:
            if track not in chosen:
                raise ValueError(f"track {track} has no portrait: it is too short, or its face was never confirmed")
            shown, vectors = embedded(track)
            rows = [
                self._row(track, item.source_id, label, face, vector)
                for (label, _), face, vector in zip(chosen[track], shown, vectors, strict=True)
            ]
            return {FACE_EMBEDDINGS: rows}

        return each_unit(item.units, measure)

    def _row(
        self, track: str, source_id: str, label: Label, portrait: Portrayed, embedding: FloatArray
    ) -> FaceEmbeddingRow:
        candidate, (rgb, _, face) = label.candidate, portrait
        body_yaw = plausible_yaw(self._body_yaw(rgb, face), _or_none(candidate.yaw_deg))
        return FaceEmbeddingRow(
            track_id=track,
            source_id=source_id,
            k=candidate.k,
            t_s=candidate.t_s,
            embedding=embedding.tolist(),
            quality=candidate.quality,
            yaw_deg=_or_none(candidate.yaw_deg),
            pitch_deg=_or_none(candidate.pitch_deg),
            body_yaw_deg=body_yaw,
            view=label.view if body_yaw is None else view_from_yaw(body_yaw),
            expression=candidate.expression,
            expression_score=label.expression_score,
            text_area=label.text_area,
            part_xywh=label.part_xywh,
            annotator=self._embedder.name,
        )

    def _body_yaw(self, rgb: Image, face: Box) -> float | None:
        """Return where the chest faces, where a portrait shows both shoulders."""
        body = None if self._body is None else self._body.measure(rgb, face, hands=False)
        return None if body is None else body_yaw_deg(body, (rgb.shape[1], rgb.shape[0]))


def _portrayed(portrait: PortraitRow) -> Portrayed:
    five = np.asarray(portrait.points_xy, np.float32).reshape(-1, 2)
    return decode_jpeg(portrait.image), five if len(five) else None, Box(*portrait.face_xywh)


def portrait_labels(
    portraits: Series, faces: Series, layout: Sequence[LayoutRow] = (), size: tuple[int, int] = (1, 1)
) -> dict[int, Label]:
    """Return pose, labels and quality of each portrait by k.

    Args:
        portraits: t_s, face_px, sharpness, luma_mean of a track's portraits.
        faces: yaw_deg, pitch_deg, eye_open, blendshapes of the same track, whole: their median is the person's
            baseline; with its boxes (pixels) where `layout` is given.
        layout: LAYOUT rows of the source.
        size: width and height of the source's picture in pixels.
    """
    shapes: npt.NDArray[np.float32] = faces[FaceFrameRow.blendshapes]
    meshed: npt.NDArray[np.bool_] = np.asarray(np.isfinite(shapes).all(axis=1))
    baseline = np.median(shapes[meshed], axis=0).astype(np.float64) if meshed.any() else None
    out: dict[int, Label] = {}
    for i, k in enumerate(portraits.k.tolist()):
        row = int(np.searchsorted(faces.k, k))
        known = row < len(meshed) and faces.k[row] == k and bool(meshed[row])
        px, sharp = float(portraits[PortraitRow.face_px][i]), float(portraits[PortraitRow.sharpness][i])
        light = light_factor(float(portraits[PortraitRow.luma_mean][i]))
        yaw, pitch, view, expression, score = np.nan, np.nan, "unknown", "unknown", 0.0
        if known:
            yaw, pitch = float(faces[FaceFrameRow.yaw_deg][row]), float(faces[FaceFrameRow.pitch_deg][row])
            shown = expression_of(shapes[row].astype(np.float64), baseline, pitch, px)
            quality = light * portrait_quality(sharp, float(faces[FaceFrameRow.eye_open][row]), px, yaw)
            view, expression, score = view_from_yaw(yaw), shown.name, shown.score
        else:
            quality = _UNALIGNED * light * portrait_quality(sharp, 1.0, px)
        candidate = Candidate(k, float(portraits[PortraitRow.t_s][i]), quality, yaw, pitch, expression)
        out[k] = Label(candidate, view, score, *_text(layout, k, faces, row, size))
    return out


def _text(
    layout: Sequence[LayoutRow], k: int, faces: Series, row: int, size: tuple[int, int]
) -> tuple[float | None, list[float]]:
    """Return the share of a portrait, or of its part, under text, and the part that text leaves free (empty = all)."""
    rect, face = portrait_rect(faces, row, size), face_rect(faces, row, size)
    share = text_share(layout, k, rect, AROUND)
    if rect is None or face is None or not share:
        return share, []
    part = clear_part(layout, k, rect, face, AROUND)
    if part is None:
        return share, []
    shares = ((part.x0 - rect.x0) / rect.w, (part.y0 - rect.y0) / rect.h, part.w / rect.w, part.h / rect.h)
    return text_share(layout, k, part, AROUND), list(shares)


def portrait_images(
    inputs: Inputs, track_of: Mapping[str, str], wanted: Mapping[str, set[int]]
) -> dict[tuple[str, int], PortraitRow]:
    """Return image, points and box of the wanted portraits by (track, k); windows are read one at a time."""
    ks = pa.array(sorted(set().union(*wanted.values())), pa.int32())
    out: dict[tuple[str, int], PortraitRow] = {}
    for window in inputs.parts(PORTRAITS):
        near = window.filter(pc.is_in(PortraitRow.k.of(window), ks)).select([c.name for c in _IMAGE])
        for row in PORTRAITS.rows(near):
            track = track_of.get(row.tracklet_id)
            if track is not None and row.k in wanted.get(track, ()):
                out[track, row.k] = row
    return out


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
