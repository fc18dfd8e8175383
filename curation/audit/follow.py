"""Which unit of the dataset as it is now a verdict is about, though a later run moved its borders or renamed it.

A verdict on a source follows the source. Any other follows the unit of the same kind and source that shares more than
half of their common time with it (overlap / union > 0.5) and, for tracks and segments, shows the same person: the same
track, or a track whose face lies within 0.15 of the picture of where it lay. Units of one person do not overlap, so
there is one at most; of several people's the nearest face counts. A verdict that finds none counts for nothing until
one is there again; it is never thrown away.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import duckdb

from curation.dataset import Dataset
from curation.storage.batches import batches
from schemas import tables as t
from schemas.settings.policy import UnitKind
from schemas.tables.audits import AuditRow
from schemas.time import Interval, union_s

NEAR = 0.15
"""A face whose median centre lies within this share of the picture is at the same place; human labels say the same."""

SOURCES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Present:
    """A unit as the dataset has it now, and what it claims of it."""

    unit: str
    unit_id: str
    source_id: str
    track_id: str | None
    span: Interval
    place: tuple[float, float] | None
    outcome: str
    rule: str | None
    state: str | None = None
    claims: dict[str, object] = field(default_factory=dict)
    """by aspect: person, cut, caption, reference, crop; null where the dataset claims nothing"""

    @property
    def claimed(self) -> str:
        """The claims as an audit keeps them."""
        return json.dumps(self.claims, sort_keys=True, ensure_ascii=False)


_TABLES = (
    t.SOURCES, t.SHOTS, t.TRACKS, t.SEGMENTS, t.DECISIONS, t.TRACK_IDENTITIES, t.CAPTIONS, t.CLIP_PLANS, t.REFERENCES,
)  # fmt: skip

_UNITS: dict[UnitKind, str] = {
    "sources": (
        "SELECT d.unit_id, d.source_id, NULL, 0, d.duration_s, NULL, NULL, d.outcome, d.rule, NULL, NULL, NULL, NULL, "
        "NULL FROM decisions d WHERE d.unit = 'sources'"
    ),
    "shots": (
        "SELECT u.shot_id, u.source_id, NULL, u.start_s, u.end_s, NULL, NULL, d.outcome, d.rule, NULL, NULL, NULL, "
        "NULL, NULL FROM shots u JOIN decisions d ON d.unit = 'shots' AND d.unit_id = u.shot_id"
    ),
    "tracks": (
        "SELECT u.track_id, u.source_id, u.track_id, u.start_s, u.end_s, u.center_x, u.center_y, d.outcome, d.rule, "
        "NULL, i.identity_id, NULL, NULL, NULL FROM tracks u "
        "JOIN decisions d ON d.unit = 'tracks' AND d.unit_id = u.track_id "
        "LEFT JOIN track_identities i ON i.track_id = u.track_id"
    ),
    "segments": (
        "SELECT u.segment_id, u.source_id, u.track_id, u.start_s, u.end_s, k.center_x, k.center_y, d.outcome, d.rule, "
        "u.state, i.identity_id, c.caption, r.pictures, [p.crop_x, p.crop_y, p.crop_w, p.crop_h] FROM segments u "
        "JOIN decisions d ON d.unit = 'segments' AND d.unit_id = u.segment_id "
        "LEFT JOIN tracks k ON k.track_id = u.track_id LEFT JOIN track_identities i ON i.track_id = u.track_id "
        "LEFT JOIN captions c ON c.segment_id = u.segment_id LEFT JOIN clip_plans p ON p.segment_id = u.segment_id "
        "LEFT JOIN (SELECT segment_id, list(ref_track_id || ' ' || ref_k ORDER BY kind, n) AS pictures "
        'FROM "references" GROUP BY 1) r ON r.segment_id = u.segment_id'
    ),
}


def present(dataset: Dataset, sources: Collection[str], kinds: Iterable[UnitKind] = tuple(_UNITS)) -> list[Present]:
    """Return the units of some sources as they are now."""
    con = dataset.connect(tables=_TABLES, sources=sources)
    return [_unit(kind, row) for kind in kinds for row in con.execute(_UNITS[kind]).fetchall()]


def one(dataset: Dataset, kind: UnitKind, unit_id: str) -> Present | None:
    """Return a unit as it is now, None where there is none of this id."""
    con: duckdb.DuckDBPyConnection = dataset.connect(tables=_TABLES, sources=[unit_id[:16]])
    column = "d.unit_id" if kind == "sources" else f"u.{kind[:-1]}_id"
    where = "AND" if kind == "sources" else "WHERE"
    rows = con.execute(f"{_UNITS[kind]} {where} {column} = ?", [unit_id]).fetchall()
    return _unit(kind, rows[0]) if rows else None


def _unit(kind: UnitKind, row: tuple[object, ...]) -> Present:
    unit_id, source_id, track_id, start, end, x, y, outcome, rule, state, person, caption, pictures, crop = row
    start_s, end_s = float(str(start)), float(str(end))
    claims: dict[str, object] = {}
    if kind in ("tracks", "segments"):
        claims = {"person": person, "cut": [round(start_s, 3), round(end_s, 3)]}
    if kind == "segments":
        known = isinstance(crop, list) and None not in crop
        claims |= {
            "caption": caption, "reference": pictures,
            "crop": [round(float(v), 1) for v in crop] if known and isinstance(crop, list) else None,
        }  # fmt: skip
    return Present(
        unit=kind, unit_id=str(unit_id), source_id=str(source_id),
        track_id=track_id if isinstance(track_id, str) else None,
        span=Interval(start_s, max(start_s, end_s)),
        place=None if x is None or y is None else (float(str(x)), float(str(y))),
        outcome=str(outcome), rule=None if rule is None else str(rule), state=None if state is None else str(state),
        claims=claims,
    )  # fmt: skip


def follow(row: AuditRow, units: Iterable[Present]) -> Present | None:
    """Return the unit that a verdict is about now; see the module's description."""
    best: tuple[float, float, Present] | None = None
    span = Interval(row.start_s, max(row.start_s, row.end_s))
    for u in units:
        if (u.unit, u.source_id) != (row.unit, row.source_id):
            continue
        if u.unit == "sources":
            return u
        away = _away(row, u)
        together = union_s([span, u.span])
        shared = span.overlap_s(u.span) / together if together else 0.0
        if away is None or shared <= 0.5:
            continue
        if best is None or (away, -shared) < best[:2]:
            best = (away, -shared, u)
    return None if best is None else best[2]


def _away(row: AuditRow, u: Present) -> float | None:
    """Return how far a unit's face is from where the verdict's was, in shares of the picture; None = another person."""
    if u.track_id is None:
        return 0.0
    if row.center_x is None or row.center_y is None or u.place is None:
        return 0.0 if u.track_id == row.track_id else None
    away = math.hypot(row.center_x - u.place[0], row.center_y - u.place[1])
    if away > NEAR:  # a number of a track that was given anew names somebody else
        return None
    return 0.0 if u.track_id == row.track_id else away


def followed(dataset: Dataset, rows: Iterable[AuditRow]) -> Iterator[tuple[AuditRow, Present | None]]:
    """Yield verdicts with the units that they are about now, a few sources at a time in memory."""
    by_source: dict[str, list[AuditRow]] = defaultdict(list)
    for row in rows:
        by_source[row.source_id].append(row)
    for chunk in batches(((s, 1.0) for s in sorted(by_source)), SOURCES_AT_ONCE):
        units: dict[tuple[str, str], list[Present]] = defaultdict(list)
        for u in present(dataset, chunk):
            units[u.source_id, u.unit].append(u)
        for source_id in chunk:
            for row in by_source[source_id]:
                yield row, follow(row, units[source_id, row.unit])
