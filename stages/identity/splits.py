"""Splits that no person crosses and that never change: each source is dealt once, by seconds, and stays.

Sources that share a person, a session or a copied recording belong together. A source with kept clips that shares
something with one split joins it; sources that share nothing with any are dealt group by group, so that the seconds of
kept clips come near the wanted shares. What cannot be put anywhere without a leak is withheld from all splits: a new
source that shares people with two splits, and, where sources of different splits turn out to share a person, those of
the split with fewer seconds of it. So no clip ever moves from one split to another: neither into train after it was a
test, nor into test after something was trained on it. Linear in the number of (person, source) pairs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from schemas.tables.people import SplitRow, SplitShareRow
from stages.identity.groups import Groups

SPLITS = ("train", "val", "test")

GENEROUS = 0.15
"""Share of all seconds that a group may hold to be given to a wanted split that would stay empty: a held-out set of one
group is worth that much training footage, not more."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What is said of a source: its split for good (None = none yet), and whether it is in force."""

    split: str | None = None
    withheld: bool = False
    why: str | None = None
    group_id: str = ""

    @property
    def in_force(self) -> str | None:
        """The split that its clips are in now."""
        return None if self.withheld else self.split


def shares_of(val: float, test: float) -> dict[str, float]:
    """Return the wanted share of each split; train has the rest. Raises ValueError."""
    if val < 0 or test < 0 or val + test > 1:
        raise ValueError(f"split shares must be at least 0 and sum to at most 1, got val {val}, test {test}")
    return {"train": max(0.0, 1 - val - test), "val": val, "test": test}


def deal(
    kept_s: Mapping[str, float], hubs: Mapping[str, Iterable[str]], before: Mapping[str, Dealt],
    shares: Mapping[str, float], seed: str = "",
) -> dict[str, Dealt]:  # fmt: skip
    """Return what is said of every source that was dealt before or has kept clips now.

    Args:
        kept_s: seconds of kept clips by source; others have none.
        hubs: what sources share (a name that people understand) -> the sources that share it.
        before: what was said the last time; a split in it never changes.
        shares: wanted share of each split.
        seed: changes who falls into which split where that is open.
    """
    given = {s: d.split for s, d in before.items() if d.split is not None}
    nodes = given.keys() | {s for s, seconds in kept_s.items() if seconds > 0}
    table = _Table(nodes, hubs)
    for source in sorted(given):
        if not before[source].withheld:
            table.put(source, given[source])
    _withhold(table, kept_s)
    for source in sorted(given.keys() - table.split.keys()):
        if not table.near(source) - {given[source]}:
            table.put(source, given[source])
    open_ = _follow(table, sorted(nodes - given.keys()))
    _share_out(table, open_, kept_s, shares, seed)
    names = _group_ids(table, nodes, before)
    out = {}
    for s in sorted(nodes):
        split, held = given.get(s, table.split.get(s)), s not in table.split
        why = table.reason(s, table.near(s) - {split}) if held else None
        out[s] = Dealt(split, held, why, names[s])
    return out


class _Table:
    """The sources that are in a split now, and the splits in force among those that share something."""

    def __init__(self, nodes: Iterable[str], hubs: Mapping[str, Iterable[str]]) -> None:
        known = set(nodes)
        self.hubs = {name: sorted(known & set(sources)) for name, sources in sorted(hubs.items())}
        self.of: dict[str, list[str]] = defaultdict(list)
        for name, sources in self.hubs.items():
            for source in sources:
                self.of[source].append(name)
        self.split: dict[str, str] = {}
        self._splits: dict[str, Counter[str]] = defaultdict(Counter)

    def put(self, source: str, split: str) -> None:
        self.split[source] = split
        for hub in self.of[source]:
            self._splits[hub][split] += 1

    def take(self, source: str) -> None:
        split = self.split.pop(source)
        for hub in self.of[source]:
            self._splits[hub][split] -= 1

    def at(self, hub: str) -> set[str]:
        return {split for split, n in self._splits[hub].items() if n > 0}

    def near(self, source: str) -> set[str]:
        """Return the splits of the sources that share something with this one."""
        return set().union(*(self.at(hub) for hub in self.of[source]))

    def reason(self, source: str, splits: Collection[str | None]) -> str:
        return "; ".join(
            f"shares {hub} with {' and '.join(sorted(self.at(hub).intersection(splits)))}"
            for hub in self.of[source]
            if self.at(hub).intersection(splits)
        )


def _withhold(table: _Table, kept_s: Mapping[str, float]) -> None:
    """Where sources of different splits share something, leave the split with most seconds of it, withhold the rest."""
    for hub, sources in table.hubs.items():
        if len(table.at(hub)) < 2:
            continue
        seconds: dict[str, float] = defaultdict(float)
        here = [s for s in sources if s in table.split]
        for s in here:
            seconds[table.split[s]] += kept_s.get(s, 0.0)
        stays = max(seconds, key=lambda split: (seconds[split], SPLITS.index(split)))
        for s in here:
            if table.split[s] != stays:
                table.take(s)


def _follow(table: _Table, new: list[str]) -> list[str]:
    """Put new sources into the one split they share something with; return those that share nothing with any."""
    left, changed = new, True
    while changed:
        changed, still = False, []
        for source in left:
            near = table.near(source)
            if len(near) == 1:
                table.put(source, near.pop())
                changed = True
            elif not near:
                still.append(source)
        left = still
    return left


def _share_out(
    table: _Table, open_: list[str], kept_s: Mapping[str, float], shares: Mapping[str, float], seed: str
) -> None:
    """Deal groups of sources that nobody holds yet: those too large for a small split first, the rest by hash."""
    groups = Groups()
    free = set(open_)
    for sources in table.hubs.values():
        members = [s for s in sources if s in free]
        for other in members[1:]:
            groups.join(members[0], other)
    size: dict[str, float] = defaultdict(float)
    for s in open_:
        size[groups.smallest(s)] += kept_s.get(s, 0.0)
    have: dict[str, float] = dict.fromkeys(SPLITS, 0.0)
    for s, split in table.split.items():
        have[split] += kept_s.get(s, 0.0)
    chosen = balance(size, have, shares, seed)
    for s in open_:
        table.put(s, chosen[groups.smallest(s)])


def balance(
    size: Mapping[str, float], have: Mapping[str, float], shares: Mapping[str, float], seed: str
) -> dict[str, str]:
    """Return the split of each group, so that the seconds in the splits come near the wanted shares.

    Args:
        size: seconds of each group.
        have: seconds that the splits hold already.
        shares: wanted share of each split.
        seed: changes the order of groups.
    """
    total = sum(size.values()) + sum(have.values())
    want = {split: shares[split] * total for split in SPLITS}
    wanted = [split for split in SPLITS if shares[split] > 0]
    least = min(want[split] for split in wanted)
    now = dict(have)
    out: dict[str, str] = {}

    def order(group: str) -> tuple[float, bytes]:
        # In order of size alone the small splits would get the smallest groups only.
        return (-size[group] if size[group] > least else 0.0, hashlib.sha256(f"{seed}:{group}".encode()).digest())

    for group in sorted(size, key=order):
        out[group] = max(wanted, key=lambda split: (want[split] - now[split], -SPLITS.index(split)))
        now[out[group]] += size[group]
    full = Counter({split: 1 for split in SPLITS if have[split] > 0})
    full.update(out.values())
    for split in ("val", "test"):
        if shares[split] <= 0 or full[split]:
            continue
        spare = [g for g in out if full[out[g]] > 1 and size[g] <= GENEROUS * total]
        if spare:
            group = min(spare, key=lambda g: (size[g], order(g)))
            full[out[group]] -= 1
            out[group] = split
            full[split] += 1
    return out


def _group_ids(table: _Table, nodes: Iterable[str], before: Mapping[str, Dealt]) -> dict[str, str]:
    """Name each group of sources in force after the smallest name in it, or after its smallest source."""
    groups = Groups()
    for sources in table.hubs.values():
        members = [s for s in sources if s in table.split]
        for other in members[1:]:
            groups.join(members[0], other)
    members_of: dict[str, list[str]] = defaultdict(list)
    for s in nodes:
        members_of[groups.smallest(s)].append(s)
    out, taken = {}, {d.group_id for d in before.values()}
    for smallest, members in sorted(members_of.items()):
        old = sorted(before[s].group_id for s in members if s in before)
        # A group that lost its smallest source goes on under that source's name.
        fresh = next(name for name in (group_name(smallest + "+" * n) for n in itertools.count()) if name not in taken)
        for s in members:
            out[s] = old[0] if old else fresh
    return out


def group_name(source_id: str) -> str:
    """Return the name of a group by its smallest source; a hash, so that it may outlive that source."""
    return "g-" + hashlib.sha256(source_id.encode()).hexdigest()[:12]


def share_rows(
    dealt: Mapping[str, Dealt], kept_s: Mapping[str, float], shares: Mapping[str, float]
) -> list[SplitShareRow]:
    """Return what each split holds beside what it should; withheld clips too, where there are any."""
    total = sum(kept_s.values())
    rows = []
    for split in (*SPLITS, "withheld"):
        mine = [s for s, d in dealt.items() if (d.in_force or "withheld") == split and kept_s.get(s, 0.0) > 0]
        seconds = sum(kept_s[s] for s in mine)
        if split == "withheld" and not mine:
            continue
        rows.append(
            SplitShareRow(
                split=split,
                wanted=shares.get(split, 0.0),
                share=seconds / total if total else 0.0,
                kept_s=seconds,
                n_sources=len(mine),
                n_groups=len({dealt[s].group_id for s in mine}),
            )
        )
    return rows


def dealt_before(rows: Iterable[SplitRow], seed: str) -> dict[str, Dealt]:
    """Return what table rows say, as far as they were dealt under this seed."""
    return {
        r.source_id: Dealt(r.split, r.withheld, r.why, r.group_id)
        for r in rows
        if r.seed == seed and r.split is not None
    }
