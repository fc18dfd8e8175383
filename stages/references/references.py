"""Reference images of every segment: one global, up to four views, up to eight expressions, of the same person.

Each is verified against the clip's own track and against the other people of its source (both distances are recorded,
beside that to the person's mean), and taken from outside the clip wherever there is such an image: other segments,
shots or sources. Images are named by track and grid index; the pictures themselves stay in the portraits table. Some
passes over the embeddings, source by source; memory holds the labels of all portraits, and the vectors of those few
that may serve a person's every clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from annotators.face.distances import distances_of
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, UnitError, WorkItem
from schemas.table import Table
from schemas.tables import FACE_EMBEDDINGS, REFERENCES, SEGMENTS, TRACK_IDENTITIES
from schemas.tables.pairing import SegmentRow
from schemas.tables.people import ReferenceRow, TrackIdentityRow
from schemas.time import Interval
from stages.identity.clustering import Array
from stages.identity.faces import Face, person_faces, track_faces
from stages.references.check import (
    ImageCheck,
    Key,
    Portrait,
    Rivals,
    check_images,
    outside_first,
    own_face,
    track_portraits,
)
from stages.references.choice import Clip, Image, Rules, choose, inside, pool


class ReferencesSettings(StageSettings):
    """How many references, and how sure and how different they must be."""

    max_distance: float | None = Field(
        None,
        gt=0,
        description="largest L2 distance of an image's embedding to the clip's own face, and to the person's mean; "
        "null = the embedder's own",
    )
    min_margin: float = Field(
        0.1, ge=0, description="share of that by which it must be nearer to the own face than to anybody else's"
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
    version: ClassVar[int] = 5
    grain: ClassVar[Grain] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (SEGMENTS, FACE_EMBEDDINGS, TRACK_IDENTITIES)
    writes: ClassVar[tuple[Table, ...]] = (REFERENCES,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = ReferencesSettings

    def __init__(self, settings: ReferencesSettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Choose references for all live segments; one without any image is reported as failed."""
        members = inputs.read(TRACK_IDENTITIES)
        named = (TrackIdentityRow.track_id.values(members), TrackIdentityRow.identity_id.values(members))
        person_of = dict(zip(*named, strict=True))
        segments: dict[str, list[SegmentRow]] = defaultdict(list)
        for segment in SEGMENTS.rows(inputs.read(SEGMENTS).select([c.name for c in _SEGMENT])):
            segments[segment.track_id].append(segment)
        faces = {t: f for t, f in track_faces(inputs.parts(FACE_EMBEDDINGS)).items() if t in person_of}
        people = person_faces(faces, person_of)
        images = _person_images(inputs.parts(FACE_EMBEDDINGS), person_of, people)
        pools = {person: pool(found, self._rules(people[person])) for person, found in images.items()}
        shared = _Shared(pools, _pool_vectors(inputs.parts(FACE_EMBEDDINGS), pools), Rivals(faces, person_of))
        by_track: dict[str, list[Image]] = defaultdict(list)
        for found in images.values():
            for image in found:
                by_track[image.track_id].append(image)
        out = Outputs()
        rows: list[ReferenceRow] = []
        for part in inputs.parts(FACE_EMBEDDINGS):
            for track, portraits in track_portraits(part).items():
                for segment in segments.get(track, ()):
                    if track in faces:
                        rows += self._segment(
                            segment, person_of[track], faces[track], by_track[track], portraits, shared
                        )
        served = {row.segment_id for row in rows}
        lacking = sorted((s.segment_id, t) for t, mine in segments.items() for s in mine)
        out.errors += [_without(segment_id, track) for segment_id, track in lacking if segment_id not in served]
        out.tables[REFERENCES] = REFERENCES.from_rows(rows)
        return out

    def _rules(self, face: Face) -> Rules:
        return rules_of(self._settings, distances_of(face.embedder).portrait)

    def _segment(
        self,
        segment: SegmentRow,
        person: str,
        face: Face,
        own_images: list[Image],
        portraits: Mapping[Key, Portrait],
        shared: _Shared,
    ) -> list[ReferenceRow]:
        """Return the REFERENCES rows of one segment."""
        rules = self._rules(face)
        clip = Clip(segment.source_id, segment.track_id, Interval(segment.start_s, segment.end_s))
        own = own_face(portraits, clip.span, unit=distances_of(face.embedder).unit)
        candidates = {i.key: i for i in [*shared.pools.get(person, []), *own_images]}
        vectors = {k: portraits[k].vector if k in portraits else shared.vectors[k] for k in candidates}
        checked = check_images(vectors, own, shared.rivals.of(clip.source_id, person, face.embedder))
        margin = self._settings.min_margin * rules.max_distance
        good = [i for k, i in candidates.items() if checked[k].passes(rules.max_distance, margin)]
        if not good and own_images:
            # Somebody must stand for the clip: the portrait of its own track that is likest to the others.
            good = [min(own_images, key=lambda i: (checked[i.key].own or 0.0, i.key))]
        good = outside_first(clip, good)
        chosen = choose(clip, [i for i in good if i.track_id == clip.track_id], good, rules)
        return _reference_rows(segment.segment_id, person, clip, chosen, checked)


def rules_of(settings: ReferencesSettings, limit: float) -> Rules:
    """Return the limits of the choice; `limit` is the embedder's own largest distance, where none is set."""
    wanted = limit if settings.max_distance is None else settings.max_distance
    return Rules(**(settings.model_dump(exclude={"min_margin"}) | {"max_distance": wanted}))


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the clips of a dataset choose from."""

    pools: Mapping[str, list[Image]]
    vectors: Mapping[Key, Array]
    rivals: Rivals


_SEGMENT = (
    SegmentRow.segment_id, SegmentRow.source_id, SegmentRow.track_id, SegmentRow.start_s, SegmentRow.end_s,
)  # fmt: skip


def _person_images(
    parts: Iterable[pa.Table], person_of: Mapping[str, str], people: Mapping[str, Face]
) -> dict[str, list[Image]]:
    """Return each person's portraits with their distance to the person's mean, without the vectors."""
    out: dict[str, list[Image]] = defaultdict(list)
    for part in parts:
        for r in FACE_EMBEDDINGS.rows(part):
            person = person_of.get(r.track_id)
            if person is None or r.annotator != people[person].embedder:
                continue
            gap = np.asarray(r.embedding, np.float64) - people[person].mean
            out[person].append(
                Image(
                    source_id=r.source_id,
                    track_id=r.track_id,
                    k=r.k,
                    t_s=r.t_s,
                    distance=float(np.linalg.norm(gap)),
                    quality=r.quality,
                    yaw_deg=r.yaw_deg,
                    view=r.view,
                    expression=r.expression,
                    expression_score=r.expression_score,
                    text_area=r.text_area,
                    part_xywh=tuple(r.part_xywh),
                )
            )
    return {person: sorted(found, key=lambda i: i.key) for person, found in sorted(out.items())}


def _pool_vectors(parts: Iterable[pa.Table], pools: Mapping[str, Iterable[Image]]) -> dict[Key, Array]:
    """Return the embeddings [E] of the images in all pools, by key."""
    wanted = {image.key for images in pools.values() for image in images}
    out: dict[Key, Array] = {}
    for part in parts:
        for portraits in track_portraits(part).values():
            out |= {k: p.vector for k, p in portraits.items() if k in wanted}
    return out


def _reference_rows(
    segment_id: str, person: str, clip: Clip, chosen: Iterable[tuple[str, Image]], checked: Mapping[Key, ImageCheck]
) -> list[ReferenceRow]:
    """Return the REFERENCES rows of one segment; positions count from 0 within each kind."""
    counts: dict[str, int] = defaultdict(int)
    rows: list[ReferenceRow] = []
    for kind, image in chosen:
        rows.append(
            ReferenceRow(
                segment_id=segment_id,
                kind=kind,
                n=counts[kind],
                identity_id=person,
                ref_source_id=image.source_id,
                ref_track_id=image.track_id,
                ref_k=image.k,
                ref_t_s=image.t_s,
                distance=image.distance,
                own_distance=checked[image.key].own,
                rival_distance=checked[image.key].rival,
                yaw_deg=image.yaw_deg,
                view=image.view,
                expression=image.expression,
                expression_score=image.expression_score,
                quality=image.quality,
                text_area=image.text_area,
                part_xywh=list(image.part_xywh),
                overlaps_clip=inside(image, clip),
            )
        )
        counts[kind] += 1
    return rows


def _without(segment_id: str, track: str) -> UnitError:
    message = f"track {track} has no portrait that was embedded: look for its error in the stage `embedding`"
    return UnitError(segment_id, "NoReference", message, "")
