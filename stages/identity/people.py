"""From tracks and faces to people with lasting names and splits: what stage `identity` does around its clustering.

Remembered names first, then clustering, then people's decisions over it, then splits. Pure functions on tables' rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.stage import Inputs
from schemas.table import Table
from schemas.tables import (
    DUPLICATES,
    IDENTITIES,
    IDENTITY_ALIASES,
    IDENTITY_DECISIONS,
    IDENTITY_REGISTRY,
    INPUTS,
    SEGMENTS,
    SPLIT_SHARES,
    SPLITS,
)
from schemas.tables.pairing import SegmentRow
from schemas.tables.people import DuplicateRow, IdentityAliasRow, IdentityRow, SplitRow, TrackIdentityRow
from schemas.tables.registry import InputRow
from schemas.tables.tracks import TrackRow
from stages.identity.anchors import Anchors
from stages.identity.clustering import Cluster
from stages.identity.decisions import People, decisions_of, replay
from stages.identity.groups import Groups
from stages.identity.registry import Memory, alias_rows, named, registry_rows, remember
from stages.identity.splits import Dealt, deal, dealt_before, group_name, share_rows, shares_of

MEMORY: tuple[Table, ...] = (IDENTITY_REGISTRY, IDENTITY_ALIASES, SPLITS)
"""What the stage reads of its own last run."""

READS: tuple[Table, ...] = (SEGMENTS, INPUTS, DUPLICATES, IDENTITY_DECISIONS, *MEMORY)

WRITES: tuple[Table, ...] = (IDENTITIES, SPLIT_SHARES, SPLITS, IDENTITY_ALIASES, IDENTITY_REGISTRY)
"""In the order they are written. The registry comes last: until it is there, a run that was killed starts from what the
last one knew."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before clustering."""

    tracks: Mapping[str, TrackRow]
    anchors: Anchors
    memory: Memory
    measure: str
    aliases: Sequence[IdentityAliasRow]


def known_before(inputs: Inputs, tracks: Mapping[str, TrackRow], measure: str) -> Known:
    """Read what the last run remembered of these tracks, as far as the measure is still the same."""
    anchors, aliases = Anchors(tracks.values()), IDENTITY_ALIASES.rows(inputs.read(IDENTITY_ALIASES))
    memory = remember(IDENTITY_REGISTRY.rows(inputs.read(IDENTITY_REGISTRY)), aliases, anchors, measure)
    return Known(tracks, anchors, memory, measure, aliases)


@dataclass(frozen=True, slots=True)
class Named:
    """People with their names, and what is to be remembered of them."""

    people: People
    tables: dict[Table, pa.Table]


def name_people(inputs: Inputs, known: Known, parts: Iterable[Collection[str]], faces: Mapping[str, Cluster]) -> Named:
    """Name clusters of tracks, lay people's decisions over them, and remember both."""
    tracks, memory = known.tracks, known.memory
    seconds = {track: row.duration_s for track, row in tracks.items()}
    machine, left_over = named([frozenset(part) for part in parts], memory, seconds)
    decisions = decisions_of(IDENTITY_DECISIONS.rows(inputs.read(IDENTITY_DECISIONS)))
    people = replay(machine, decisions, known.anchors, seconds, memory.people, _nearer(faces))
    heirs = left_over | people.heirs
    borne: dict[str, set[str]] = defaultdict(set)
    bearers = [(track, name) for name, part in machine.items() for track in part]
    for track, name in [*bearers, *memory.people.items(), *((track, name) for track, name, _ in memory.votes)]:
        if name in heirs:
            borne[name].add(tracks[track].source_id)
    rows = registry_rows(machine, people.of(), tracks, known.measure, memory.absent)
    aliases = alias_rows(known.aliases, heirs, borne, people.parts.keys())
    return Named(
        people,
        {
            IDENTITY_REGISTRY: IDENTITY_REGISTRY.from_rows(rows),
            IDENTITY_ALIASES: IDENTITY_ALIASES.from_rows(aliases),
        },
    )


def _nearer(faces: Mapping[str, Cluster]) -> Callable[[str, Collection[str], Collection[str]], bool]:
    def nearer(track: str, first: Collection[str], second: Collection[str]) -> bool:
        a, b = (person(side, faces) for side in (first, second))
        face = faces.get(track)
        if face is None or a is None or b is None or not face.mean.shape == a.mean.shape == b.mean.shape:
            return False
        return float(np.linalg.norm(face.mean - a.mean)) < float(np.linalg.norm(face.mean - b.mean))

    return nearer


def person(members: Collection[str], faces: Mapping[str, Cluster]) -> Cluster | None:
    """Return the cluster of these tracks' faces; None where none has one.

    Summed in order of track id, so that equal members give equal bits, however they came together.
    """
    seen = [faces[track] for track in sorted(members) if track in faces]
    seen = [face for face in seen if face.mean.shape == seen[0].mean.shape]  # of another embedder: beyond comparison
    if not seen:
        return None
    weights = np.array([face.weight for face in seen])
    means = np.stack([face.mean for face in seen])
    mean = np.average(means, axis=0, weights=weights)
    inner = np.array([face.scatter for face in seen]) + ((means - mean) ** 2).sum(axis=1)
    scatter = float(np.average(inner, weights=weights))
    apart, voices = (frozenset().union(*found) for found in ([f.apart for f in seen], [f.voices for f in seen]))
    return Cluster(
        frozenset().union(*(f.members for f in seen)), float(weights.sum()), np.asarray(mean, np.float64), scatter,
        apart, voices,
    )  # fmt: skip


def split_tables(
    inputs: Inputs,
    parts: Mapping[str, Collection[str]],
    tracks: Mapping[str, TrackRow],
    val: float,
    test: float,
    seed: str,
) -> dict[Table, pa.Table]:
    """Deal the sources and return IDENTITIES, SPLITS and SPLIT_SHARES.

    Args:
        inputs: the stage's inputs; segments are those the policy keeps.
        parts: people: name -> tracks.
        tracks: live tracks by id.
        val: wanted share of the seconds of kept clips.
        test: likewise.
        seed: changes who falls into which split.
    """
    sources = {name: sorted({tracks[t].source_id for t in part}) for name, part in parts.items()}
    hubs: dict[str, list[str]] = {name: where for name, where in sources.items() if len(where) > 1}
    hubs |= _sessions(INPUTS.rows(inputs.read(INPUTS))) | _copies(DUPLICATES.rows(inputs.read(DUPLICATES)))
    kept_s: dict[str, float] = defaultdict(float)
    segments = inputs.read(SEGMENTS)
    for source, length_s in zip(
        SegmentRow.source_id.values(segments), SegmentRow.duration_s.values(segments), strict=True
    ):
        kept_s[source] += length_s
    shares = shares_of(val, test)
    dealt = deal(kept_s, hubs, dealt_before(SPLITS.rows(inputs.read(SPLITS)), seed), shares, seed)
    rows = [
        SplitRow(
            source_id=s,
            split=d.split,
            withheld=d.withheld,
            why=d.why,
            group_id=d.group_id,
            kept_s=kept_s.get(s, 0.0),
            seed=seed,
        )
        for s, d in dealt.items()
    ]
    people = _people(parts, tracks, sources, dealt, _undealt(hubs.values(), dealt))
    return {
        IDENTITIES: IDENTITIES.from_rows(people),
        SPLITS: SPLITS.from_rows(rows),
        SPLIT_SHARES: SPLIT_SHARES.from_rows(share_rows(dealt, kept_s, shares)),
    }


def _undealt(hubs: Iterable[Sequence[str]], dealt: Mapping[str, Dealt]) -> Groups:
    """Return the sources that will be dealt together, among those that are not dealt yet."""
    loose = Groups()
    for where in hubs:
        free = [s for s in where if s not in dealt]
        for other in free[1:]:
            loose.join(free[0], other)
    return loose


def _people(
    parts: Mapping[str, Collection[str]],
    tracks: Mapping[str, TrackRow],
    sources: Mapping[str, Sequence[str]],
    dealt: Mapping[str, Dealt],
    loose: Groups,
) -> list[IdentityRow]:
    people = []
    for name, part in parts.items():
        in_force = [s for s in sources[name] if s in dealt and dealt[s].in_force]
        first = in_force[0] if in_force else sources[name][0]
        people.append(
            IdentityRow(
                identity_id=name,
                n_tracks=len(part),
                n_sources=len(sources[name]),
                seen_s=float(sum(tracks[t].duration_s for t in sorted(part))),
                split=dealt[first].in_force if in_force else None,
                group_id=dealt[first].group_id if first in dealt else group_name(loose.smallest(first)),
            )
        )
    return people


def _sessions(inputs: Sequence[InputRow]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = defaultdict(list)
    for r in inputs:
        if r.session is not None:
            out[f"session {r.session}"].append(str(r.source_id))
    return out


def _copies(duplicates: Sequence[DuplicateRow]) -> dict[str, list[str]]:
    # The hash, as what stands in a source's row must not name another source, which may be forgotten some day.
    out: dict[str, list[str]] = defaultdict(list)
    for r in duplicates:
        if r.near_duplicate_of is not None:
            name = f"recording {group_name(r.near_duplicate_of)}"
            out[name] = [*(out[name] or [r.near_duplicate_of]), r.source_id]
    return out


def person_rows(
    people: People,
    tracks: Mapping[str, TrackRow],
    faces: Mapping[str, Cluster],
    how: Callable[[str], str],
    by_hand: str,
) -> list[TrackIdentityRow]:
    """Return TRACK_IDENTITIES rows.

    Args:
        people: who is who.
        tracks: live tracks by id.
        faces: tracks' faces.
        how: names what put a track with its person, where no decision did.
        by_hand: the name for where one did.
    """
    rows = []
    for name, part in people.parts.items():
        whole = person(part, faces)
        for track in sorted(part):
            gap = None
            if whole is not None and track in faces and faces[track].mean.shape == whole.mean.shape:
                gap = float(np.linalg.norm(faces[track].mean - whole.mean))
            rows.append(
                TrackIdentityRow(
                    track_id=track,
                    source_id=tracks[track].source_id,
                    identity_id=name,
                    distance=gap,
                    annotator=by_hand if track in people.touched else how(track),
                )
            )
    return rows
