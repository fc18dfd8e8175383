"""Reference images of every segment: one global, up to four views, up to eight expressions, of the same person.

Each is verified against the mean embedding of the person's cluster (the distance is recorded), and taken from outside
the clip where there is such an image: other segments, shots or sources. Images are named by track and grid index; the
pictures themselves stay in the portraits table. Two passes over the embeddings, source by source; memory holds the
labels of all portraits, not their vectors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, UnitError, WorkItem
from schemas.table import Table
from schemas.tables import FACE_EMBEDDINGS, REFERENCES, SEGMENTS, TRACK_IDENTITIES
from schemas.time import Interval
from stages.clustering import Array
from stages.identity import frontality
from stages.reference_choice import Clip, Image, Rules, choose, inside, pool

Row = Mapping[str, Any]


class ReferencesSettings(StageSettings):
    """How many references, and how sure and how different they must be."""

    max_distance: float = Field(
        0.52, gt=0, description="largest L2 distance of an image's embedding to the person's mean"
    )
    min_gap_s: float = Field(1.5, ge=0, description="two images of one track with equal labels lie this far apart (s)")
    clip_margin_s: float = Field(
        1.0, ge=0, description="images this close to the clip's ends show nearly the same and are taken last (s)"
    )
    max_views: int = Field(4, ge=0, le=4, description="view references a segment")
    max_expressions: int = Field(8, ge=0, le=8, description="expression references a segment")
    min_expression_score: float = Field(0.6, ge=0, le=1, description="less clear expressions are not taken")


class References:
    """Stage: choose each live segment's reference images."""

    name: ClassVar[str] = "references"
    version: ClassVar[int] = 2
    unit: ClassVar[Unit] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (SEGMENTS, FACE_EMBEDDINGS, TRACK_IDENTITIES)
    writes: ClassVar[tuple[Table, ...]] = (REFERENCES,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "set"
    Settings: ClassVar[type[StageSettings]] = ReferencesSettings

    def __init__(self, settings: ReferencesSettings) -> None:
        self._rules = Rules(**settings.model_dump())

    @classmethod
    def identity(cls, settings: ReferencesSettings) -> Mapping[str, str]:
        """No model takes part: embeddings and labels are read."""
        return {}

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Choose references for all live segments; one without any image is reported as failed."""
        person_of = {str(r["track_id"]): str(r["identity_id"]) for r in inputs.read(TRACK_IDENTITIES).to_pylist()}
        means = person_means(inputs.parts(FACE_EMBEDDINGS), person_of)
        images = person_images(inputs.parts(FACE_EMBEDDINGS), person_of, means)
        by_track: dict[str, list[Image]] = defaultdict(list)
        for found in images.values():
            for image in found:
                by_track[image.track_id].append(image)
        pools = {person: pool(found, self._rules) for person, found in images.items()}
        rows: list[Row] = []
        out = Outputs()
        for segment in inputs.read(SEGMENTS).select(_SEGMENT_COLUMNS).to_pylist():
            track, person = segment["track_id"], person_of.get(segment["track_id"], "")
            clip = Clip(segment["source_id"], track, Interval(segment["start_s"], segment["end_s"]))
            chosen = choose(clip, by_track.get(track, []), pools.get(person, []), self._rules)
            if not chosen:
                out.errors.append(_without(segment["segment_id"], track))
            rows += reference_rows(segment["segment_id"], person, clip, chosen)
        out.tables[REFERENCES] = REFERENCES.from_rows(rows)
        return out


_SEGMENT_COLUMNS = ["segment_id", "source_id", "track_id", "start_s", "end_s"]


def person_means(parts: Iterable[pa.Table], person_of: Mapping[str, str]) -> dict[str, Array]:
    """Return each person's mean embedding [d], portraits weighted by quality and frontality."""
    sums: dict[str, Array] = {}
    totals: dict[str, float] = defaultdict(float)
    for part in parts:
        if not part.num_rows:
            continue
        vectors = np.array(part["embedding"].to_pylist(), np.float64)
        yaw = np.nan_to_num(part["yaw_deg"].to_numpy().astype(np.float64))
        weights = np.maximum(part["quality"].to_numpy().astype(np.float64) * frontality(yaw), 1e-3)
        for track, vector, weight in zip(part["track_id"].to_pylist(), vectors, weights, strict=True):
            person = person_of.get(str(track))
            if person is not None:
                sums[person] = sums.get(person, np.zeros(len(vector))) + weight * vector
                totals[person] += float(weight)
    return {person: total / totals[person] for person, total in sums.items()}


def person_images(
    parts: Iterable[pa.Table], person_of: Mapping[str, str], means: Mapping[str, Array]
) -> dict[str, list[Image]]:
    """Return each person's portraits with their distance to the person's mean, without the vectors."""
    out: dict[str, list[Image]] = defaultdict(list)
    for part in parts:
        for r in part.to_pylist():
            person = person_of.get(r["track_id"])
            if person is None:
                continue
            gap = np.asarray(r["embedding"], np.float64) - means[person]
            out[person].append(
                Image(
                    source_id=r["source_id"],
                    track_id=r["track_id"],
                    k=r["k"],
                    t_s=r["t_s"],
                    distance=float(np.linalg.norm(gap)),
                    quality=r["quality"],
                    yaw_deg=r["yaw_deg"],
                    view=r["view"],
                    expression=r["expression"],
                    expression_score=r["expression_score"],
                    text_area=r["text_area"],
                )
            )
    return {person: sorted(found, key=lambda i: i.key) for person, found in sorted(out.items())}


def reference_rows(segment_id: str, person: str, clip: Clip, chosen: Iterable[tuple[str, Image]]) -> list[Row]:
    """Return the REFERENCES rows of one segment; positions count from 0 within each kind."""
    counts: dict[str, int] = defaultdict(int)
    rows: list[Row] = []
    for kind, image in chosen:
        rows.append(
            {
                "segment_id": segment_id,
                "kind": kind,
                "n": counts[kind],
                "identity_id": person,
                "ref_source_id": image.source_id,
                "ref_track_id": image.track_id,
                "ref_k": image.k,
                "ref_t_s": image.t_s,
                "distance": image.distance,
                "yaw_deg": image.yaw_deg,
                "view": image.view,
                "expression": image.expression,
                "expression_score": image.expression_score,
                "quality": image.quality,
                "text_area": image.text_area,
                "overlaps_clip": inside(image, clip),
            }
        )
        counts[kind] += 1
    return rows


def _without(segment_id: str, track: str) -> UnitError:
    message = f"track {track} has no portrait that was embedded: look for its error in the stage `embedding`"
    return UnitError(segment_id, "NoReference", message, "")
