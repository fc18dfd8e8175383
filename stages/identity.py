"""Who is who across the whole dataset, and which split each person belongs to.

A track's face is the weighted mean of its portraits' embeddings (dark or tiny portraits and profiles weigh little).
Tracks are clustered within each source first (a few dozen to thousands), with voices as second evidence, then the
sources' people across the dataset; two tracks seen at the same time in one shot are never one person. A track whose
best portrait is too poor to tell people apart (dark, tiny, in profile) stays a person of its own: a missed merge costs
some references, a wrong one puts another face beside a clip. What nearly merged is listed in `doubtful_merges`.
Streams embeddings source by source; memory is one mean a track.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem
from schemas.table import Table
from schemas.tables import (
    BINDINGS,
    DOUBTFUL_MERGES,
    DUPLICATES,
    FACE_EMBEDDINGS,
    IDENTITIES,
    INPUTS,
    TRACK_IDENTITIES,
    TRACKS,
)
from schemas.time import Interval
from stages.clustering import Cluster
from stages.identity_clusters import Doubt, Rules, clusters_of, doubts, merge
from stages.identity_faces import Face, track_faces
from stages.identity_splits import identity_groups, split_of
from stages.identity_voices import voices_of

_NAME = "average-linkage"
_POOR = "alone-poor-portraits"
_ALONE = "alone-no-embedding"


class IdentitySettings(StageSettings):
    """How near is one person, and how people are split."""

    max_distance: float | None = Field(
        None,
        gt=0,
        description="largest root mean square L2 distance within a person inside a source; null = the embedder's own",
    )
    max_distance_across: float | None = Field(
        None, gt=0, description="the same across sources, never above that inside one; null = the embedder's own"
    )
    min_quality: float = Field(
        0.1, ge=0, le=1, description="a track whose best portrait (quality x frontality) is poorer is never merged"
    )
    voice_one: float = Field(
        0.04, ge=0, le=1, description="share by which one voice bound to both tracks widens the limit inside a source"
    )
    voice_two: float = Field(0.07, ge=0, lt=1, description="share by which two voices narrow it")
    min_overlap_s: float = Field(
        0.2, ge=0, description="two tracks of one shot that share more time than this are two people (s)"
    )
    n_neighbours: int = Field(32, ge=1, description="nearest neighbours looked at in a round of clustering")
    val: float = Field(0.05, ge=0, le=1, description="share of groups in the validation split")
    test: float = Field(0.05, ge=0, le=1, description="share of groups in the test split")
    split_seed: str = Field("", description="changes who falls into which split")

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
    reads: ClassVar[tuple[Table, ...]] = (TRACKS, FACE_EMBEDDINGS, BINDINGS, INPUTS, DUPLICATES)
    writes: ClassVar[tuple[Table, ...]] = (IDENTITIES, TRACK_IDENTITIES, DOUBTFUL_MERGES)
    gate: ClassVar[Gate | None] = "tracks"
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
        wanted = ["track_id", "source_id", "shot_id", "start_s", "end_s", "duration_s"]
        tracks = {r["track_id"]: r for r in inputs.read(TRACKS).select(wanted).to_pylist()}
        faces = {k: f for k, f in track_faces(inputs.parts(FACE_EMBEDDINGS)).items() if k in tracks}
        people, doubted = self.cluster(faces, tracks, voices_of(inputs.read(BINDINGS).to_pylist()))
        linked = [*_same_session(inputs.read(INPUTS).to_pylist()), *_copies(inputs.read(DUPLICATES).to_pylist())]
        out = self._outputs(people, faces, tracks, linked)
        names = {track: identity_id(p.members) for p in people for track in p.members}
        out.tables[DOUBTFUL_MERGES] = DOUBTFUL_MERGES.from_rows([doubt_row(d, names) for d in doubted])
        return out

    def cluster(
        self,
        faces: Mapping[str, Face],
        tracks: Mapping[str, Mapping[str, Any]],
        voices: Mapping[str, frozenset[str]],
    ) -> tuple[list[Cluster], list[Doubt]]:
        """Return people as clusters of track ids, and pairs of them that may be one.

        Tracks without a face, or with too poor a one, are people of their own (without a face: of weight 0).
        """
        s = self._settings
        rules = Rules(s.max_distance, s.max_distance_across, s.min_quality, s.voice_one, s.voice_two, s.n_neighbours)
        apart = tracks_apart(tracks.values(), s.min_overlap_s)
        source_of = {t: str(r["source_id"]) for t, r in tracks.items()}
        people: list[Cluster] = []
        doubted: list[Doubt] = []
        for embedder, clusters in sorted(clusters_of(faces, apart, voices, rules).items()):
            found = merge(clusters.values(), source_of, embedder, rules)
            shown = [_alone(t, f, apart) for t, f in faces.items() if f.embedder == embedder and t not in clusters]
            doubted += doubts(
                [*found, *(c for c in shown if faces[min(c.members)].best > 0)], faces, source_of, embedder, rules
            )
            people += [*found, *shown]
        nobody = [Cluster(frozenset({t}), 0.0, np.zeros(0)) for t in sorted(tracks.keys() - faces.keys())]
        return [*people, *nobody], doubted

    def _how(self, face: Face | None) -> str:
        if face is None:
            return _ALONE
        return _POOR if face.best < max(self._settings.min_quality, 1e-9) else _NAME

    def _outputs(
        self,
        people: Sequence[Cluster],
        faces: Mapping[str, Face],
        tracks: Mapping[str, Mapping[str, Any]],
        linked: Iterable[tuple[str, str]],
    ) -> Outputs:
        names = {identity_id(p.members): p for p in people}
        sources = {name: {tracks[t]["source_id"] for t in p.members} for name, p in names.items()}
        groups = identity_groups(sources, linked)
        s = self._settings
        identities, members = [], []
        for name, person in names.items():
            identities.append(
                {
                    "identity_id": name,
                    "n_tracks": len(person.members),
                    "n_sources": len(sources[name]),
                    "seen_s": float(sum(tracks[t]["duration_s"] for t in person.members)),
                    "split": split_of(groups[name], s.val, s.test, s.split_seed),
                    "group_id": f"g-{groups[name]}",
                }
            )
            for track_id in person.members:
                seen = person.weight > 0
                members.append(
                    {
                        "track_id": track_id,
                        "source_id": tracks[track_id]["source_id"],
                        "identity_id": name,
                        "distance": float(np.linalg.norm(faces[track_id].mean - person.mean)) if seen else None,
                        "annotator": self._how(faces.get(track_id)),
                    }
                )
        return Outputs(
            {IDENTITIES: IDENTITIES.from_rows(identities), TRACK_IDENTITIES: TRACK_IDENTITIES.from_rows(members)}
        )


def _alone(track: str, face: Face, apart: Mapping[str, Iterable[str]]) -> Cluster:
    return Cluster(frozenset({track}), face.weight, face.mean, 0.0, frozenset(apart.get(track, ())))


def doubt_row(doubt: Doubt, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the DOUBTFUL_MERGES row of a pair; `names` is the person of each track."""
    return {
        "identity_id": names[doubt.a],
        "other_identity_id": names[doubt.b],
        "track_id": doubt.a,
        "other_track_id": doubt.b,
        "across_sources": doubt.across,
        "distance": doubt.distance,
        "limit": doubt.limit,
        "voices": doubt.voices,
        "why": doubt.why,
        "annotator": _NAME,
    }


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


def identity_id(members: Iterable[str]) -> str:
    """Name a person after the smallest of their tracks."""
    return "p-" + hashlib.sha256(min(members).encode()).hexdigest()[:12]


def _same_session(inputs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    return [
        (first.setdefault(r["session"], r["source_id"]), r["source_id"]) for r in inputs if r["session"] is not None
    ]


def _copies(duplicates: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(r["near_duplicate_of"], r["source_id"]) for r in duplicates if r["near_duplicate_of"] is not None]
