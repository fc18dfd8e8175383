"""The units that policies decide on, and the SQL view a rule sees for each.

Hierarchy: a source has shots, a shot has tracks, a track has segments. A unit's view is its own table, its
companion tables (same key, measured by other stages), and its parents' columns prefixed `source_`, `shot_`, `track_`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas import columns as c
from schemas import tables as t
from schemas.column import Column
from schemas.row import Row
from schemas.settings.policy import UnitKind
from schemas.table import Table


@dataclass(frozen=True, slots=True)
class Unit:
    """One kind of unit: its table, id column, parent kind, and companion tables joined on the id."""

    kind: UnitKind
    table: Table
    id: str
    parent: UnitKind | None
    prefix: str
    companions: tuple[Table, ...]


class RightsRow(Row):
    """Rights of a source, joined from the inputs (the first path given for it)."""

    source_id: Column[str] = c.source_id()
    license: Column[str | None] = c.text("licence identifier from the sidecar or list; null = unknown", null=True)
    rights_holder: Column[str | None] = c.text("who holds the rights", null=True)
    consent: Column[str | None] = c.text("consent record of the people shown, as given", null=True)


RIGHTS = Table(RightsRow, "rights", (RightsRow.source_id,))

UNITS: dict[UnitKind, Unit] = {
    "sources": Unit("sources", t.SOURCES, "source_id", None, "source_", (RIGHTS, t.AUDIO, t.TURN_TAKING, t.DUPLICATES)),
    "shots": Unit("shots", t.SHOTS, "shot_id", "sources", "shot_", ()),
    "tracks": Unit("tracks", t.TRACKS, "track_id", "shots", "track_", (t.SYNC,)),
    "segments": Unit(
        "segments",
        t.SEGMENTS,
        "segment_id",
        "tracks",
        "segment_",
        (t.CLIP_PLANS, t.BODIES, t.CAPTIONS, t.CLIP_SCORES, t.CLIPS, t.SESSION_PAIRS, t.NEAR_CLIPS, t.VERDICTS),
    ),
}
"""Parents before children."""

ACROSS = frozenset(table for table in UNITS["segments"].companions if table.grain == "dataset")
"""What is found of segments across sources, after all stages of each: it decides in the ledger, never on the way."""


def chain(kind: UnitKind) -> list[UnitKind]:
    """Return a kind of unit and the kinds above it, outermost first."""
    kinds = list(UNITS)
    return kinds[: kinds.index(kind) + 1]


def packed_columns() -> Iterator[tuple[Unit, Table, Column[Any]]]:
    """Yield the columns that are marked as packed, each with its table and the unit that this belongs to."""
    for unit in reversed(UNITS.values()):
        for table in (unit.table, *unit.companions):
            for column in table.columns:
                if column.packed is not None:
                    yield unit, table, column


def view_columns(kind: UnitKind) -> dict[str, tuple[Table, Column[Any], str]]:
    """Map each column of a unit's view to (table it comes from, column, alias prefix of the owner's join).

    Own columns keep their names; a companion's column that repeats a name is left out; parents' get prefixes.
    """
    unit = UNITS[kind]
    out: dict[str, tuple[Table, Column[Any], str]] = {}
    for table in (unit.table, *unit.companions):
        for column in table.columns:
            out.setdefault(column.name, (table, column, ""))
    parent = unit.parent
    while parent is not None:
        up = UNITS[parent]
        for table in (up.table, *up.companions):
            for column in table.columns:
                if column.name not in {u.id for u in UNITS.values()}:
                    out.setdefault(up.prefix + column.name, (table, column, up.prefix))
        parent = up.parent
    return out
