"""Everything that the page shows of one unit: where it is, what decided, what was measured, how it can be played.

Reads the tables of its source alone, and of those the rows of its stretch of time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from curation.audit.audits import of_source
from curation.audit.follow import followed
from curation.dataset import Dataset
from curation.labels.corrections import last_run
from curation.report import seen
from curation.report.explain import Explanation, RuleAnswer, UnknownIdError, explain
from curation.report.rows import path_of
from curation.review import lanes
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.table import Table
from schemas.tables.pairing import SegmentRow
from schemas.tables.performance import CaptionRow
from schemas.time import Interval
from schemas.units import UNITS, view_columns

MARGIN_S = 2.0
"""Shown before and after a unit."""
MOST_S = 60.0
"""Of a longer unit this much is shown at once."""


class NotThereError(LookupError):
    """A unit that cannot be shown; the message says what became of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a source that plays, or the words that say why it does not."""

    source: str
    start_s: float
    end_s: float
    missing: str | None = None


def watch(dataset: Dataset, unit_id: str, policy: Policy, author: str, at_s: float | None = None) -> dict[str, object]:
    """Return what is known of a unit as JSON values; `at_s` moves a long unit's window.

    Raises:
        NotThereError: it is not in the dataset, or was forgotten.
    """
    source_id = unit_id[:16]
    _not_forgotten(dataset, source_id)
    try:
        known = explain(dataset, unit_id, policy)
    except UnknownIdError as e:
        raise NotThereError(f"nothing in the dataset has the id {unit_id!r} now; draw the list again") from e
    kind = next(k for k in UNITS if k.removesuffix("s") == known.unit)
    measured = known.measured or {}
    con = dataset.connect(tables=[*lanes.TABLES, *_TABLES], sources=[source_id])
    size = con.execute("SELECT width, height, duration_s FROM sources").fetchall()
    width, height, duration_s = size[0] if size else (0, 0, 0.0)
    own = Interval(_number(measured.get("start_s")), _number(measured.get("end_s"), duration_s))
    span = _window(own, duration_s, at_s)
    track = measured.get("track_id")
    mine = track if isinstance(track, str) else None
    people = seen.faces(con, source_id, span, mine)
    since = last_run(dataset)
    segment = unit_id if kind == "segments" else None
    caption = _caption(con, unit_id, since) if segment else {}
    out: dict[str, object] = {
        "unit": kind, "id": unit_id, "source": source_id, "track": mine, "file": _file(con, source_id),
        "start_s": own.start_s, "end_s": own.end_s, "from_s": span.start_s, "to_s": span.end_s,
        "duration_s": duration_s, "width": width, "height": height,
        "state": measured.get("state"), "state_reason": measured.get("reason"),
        "confidence": measured.get("confidence"),
        "text": measured.get("text"),
        **_judged(kind, known, policy),
        "place": asdict(place(con, source_id, span, bool(size))), "packed": known.sample is not None,
        "faces": [asdict(f) for f in people], "crop": seen.crop_knots(measured.get("crop_path"), own.start_s),
        "overlays": [asdict(o) for o in seen.overlays(con, source_id, span)],
        "cuts": lanes.cuts(con, source_id, span, since),
        "lanes": [asdict(x) for x in lanes.lanes(con, source_id, span, people, segment, since)],
        "caption": caption,
        "references": [
            {"kind": r.kind, "n": r.n, "said": f"{r.kind}: {r.view}, {r.expression}".replace("_", " ")}
            for r in known.references
        ],
        "partner": _partner(dataset, con, measured, own) if segment else None,
        "verdicts": _verdicts(dataset, unit_id, author),
    }  # fmt: skip
    plain = _plain(out)
    assert isinstance(plain, dict)
    return plain


def _judged(kind: str, known: Explanation, policy: Policy) -> dict[str, object]:
    """Return what was measured of a unit, and what the policy, the ledger, stages and people say of it."""
    return {
        "decision": {**dict(known.decision), "said": known.said} if known.decision else None,
        "decided": seen.looked_at(policy, known.decision), "parents": known.parents,
        "rules": [_rule(r) for r in known.rules], "measured": _measured(kind, known.measured or {}),
        "errors": [{"stage": e.stage, "error": e.error, "message": e.message} for e in known.errors],
        "labels": [
            {"state": x.state, "start_s": x.start_s, "end_s": x.end_s, "author": x.author} for x in known.labels
        ],
    }  # fmt: skip


_TABLES: tuple[Table[Any], ...] = (
    t.SOURCES, t.INPUTS, t.CAPTIONS, t.SEGMENTS, t.SESSION_PAIRS, t.SESSIONS, t.MANIFEST, t.CLIP_PLANS,
)  # fmt: skip


def _not_forgotten(dataset: Dataset, source_id: str) -> None:
    sql = "SELECT forgotten_on FROM forgotten WHERE source_id = ?"
    rows = dataset.connect(tables=[t.FORGOTTEN]).execute(sql, [source_id]).fetchall()
    if rows:
        raise NotThereError(f"source {source_id} was forgotten on {rows[0][0]}: nothing of it is left in the dataset")


def place(con: DuckDBPyConnection, source_id: str, span: Interval, measured: bool) -> Place:
    """Say whether a stretch of a source can be played here, and if not, why."""
    missing = None
    path = path_of(con, source_id)
    if path is None:
        missing = "no input names this source any more"
    elif "://" in path:
        missing = None
    elif not Path(path).is_file():
        missing = f"{Path(path).name} is no longer where it was registered, so only packed clips play"
    if missing is None and not measured:
        missing = "the file could not be read, so there is no picture to show; what failed stands below"
    return Place(source_id, span.start_s, span.end_s, missing)


def _file(con: DuckDBPyConnection, source_id: str) -> str:
    rows = con.execute("SELECT name FROM inputs WHERE source_id = ? ORDER BY path LIMIT 1", [source_id]).fetchall()
    return str(rows[0][0]) if rows else source_id


def _window(own: Interval, duration_s: float, at_s: float | None) -> Interval:
    start = max(0.0, own.start_s - MARGIN_S)
    if at_s is not None:
        start = min(max(start, at_s), max(start, own.end_s - 1.0))
    end = min(own.end_s + MARGIN_S, start + MOST_S, duration_s or own.end_s + MARGIN_S)
    return Interval(start, max(start + 0.04, end))


def _number(value: object, other: float = 0.0) -> float:
    return float(value) if isinstance(value, (int, float)) else other


def _rule(r: RuleAnswer) -> dict[str, object]:
    return {
        "id": r.rule, "on": r.on, "step": r.step, "keep": r.keep, "measured": dict(r.measured), "why": r.why,
        "verdict": r.verdict, "thresholds": r.thresholds,
    }  # fmt: skip


def _measured(kind: str, measured: Mapping[str, object]) -> list[dict[str, object]]:
    """Return every measurement with its unit and meaning."""
    view = view_columns(next(k for k in UNITS if k == kind))
    return [
        {"name": name, "value": value, "unit": view[name][1].unit, "doc": view[name][1].doc}
        for name, value in measured.items()
        if name in view and not isinstance(value, (list, bytes))
    ]


def _caption(con: DuckDBPyConnection, segment_id: str, since: str) -> dict[str, object]:
    rows = t.CAPTIONS.rows(con.sql("SELECT * FROM captions WHERE segment_id = ?", params=[segment_id]).to_arrow_table())
    left_out = {str(c) for c in (CaptionRow.segment_id, CaptionRow.source_id, CaptionRow.tags, CaptionRow.annotator)}
    found = {k: v for row in rows for k, v in row if k not in left_out}
    sql = (
        "SELECT l.field, l.value FROM caption_labels l JOIN segments s ON s.track_id = l.track_id "
        "AND abs(s.start_s - l.start_s) < 0.04 AND abs(s.end_s - l.end_s) < 0.04 "
        "WHERE s.segment_id = ? AND l.labelled_at > ? ORDER BY l.labelled_at"
    )
    for field, value in con.execute(sql, [segment_id, since]).fetchall():  # no run has used these yet
        found["caption" if field == "prose" else field] = json.loads(value)
    return {k: v for k, v in found.items() if v not in (None, [], "")}


def _partner(
    dataset: Dataset, con: DuckDBPyConnection, measured: Mapping[str, object], own: Interval
) -> dict[str, object] | None:
    """Return the other person of the exchange: the track, its segment then, and how its clock lies to this one's."""
    other = measured.get("session_partner_track_id") or measured.get("partner_track_id")
    if not isinstance(other, str):
        return None
    source_id, here = other[:16], str(measured[SegmentRow.source_id.name])
    shift_s = 0.0
    if source_id != here:
        clocks = dataset.connect(tables=[t.SESSIONS]).execute(
            "SELECT b.offset_s - a.offset_s FROM sessions a JOIN sessions b ON a.session = b.session "
            "WHERE a.source_id = ? AND b.source_id = ?", [here, source_id],
        ).fetchall()  # fmt: skip
        shift_s = -float(clocks[0][0] or 0.0) if clocks else 0.0
    there = dataset.connect(tables=[t.SEGMENTS, t.MANIFEST, t.INPUTS, t.SOURCES], sources=[source_id])
    span = Interval(max(0.0, own.start_s + shift_s), max(0.04, own.end_s + shift_s))
    rows = there.execute(
        "SELECT s.segment_id, s.state, s.start_s, m.segment_id IS NOT NULL FROM segments s "
        "LEFT JOIN manifest m ON m.segment_id = s.segment_id WHERE s.track_id = ? AND s.start_s < ? AND s.end_s > ? "
        "ORDER BY least(s.end_s, ?) - greatest(s.start_s, ?) DESC LIMIT 1",
        [other, span.end_s, span.start_s, span.end_s, span.start_s],
    ).fetchall()
    segment, state, start_s, packed = rows[0] if rows else (None, None, None, False)
    return {
        "track": other, "segment": segment, "state": state, "packed": packed, "start_s": start_s, "shift_s": shift_s,
        "elsewhere": source_id != here, "file": _file(there, source_id),
        "place": asdict(place(there, source_id, span, True)),
    }  # fmt: skip


def _verdicts(dataset: Dataset, unit_id: str, author: str) -> dict[str, object]:
    """Return the author's own verdict, and how many others judged: what they said would sway a second reader."""
    newest = {}
    for row, now in followed(dataset, sorted(of_source(dataset, unit_id[:16]), key=lambda r: r.judged_at)):
        if now is not None and now.unit_id == unit_id:
            newest[row.author] = row
    mine = newest.pop(author, None)
    return {"mine": None if mine is None else dict(mine), "others": len(newest)}


def _plain(value: object) -> object:
    """Return values that JSON has: what is no number becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
