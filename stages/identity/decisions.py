"""What people decided about who is who, laid over what clustering found: merges and splits, replayed in order of time.

A decision names tracks by time and place, so it outlives re-runs, new embedders and new scans. Clustering knows nothing
of decisions; taking one back therefore brings back what was. A later decision acts on what the earlier ones made, so
where two disagree the later holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from schemas.tables.labels import IdentityDecisionRow
from stages.identity.anchors import Anchors
from stages.row_traits import Anchored

Nearer = Callable[[str, Collection[str], Collection[str]], bool]
"""(track, first, second) -> whether the track's face is nearer to the first tracks' than to the second's."""


@dataclass(slots=True)
class Decision:
    """One merge or split: its sides as remembered tracks."""

    decision_id: str
    kind: str
    name: str
    a: list[Anchored] = field(default_factory=list)
    b: list[Anchored] = field(default_factory=list)


@dataclass(slots=True)
class People:
    """Who is who after the decisions."""

    parts: dict[str, set[str]]
    """name -> tracks"""
    heirs: dict[str, str] = field(default_factory=dict)
    """name that went out of use -> name of the person it was merged into"""
    touched: set[str] = field(default_factory=set)
    """tracks that a decision put where they are"""
    parted: set[frozenset[str]] = field(default_factory=set)
    """pairs of names that a decision says are two people"""

    def of(self) -> dict[str, str]:
        """Return the name of each track."""
        return {track: name for name, part in self.parts.items() for track in part}


def decisions_of(rows: Iterable[IdentityDecisionRow]) -> list[Decision]:
    """Return the decisions of table rows, oldest first."""
    found: dict[tuple[str, str], Decision] = {}
    for r in sorted(rows, key=lambda r: (r.decided_at, r.decision_id, r.side, r.track_id)):
        key = (r.decided_at, r.decision_id)
        decision = found.setdefault(key, Decision(r.decision_id, r.kind, r.identity_id))
        (decision.a if r.side == "a" else decision.b).append(r)
    return [found[key] for key in sorted(found)]


def replay(
    machine: Mapping[str, Collection[str]], decisions: Iterable[Decision], anchors: Anchors,
    seconds: Mapping[str, float], before: Mapping[str, str], nearer: Nearer,
) -> People:  # fmt: skip
    """Return people after all decisions.

    Args:
        machine: name -> tracks, as clustering found them.
        decisions: oldest first.
        anchors: finds the tracks that a decision is about.
        seconds: length of each track.
        before: track -> the name it had after the last run; a track that came since goes to the nearer side of a split.
        nearer: compares faces.
    """
    people = People({name: set(part) for name, part in machine.items()})
    for decision in decisions:
        a, b = (_present(side, anchors, people) for side in (decision.a, decision.b))
        # Where one side is gone the other keeps the name that the decision gave it.
        if decision.kind == "merge" and a | b:
            _merge(people, decision.name, [a, b - a], seconds)
        elif decision.kind == "split" and b - a:
            _split(people, decision.name, a, b - a, before, nearer)
    return people


def _present(side: Iterable[Anchored], anchors: Anchors, people: People) -> set[str]:
    known = people.of()
    return {track for row in side for track, _ in anchors.find(row) if track in known}


def _merge(people: People, name: str, sides: list[set[str]], seconds: Mapping[str, float]) -> None:
    """Join the two sides: of each the person who has most of it whole, and strays one by one.

    The name is the decision's, unless somebody else bears it by now.
    """
    main: list[str] = []
    for side in sides:
        held: dict[str, float] = defaultdict(float)
        for owner, part in people.parts.items():
            if part & side:
                held[owner] = sum(seconds[track] for track in part & side)
        if held:
            main.append(min(held, key=lambda owner: (-held[owner], owner != name, owner)))
    stray = set().union(*sides).difference(*(people.parts[owner] for owner in main))
    emptied = _take(people, stray)
    kept = name if name in main or name not in people.parts else main[0]
    joined = stray.union(*(people.parts.pop(owner) for owner in dict.fromkeys(main)))
    people.parts[kept] = joined
    for gone in {*main, *emptied} - {kept}:
        people.heirs[gone] = kept
    people.heirs.pop(kept, None)
    people.touched |= set().union(*sides)


def _split(
    people: People, name: str, rest: set[str], moved: set[str], before: Mapping[str, str], nearer: Nearer
) -> None:
    """Make the moved tracks a person of their own; tracks that came since follow the side they resemble."""
    shared = {owner: part for owner, part in people.parts.items() if part & moved}
    joined = set(moved)
    for owner, part in shared.items():
        left = part & rest
        for track in sorted(part - moved - rest):
            known = before.get(track)
            follows = known == name if known in (name, owner) else not left or nearer(track, moved, left)
            if follows:
                joined.add(track)
    _take(people, joined)
    people.parts[name] = joined
    people.touched |= moved
    people.parted |= {frozenset({name, owner}) for owner in shared}


def _take(people: People, tracks: Collection[str]) -> set[str]:
    """Take tracks from whoever has them; return the names of those who have none left."""
    gone = set()
    for owner in list(people.parts):
        people.parts[owner] -= set(tracks)
        if not people.parts[owner]:
            del people.parts[owner]
            gone.add(owner)
    return gone
