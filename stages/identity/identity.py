"""Who is who across the whole dataset, and which split each person belongs to.

A track's face is the weighted mean of its portraits' embeddings (dark or tiny portraits and profiles weigh little).
Tracks are clustered within each source first (a few dozen to thousands), with voices as second evidence, then the
sources' people across the dataset; two tracks seen at the same time in one shot are never one person. A track whose
best portrait is too poor to tell people apart (dark, tiny, in profile) stays a person of its own: a missed merge costs
some references, a wrong one puts another face beside a clip. What nearly merged is listed in `doubtful_merges`. Names
and splits last from run to run, and people's decisions are laid over the clusters (`identity_people`).
Streams embeddings source by source; memory is one mean a track.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, model_validator

from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import BINDINGS, DOUBTFUL_MERGES, FACE_EMBEDDINGS, TRACK_IDENTITIES, TRACKS
from schemas.tables.people import DoubtfulMergeRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval
from stages.identity.clustering import Cluster
from stages.identity.clusters import Doubt, Rules, clusters_of, doubts, merge
from stages.identity.faces import Face, track_faces
from stages.identity.people import READS, WRITES, known_before, name_people, person, person_rows, split_tables
from stages.identity.registry import measure_key
from stages.identity.voices import voices_of

_NAME = "average-linkage"
_POOR = "alone-poor-portraits"
_ALONE = "alone-no-embedding"
_DECIDED = "human-decision"
_READ = (
    TrackRow.track_id, TrackRow.source_id, TrackRow.shot_id, TrackRow.start_s, TrackRow.end_s, TrackRow.duration_s,
    TrackRow.center_x, TrackRow.center_y,
)  # fmt: skip
"""All that is held of each track of the dataset."""
_DEALING = {"val", "test", "split_seed"}
"""Settings that have no say in who is who."""


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
    version: ClassVar[int] = 3
    grain: ClassVar[Grain] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (TRACKS, FACE_EMBEDDINGS, BINDINGS, *READS)
    writes: ClassVar[tuple[Table, ...]] = (TRACK_IDENTITIES, DOUBTFUL_MERGES, *WRITES)
    gate: ClassVar[Gate | None] = "segments"  # splits are dealt by the seconds of kept clips
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = IdentitySettings

    def __init__(self, settings: IdentitySettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Cluster all live tracks of the dataset."""
        s = self._settings
        tracks = {r.track_id: r for r in TRACKS.rows(inputs.read(TRACKS).select([c.name for c in _READ]))}
        faces = {k: f for k, f in track_faces(inputs.parts(FACE_EMBEDDINGS)).items() if k in tracks}
        telling = s.model_dump(mode="json", exclude=_DEALING)
        known = known_before(inputs, tracks, measure_key(self.version, telling, {f.embedder for f in faces.values()}))
        apart, voices = tracks_apart(tracks.values(), s.min_overlap_s), voices_of(BINDINGS.rows(inputs.read(BINDINGS)))
        single = {
            t: Cluster(frozenset({t}), f.weight, f.mean, 0.0, frozenset(apart.get(t, ())), voices.get(t, frozenset()))
            for t, f in faces.items()
        }
        named = name_people(inputs, known, self.cluster(faces, tracks, apart, voices, known.memory.names), single)
        rows = person_rows(named.people, tracks, single, lambda track: self._how(faces.get(track)), _DECIDED)
        dealt = split_tables(inputs, named.people.parts, tracks, s.val, s.test, s.split_seed)
        owner = named.people.of()
        doubted = [
            _doubt_row(d, owner)
            for d in self.doubts(named.people.parts, faces, single, tracks)
            if frozenset({owner[d.a], owner[d.b]}) not in named.people.parted
        ]
        tables: dict[Table, pa.Table] = {**named.tables, **dealt}
        tables[TRACK_IDENTITIES] = TRACK_IDENTITIES.from_rows(rows)
        tables[DOUBTFUL_MERGES] = DOUBTFUL_MERGES.from_rows(doubted)
        return Outputs(tables)

    def cluster(
        self,
        faces: Mapping[str, Face],
        tracks: Mapping[str, TrackRow],
        apart: Mapping[str, Iterable[str]],
        voices: Mapping[str, frozenset[str]],
        names: Mapping[str, str],
    ) -> list[frozenset[str]]:
        """Return people as sets of track ids.

        Tracks without a face, or with too poor a one, are people of their own. Tracks with equal `names` stay together,
        and those with different ones apart.
        """
        rules, source_of = self._rules(), {t: r.source_id for t, r in tracks.items()}
        people: list[frozenset[str]] = []
        for embedder, clusters in sorted(clusters_of(faces, apart, voices, rules).items()):
            people += [p.members for p in merge(clusters.values(), source_of, embedder, rules, names)]
        return [*people, *(frozenset({t}) for t in sorted(tracks.keys() - set().union(*people)))]

    def doubts(
        self,
        people: Mapping[str, Collection[str]],
        faces: Mapping[str, Face],
        single: Mapping[str, Cluster],
        tracks: Mapping[str, TrackRow],
    ) -> list[Doubt]:
        """Return pairs of people that may be one, as far as their portraits are aligned."""
        source_of = {t: r.source_id for t, r in tracks.items()}
        out: list[Doubt] = []
        for embedder in sorted({f.embedder for f in faces.values()}):
            usable = {t: c for t, c in single.items() if faces[t].embedder == embedder and faces[t].best > 0}
            found = [person(part, usable) for part in people.values()]
            out += doubts([p for p in found if p is not None], faces, source_of, embedder, self._rules())
        return out

    def _rules(self) -> Rules:
        s = self._settings
        return Rules(s.max_distance, s.max_distance_across, s.min_quality, s.voice_one, s.voice_two, s.n_neighbours)

    def _how(self, face: Face | None) -> str:
        if face is None:
            return _ALONE
        return _POOR if face.best < max(self._settings.min_quality, 1e-9) else _NAME


def _doubt_row(doubt: Doubt, names: Mapping[str, str]) -> DoubtfulMergeRow:
    """Return the DOUBTFUL_MERGES row of a pair; `names` is the person of each track."""
    return DoubtfulMergeRow(
        identity_id=names[doubt.a],
        other_identity_id=names[doubt.b],
        track_id=doubt.a,
        other_track_id=doubt.b,
        across_sources=doubt.across,
        distance=doubt.distance,
        limit=doubt.limit,
        voices=doubt.voices,
        why=doubt.why,
        annotator=_NAME,
    )


def tracks_apart(tracks: Iterable[TrackRow], min_overlap_s: float) -> dict[str, set[str]]:
    """Return, for each track, the tracks of its shot that are seen at the same time: certainly other people."""
    by_shot: dict[str, list[TrackRow]] = defaultdict(list)
    for track in tracks:
        by_shot[track.shot_id].append(track)
    apart: dict[str, set[str]] = defaultdict(set)
    for group in by_shot.values():
        group.sort(key=lambda r: (r.start_s, r.track_id))
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                if b.start_s >= a.end_s:
                    break
                shared = Interval(a.start_s, a.end_s).overlap_s(Interval(b.start_s, b.end_s))
                if shared > min_overlap_s:
                    apart[a.track_id].add(b.track_id)
                    apart[b.track_id].add(a.track_id)
    return apart
