"""Names of people that last: what each track was called goes into the next clustering, and nobody is renamed.

Under an unchanged measure (stage version, settings, embedder) a remembered name binds: tracks of one name stay
together, tracks of two names apart, and new tracks join a named person or become somebody new. So adding or leaving out
sources renames nobody, by construction. When the measure changes, or a scan cuts other tracks, all is clustered freely
and names are inherited: by the cluster that shares the most seconds with a name's former tracks, each name once. A name
that is left over becomes an alias of the person who has most of its tracks, and is never given to anybody else.
Given its own result as memory this gives the same again, so a run that was killed half-way changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from schemas.tables.people import IdentityAliasRow, IdentityRegistryRow
from schemas.tables.tracks import TrackRow
from stages.identity.anchors import Anchors
from stages.identity.clustering import Cluster


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of the tracks that are here now."""

    names: dict[str, str] = field(default_factory=dict)
    """track -> name, where the name binds"""
    people: dict[str, str] = field(default_factory=dict)
    """track -> name after people's decisions, where the name binds"""
    votes: list[tuple[str, str, float]] = field(default_factory=list)
    """(track, name, seconds) where a name is only inherited"""
    absent: list[IdentityRegistryRow] = field(default_factory=list)
    """rows of tracks that are not here, for instance since the policy leaves them out"""
    taken: frozenset[str] = frozenset()
    """names that were ever given"""


def measure_key(version: int, settings: Mapping[str, object], embedders: Iterable[str]) -> str:
    """Return a hash of how people are told apart: another one means that remembered clusters bind no longer."""
    text = json.dumps([version, dict(settings), sorted(embedders)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def remember(
    rows: Iterable[IdentityRegistryRow], aliases: Iterable[IdentityAliasRow], anchors: Anchors, measure: str
) -> Memory:
    """Sort remembered rows into names that bind, names that are inherited, and rows of absent tracks."""
    rows = list(rows)
    same = [r for r in rows if anchors.unchanged(r)]
    here = {r.track_id for r in same}
    out = Memory(taken=frozenset(r.identity_id for r in rows) | {r.alias for r in aliases})
    for r in same:
        if r.measure == measure:
            out.names[r.track_id] = r.identity_id
            out.people[r.track_id] = r.person_id
        else:
            out.votes.append((r.track_id, r.identity_id, r.end_s - r.start_s))
    for r in rows:
        if r.track_id in here and anchors.unchanged(r):
            continue
        found = anchors.find(r, here)
        out.votes.extend((track, r.identity_id, shared) for track, shared in found)
        if not found and r.track_id not in here:
            out.absent.append(r)
    return out


def join_known(faces: Iterable[Cluster], names: Mapping[str, str]) -> tuple[list[Cluster], list[Cluster]]:
    """Return (named, new) clusters: faces whose names bind are joined by name, and carry it."""
    known: dict[str, Cluster] = {}
    new: list[Cluster] = []
    for face in sorted(faces, key=lambda c: min(c.members)):
        name = names.get(min(face.members), "")
        if not name:
            new.append(face)
            continue
        face = replace(face, name=name)
        known[name] = known[name].joined(face) if name in known else face
    return [known[name] for name in sorted(known)], new


def named(
    parts: Collection[frozenset[str]], memory: Memory, seconds: Mapping[str, float]
) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
    """Give every cluster of tracks a name; return (name -> tracks, left-over name -> name of who has its tracks).

    Names that bind come first, then inherited ones by shared seconds, then new ones.
    """
    parts = sorted(parts, key=lambda part: min(part))
    bids: dict[tuple[int, str], float] = defaultdict(float)
    owner = {track: i for i, part in enumerate(parts) for track in part}
    bound = {(owner[track], name) for track, name in memory.names.items() if track in owner}
    for track, name in memory.names.items():
        if track in owner:
            bids[owner[track], name] += seconds[track]
    for track, name, shared in memory.votes:
        if track in owner:
            bids[owner[track], name] += shared
    given: dict[int, str] = {}
    used: set[str] = set()
    for i, name in sorted(bids, key=lambda b: (b not in bound, -bids[b], b[1], b[0])):
        if i not in given and name not in used:
            given[i] = name
            used.add(name)
    taken = set(memory.taken) | used
    for i, part in enumerate(parts):
        if i not in given:
            given[i] = _new_name(part, taken)
            taken.add(given[i])
    heirs: dict[str, tuple[float, str]] = {}
    for (i, name), shared in bids.items():
        if name not in used:
            heirs[name] = max(heirs.get(name, (-1.0, "")), (shared, given[i]))
    return {given[i]: part for i, part in enumerate(parts)}, {name: heir for name, (_, heir) in heirs.items()}


def _new_name(part: frozenset[str], taken: Collection[str]) -> str:
    """Name a person after the smallest of their tracks; where that name was given before, after all of them."""
    tries = [min(part), *(f"{n}:{','.join(sorted(part))}" for n in range(len(taken) + 1))]
    return next(name for name in (_person_name(text) for text in tries) if name not in taken)


def _person_name(text: str) -> str:
    """Return the name `p-<hash>` that a text gives."""
    return "p-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def registry_rows(
    machine: Mapping[str, Collection[str]], people: Mapping[str, str], tracks: Mapping[str, TrackRow], measure: str,
    absent: Iterable[IdentityRegistryRow],
) -> list[IdentityRegistryRow]:  # fmt: skip
    """Return what is to be remembered: a row a track, those that are absent now included.

    Args:
        machine: name by clustering -> tracks.
        people: track -> name after people's decisions.
        tracks: present tracks by id.
        measure: how they were clustered.
        absent: rows of tracks that are not here, kept as they are.
    """
    rows = [
        IdentityRegistryRow(
            track_id=track,
            source_id=tracks[track].source_id,
            identity_id=name,
            person_id=people[track],
            start_s=tracks[track].start_s,
            end_s=tracks[track].end_s,
            center_x=tracks[track].center_x,
            center_y=tracks[track].center_y,
            measure=measure,
        )
        for name, members in machine.items()
        for track in members
    ]
    here = {r.track_id for r in rows}
    return [*rows, *(r for r in absent if r.track_id not in here)]


def alias_rows(
    before: Iterable[IdentityAliasRow],
    heirs: Mapping[str, str],
    lost: Mapping[str, Collection[str]],
    live: Collection[str],
) -> list[IdentityAliasRow]:
    """Return the aliases: remembered and new ones, each leading to a name in use, or to none where that one is gone.

    Args:
        before: rows of the last run.
        heirs: name that went out of use -> name of who has its tracks.
        lost: name that went out of use -> sources in which it was borne; its rows go when those sources do.
        live: names in use.
    """
    heir: dict[str, str | None] = {}
    sources: dict[str, set[str]] = defaultdict(set)
    for r in before:
        heir[r.alias] = r.identity_id
        sources[r.alias].add(r.source_id)
    heir |= heirs
    for name, where in lost.items():
        sources[name] |= set(where)
    out = []
    for alias in sorted(heir.keys() - set(live)):
        target, seen = heir[alias], {alias}
        while target is not None and target not in live and target not in seen:
            seen.add(target)
            target = heir.get(target)
        now = target if target in live else None  # never to be given again, as long as a source knows it
        out += [IdentityAliasRow(alias=alias, source_id=s, identity_id=now) for s in sorted(sources[alias])]
    return out
