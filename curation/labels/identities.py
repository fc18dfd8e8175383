"""People's decisions about who is who: kept beside what the machine found, used by the next run.

A decision holds the tracks it is about with their times and places, so it outlives re-runs and new scans. All or
nothing, under the dataset's lock. Nothing of the machine's is overwritten, so taking a decision back brings back what
was. Where two decisions disagree the later holds, and says which earlier ones it overrules.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from curation.dataset import Dataset
from curation.storage.store import table_file
from schemas import tables as t
from schemas.tables.labels import IdentityDecisionRow
from schemas.tables.people import IdentityRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval


class IdentityError(ValueError):
    """A decision that cannot be taken; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as it was stored: its id, its kind, and the name that the person keeps or gets."""

    decision_id: str
    kind: str
    name: str
    tracks: tuple[int, int]
    """how many tracks each side has"""
    overrules: tuple[str, ...] = ()
    """earlier decisions that said otherwise of the same tracks"""


def present_name(dataset: Dataset, name: str) -> str:
    """Return the name that a person bears now: itself, or what an old name leads to."""
    for r in t.IDENTITY_ALIASES.rows(dataset.table(t.IDENTITY_ALIASES)):
        if r.alias == name and r.identity_id is not None:
            return r.identity_id
    return name


@dataclass(frozen=True, slots=True)
class Person:
    """A person with their tracks, sources (file names) and former names."""

    row: IdentityRow
    tracks: list[str]
    sources: list[str]
    aliases: list[str]


def listing(dataset: Dataset) -> list[Person]:
    """Return people, most seconds first."""
    names = {r.source_id: r.name for r in reversed(t.INPUTS.rows(dataset.table(t.INPUTS)))}
    tracks, sources, aliases = defaultdict(list), defaultdict(set), defaultdict(set)
    for member in t.TRACK_IDENTITIES.rows(dataset.table(t.TRACK_IDENTITIES)):
        tracks[member.identity_id].append(member.track_id)
        sources[member.identity_id].add(names.get(member.source_id, member.source_id))
    for alias in t.IDENTITY_ALIASES.rows(dataset.table(t.IDENTITY_ALIASES)):
        if alias.identity_id is not None:
            aliases[alias.identity_id].add(alias.alias)
    people = sorted(t.IDENTITIES.rows(dataset.table(t.IDENTITIES)), key=lambda r: (-r.seen_s, r.identity_id))
    return [
        Person(r, sorted(tracks[r.identity_id]), sorted(sources[r.identity_id]), sorted(aliases[r.identity_id]))
        for r in people
    ]


def decisions(dataset: Dataset) -> list[Decided]:
    """Return all decisions, oldest first."""
    rows: dict[tuple[str, str], list[IdentityDecisionRow]] = defaultdict(list)
    for r in _decision_rows(dataset):
        rows[r.decided_at, r.decision_id].append(r)
    out = []
    for (_, name), found in sorted(rows.items()):
        n = Counter(r.side for r in found)
        out.append(Decided(name, found[0].kind, found[0].identity_id, (n["a"], n["b"])))
    return out


def members(dataset: Dataset, name: str) -> set[str]:
    """Return the tracks of a person, by present or former name. Raises IdentityError."""
    people: dict[str, set[str]] = defaultdict(set)
    for r in t.TRACK_IDENTITIES.rows(dataset.table(t.TRACK_IDENTITIES)):
        people[r.identity_id].add(r.track_id)
    found = people.get(present_name(dataset, name))
    if found:
        return found
    near = difflib.get_close_matches(name, people, 1)
    hint = f"did you mean {near[0]!r}?" if near else "`lpm identities list DATASET` shows who is there"
    raise IdentityError(f"no identity {name!r}; {hint}")


@dataclass(frozen=True, slots=True)
class Together:
    """Two tracks that are in view at the same time."""

    a: str
    b: str
    span: Interval


def _seen_together(dataset: Dataset, a: Collection[str], b: Collection[str], min_overlap_s: float) -> list[Together]:
    """Return pairs of tracks, one of each side, that are in view at the same time in one shot."""
    tracks = _tracks(dataset)
    by_shot: dict[str, list[TrackRow]] = defaultdict(list)
    for i in b:
        by_shot[tracks[i].shot_id].append(tracks[i])
    out = []
    for first in (tracks[i] for i in sorted(a)):
        for second in sorted(by_shot[first.shot_id], key=lambda r: r.track_id):
            start, end = max(first.start_s, second.start_s), min(first.end_s, second.end_s)
            if end - start > min_overlap_s:
                out.append(Together(first.track_id, second.track_id, Interval(start, end)))
    return out


def merge(
    dataset: Dataset, first: str, second: str, author: str, note: str | None = None, *, min_overlap_s: float = 0.2,
    force: bool = False,
) -> Decided:  # fmt: skip
    """Decide that two people are one; the one seen longer keeps the name. The caller holds the dataset's lock.

    Raises:
        IdentityError: an unknown name, one person under both names, or both in view at the same time and no `force`.
    """
    a, b = members(dataset, first), members(dataset, second)
    if a == b:
        raise IdentityError(f"{first} and {second} are one person already")
    together = _seen_together(dataset, a, b, min_overlap_s)
    if together and not force:
        p = together[0]
        raise IdentityError(
            f"{first} and {second} are in view at the same time: tracks {p.a} and {p.b}, "
            f"{p.span.start_s:.2f}-{p.span.end_s:.2f} s, and {len(together) - 1} more such pairs. If one of the tracks "
            "is somebody else, take it out first (`lpm identities split`); --force merges them all the same"
        )
    seen = {i: r.duration_s for i, r in _tracks(dataset).items()}
    names = [present_name(dataset, n) for n in (first, second)]
    length = [sum(seen[i] for i in side) for side in (a, b)]
    name = min(zip(names, length, strict=True), key=lambda x: (-x[1], x[0]))[0]
    return _store(dataset, "merge", name, a, b, author, note)


def split(dataset: Dataset, name: str, moved: Collection[str], author: str, note: str | None = None) -> Decided:
    """Decide that some of a person's tracks are somebody else, one new person. The caller holds the dataset's lock.

    Raises:
        IdentityError: an unknown name, tracks that are not this person's, or none left.
    """
    whole, chosen = members(dataset, name), set(moved)
    strange = sorted(chosen - whole)
    if strange:
        raise IdentityError(f"{strange[0]} is no track of {name}; it has {', '.join(sorted(whole)[:20])}")
    if not chosen or chosen == whole:
        which = "no track of them is" if not chosen else "all tracks of them are"
        raise IdentityError(f"{which} named, so nobody is split off from {name}")
    return _store(dataset, "split", "", whole - chosen, chosen, author, note)


def tracks_of_sources(dataset: Dataset, name: str, sources: Iterable[str]) -> set[str]:
    """Return a person's tracks in sources given by id or file name. Raises IdentityError."""
    inputs = t.INPUTS.rows(dataset.table(t.INPUTS))
    ids: set[str] = set()
    for source in sources:
        found = {r.source_id for r in inputs if source in (r.source_id, r.name)}
        if len(found) != 1:
            how = "several sources have this name: use the id" if found else "no such source"
            query = 'lpm query DATASET "SELECT source_id, name FROM inputs"'
            raise IdentityError(f"{source!r}: {how}; `{query}` lists them")
        ids |= found
    of = {r.track_id: r.source_id for r in t.TRACK_IDENTITIES.rows(dataset.table(t.TRACK_IDENTITIES))}
    return {i for i in members(dataset, name) if of[i] in ids}


def undo(dataset: Dataset, decision_id: str | None = None) -> Decided:
    """Take a decision back, the newest where none is named. The caller holds the dataset's lock.

    Raises:
        IdentityError: there is no such decision.
    """
    known = decisions(dataset)
    gone = [d for d in known if decision_id in (None, d.decision_id)][-1:]
    if not gone:
        what = f"no decision {decision_id!r}" if known else "nothing was decided"
        raise IdentityError(f"{what}; `lpm identities decisions DATASET` lists what was")
    _write(dataset, [r for r in _decision_rows(dataset) if r.decision_id != gone[0].decision_id])
    return gone[0]


def decision_of(dataset: Dataset, author: str, at: str) -> str | None:
    """Return the id of what an author decided at a moment; None where there is none."""
    rows = _decision_rows(dataset)
    return next((r.decision_id for r in rows if (r.author, r.decided_at) == (author, at)), None)


def min_overlap_s(dataset: Dataset) -> float:
    """Return from how many seconds in view together the dataset's own runs take two tracks for two people."""
    stored = dataset.store.read_json("workflow.json") or {}
    stages = stored.get("pipeline", {}).get("stages", {}).values()
    return float(next((s["settings"]["min_overlap_s"] for s in stages if "min_overlap_s" in s["settings"]), 0.2))


def _store(dataset: Dataset, kind: str, name: str, a: set[str], b: set[str], author: str, note: str | None) -> Decided:
    if not author.strip():
        raise IdentityError("--author is empty; name who decides")
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    said = "\0".join((kind, name, *sorted(a), "", *sorted(b), author, at))
    digest = hashlib.sha256(said.encode()).hexdigest()
    decision_id, name = digest[:12], name or f"p-{digest[12:24]}"
    rows, tracks = _decision_rows(dataset), _tracks(dataset)
    overruled = _overruled(rows, kind, a, b)
    new = [
        IdentityDecisionRow(
            decision_id=decision_id,
            kind=kind,
            side=side,
            track_id=track.track_id,
            source_id=track.source_id,
            start_s=track.start_s,
            end_s=track.end_s,
            center_x=track.center_x,
            center_y=track.center_y,
            identity_id=name,
            author=author.strip(),
            note=note,
            decided_at=at,
        )
        for side, ids in (("a", a), ("b", b))
        for track in (tracks[i] for i in sorted(ids))
    ]
    _write(dataset, [*rows, *new])
    return Decided(decision_id, kind, name, (len(a), len(b)), overruled)


def _overruled(rows: list[IdentityDecisionRow], kind: str, a: set[str], b: set[str]) -> tuple[str, ...]:
    """Return decisions of the other kind that a new one contradicts."""
    sides: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"a": set(), "b": set()})
    for r in rows:
        if r.kind != kind:
            sides[r.decision_id][r.side].add(r.track_id)
    new = a | b
    out = []
    for name, old in sides.items():
        # A merge joins what was split where it has tracks of both sides; a split parts what was merged likewise.
        apart, together = ((old["a"], old["b"]), new) if kind == "merge" else ((a, b), old["a"] | old["b"])
        if all(side & together for side in apart):
            out.append(name)
    return tuple(sorted(out))


def _tracks(dataset: Dataset) -> dict[str, TrackRow]:
    return {r.track_id: r for r in t.TRACKS.rows(dataset.table(t.TRACKS))}


def _decision_rows(dataset: Dataset) -> list[IdentityDecisionRow]:
    return t.IDENTITY_DECISIONS.rows(dataset.table(t.IDENTITY_DECISIONS))


def _write(dataset: Dataset, rows: list[IdentityDecisionRow]) -> None:
    table = t.IDENTITY_DECISIONS.from_rows(rows)
    dataset.store.write_table(table_file(t.IDENTITY_DECISIONS), t.IDENTITY_DECISIONS, table)
    dataset.write_catalog()
