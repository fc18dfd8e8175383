"""Who is who across the whole dataset, and which split each person belongs to.

A track's face is the weighted mean of its portraits' embeddings (dark or tiny portraits and profiles weigh little).
Tracks are clustered within each source first (a few dozen to thousands), then the sources' people across the dataset;
two tracks seen at the same time in one shot are never one person. A track whose best portrait is too poor to tell
people apart (dark, tiny, in profile) stays a person of its own: a missed merge costs some references, a wrong one
puts another face beside a clip. Names and splits last from run to run, and people's decisions are laid over the
clusters (`identity_people`). Streams embeddings source by source; memory is one mean a track.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem
from schemas.table import Table
from schemas.tables import FACE_EMBEDDINGS, TRACK_IDENTITIES, TRACKS
from schemas.time import Interval
from stages.clustering import Array, Cluster, agglomerate
from stages.identity_people import READS, WRITES, known_before, name_people, person_rows, split_tables
from stages.identity_registry import join_known, measure_key, noting

_NAME = "average-linkage"
_POOR = "alone-poor-portraits"
_ALONE = "alone-no-embedding"
_DECIDED = "human-decision"
_DEALING = {"val", "test", "split_seed"}
"""Settings that have no say in who is who."""


class IdentitySettings(StageSettings):
    """How near is one person, and how people are split."""

    max_distance: float = Field(
        0.52,
        gt=0,
        description="largest root mean square L2 distance within a person. For dlib: its author's 0.6 less a margin; "
        "means of tracks were measured 0.04-0.43 apart within a person and from 0.58 between people",
    )
    min_quality: float = Field(
        0.25, ge=0, le=1, description="a track whose best portrait (quality x frontality) is poorer is never merged"
    )
    min_overlap_s: float = Field(
        0.2, ge=0, description="two tracks of one shot that share more time than this are two people (s)"
    )
    n_neighbours: int = Field(32, ge=1, description="nearest neighbours looked at in a round of clustering")
    val: float = Field(0.05, ge=0, le=1, description="share of the kept seconds in the validation split")
    test: float = Field(0.05, ge=0, le=1, description="share of the kept seconds in the test split")
    split_seed: str = Field("", description="another one deals all splits anew")

    @model_validator(mode="after")
    def _shares(self) -> IdentitySettings:
        if self.val + self.test > 1:
            raise ValueError(f"val {self.val} + test {self.test} exceed 1")
        return self


class Identity:
    """Stage: cluster tracks to people; groups and splits."""

    name: ClassVar[str] = "identity"
    version: ClassVar[int] = 2
    unit: ClassVar[Unit] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (TRACKS, FACE_EMBEDDINGS, *READS)
    writes: ClassVar[tuple[Table, ...]] = (TRACK_IDENTITIES, *WRITES)
    gate: ClassVar[Gate | None] = "segments"  # splits are dealt by the seconds of kept clips
    gate_mode: ClassVar[GateMode] = "set"
    Settings: ClassVar[type[StageSettings]] = IdentitySettings

    def __init__(self, settings: IdentitySettings) -> None:
        self._settings = settings

    @classmethod
    def identity(cls, settings: IdentitySettings) -> Mapping[str, str]:
        """No model takes part: embeddings are read."""
        return {}

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Cluster all live tracks of the dataset."""
        s = self._settings
        wanted = ["track_id", "source_id", "shot_id", "start_s", "end_s", "duration_s", "center_x", "center_y"]
        tracks = {r["track_id"]: r for r in inputs.read(TRACKS).select(wanted).to_pylist()}
        embedders: set[str] = set()
        means, best = track_means(noting(inputs.parts(FACE_EMBEDDINGS), embedders))
        faces = {k: c for k, c in means.items() if k in tracks}
        telling = s.model_dump(mode="json", exclude=_DEALING)
        known = known_before(inputs, tracks, measure_key(self.version, telling, embedders))
        people = self.cluster(faces, best, tracks, known.memory.names)
        named = name_people(inputs, known, [p.members for p in people], faces)
        rows = person_rows(named.people, tracks, faces, lambda track: self._how(best.get(track)), _DECIDED)
        dealt = split_tables(inputs, named.people.parts, tracks, s.val, s.test, s.split_seed)
        return Outputs({TRACK_IDENTITIES: TRACK_IDENTITIES.from_rows(rows), **named.tables, **dealt})

    def _how(self, quality: float | None) -> str:
        if quality is None:
            return _ALONE
        return _POOR if quality < self._settings.min_quality else _NAME

    def cluster(
        self,
        faces: Mapping[str, Cluster],
        best: Mapping[str, float],
        tracks: Mapping[str, Mapping[str, Any]],
        names: Mapping[str, str],
    ) -> list[Cluster]:
        """Return people as clusters of track ids; tracks without a face are people of their own (weight 0).

        Tracks with equal `names` stay together, and those with different ones apart.
        """
        s = self._settings
        apart = tracks_apart(tracks.values(), s.min_overlap_s)
        usable: list[Cluster] = []
        doubtful = [face for track_id, face in sorted(faces.items()) if best[track_id] < s.min_quality]
        for track_id, face in sorted(faces.items()):
            if best[track_id] < s.min_quality:
                continue
            barred = frozenset(apart.get(track_id, ()))
            usable.append(Cluster(face.members, face.weight, face.mean, face.scatter, barred))
        people, new = join_known(usable, names)
        by_source: dict[str, list[Cluster]] = defaultdict(list)
        for face in new:
            by_source[tracks[min(face.members)]["source_id"]].append(face)
        for _, members in sorted(by_source.items()):
            people += agglomerate(members, s.max_distance, s.n_neighbours)
        alone = [Cluster(frozenset({t}), 0.0, np.zeros(0)) for t in sorted(tracks.keys() - faces.keys())]
        return [*agglomerate(people, s.max_distance, s.n_neighbours), *doubtful, *alone]


def track_means(parts: Iterable[pa.Table]) -> tuple[dict[str, Cluster], dict[str, float]]:
    """Return each track's face as a weighted mean of its embeddings, and its best portrait's weight.

    The weight of a portrait is its quality times its frontality. The scatter within a track is left out, so that
    distances between tracks are distances of means: it is noise of single portraits, which the mean averages away.
    """
    means: dict[str, Cluster] = {}
    best: dict[str, float] = {}
    for part in parts:
        ids = [str(track_id) for track_id in part["track_id"].to_pylist()]
        if not ids:
            continue
        yaw = np.nan_to_num(part["yaw_deg"].to_numpy().astype(np.float64))
        quality = part["quality"].to_numpy().astype(np.float64) * frontality(yaw)
        vectors = np.array(part["embedding"].to_pylist(), np.float64)
        rows: dict[str, list[int]] = defaultdict(list)
        for i, track_id in enumerate(ids):
            rows[track_id].append(i)
        for track_id, index in rows.items():
            best[track_id] = float(quality[index].max())
            means[track_id] = Cluster(frozenset({track_id}), *weighted_mean(vectors[index], quality[index]))
    return means, best


def frontality(yaw_deg: Array) -> Array:
    """Return how much a head turned by yaw (degrees) shows for identity: 1 in front, 0 from the side; cos squared."""
    return np.asarray(np.maximum(np.cos(np.radians(yaw_deg)), 0.0) ** 2, np.float64)


def weighted_mean(vectors: Array, quality: Array) -> tuple[float, Array]:
    """Return (total weight, mean [d]) of vectors [n, d] weighted by quality [n]; never a weight of zero."""
    weights = np.maximum(quality, 1e-3)
    return float(weights.sum()), np.average(vectors, axis=0, weights=weights)


def tracks_apart(tracks: Iterable[Mapping[str, Any]], min_overlap_s: float) -> dict[str, set[str]]:
    """Return, for each track, the tracks of its shot that are seen at the same time: certainly other people."""
    by_shot: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for track in tracks:
        by_shot[track["shot_id"]].append(track)
    apart: dict[str, set[str]] = defaultdict(set)
    for group in by_shot.values():
        group.sort(key=lambda r: (r["start_s"], r["track_id"]))
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                if b["start_s"] >= a["end_s"]:
                    break
                shared = Interval(a["start_s"], a["end_s"]).overlap_s(Interval(b["start_s"], b["end_s"]))
                if shared > min_overlap_s:
                    apart[a["track_id"]].add(b["track_id"])
                    apart[b["track_id"]].add(a["track_id"])
    return apart
