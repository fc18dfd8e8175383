"""What lies over a source's picture: faces, text and graphics, the planned crop; and what of it a rule looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from duckdb import DuckDBPyConnection

from curation.decisions.rules import columns_of
from schemas.settings.policy import Policy
from schemas.tables.output import DecisionRow
from schemas.time import GRID_HZ, Interval

MAX_FACES = 6
_OVERLAID = {"text": "text", "logo": "logo", "inset": "inset", "bars": "bars", "other_face": "faces"}
"""What is drawn where a rule looked at columns of these names."""


@dataclass(frozen=True, slots=True)
class Face:
    """A track that is in view during the stretch: its name for people, and its box [t_s, x, y, w, h] in pixels."""

    track: str
    name: str
    person: str | None
    mine: bool
    boxes: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Overlay:
    """What was laid over the picture at a time: boxes x0, y0, x1, y1, flattened, as shares of width and height."""

    t: float
    text: list[float]
    logo: list[float]
    inset: list[float]
    bars: list[float]
    """widths of the bars at the left, top, right and bottom, as shares"""


def faces(con: DuckDBPyConnection, source_id: str, span: Interval, mine: str | None) -> list[Face]:
    """Return the tracks in view, the unit's own first, the longest then."""
    a, b = span.start_s, span.end_s
    found = con.execute(
        "SELECT k.track_id, i.identity_id FROM tracks k LEFT JOIN track_identities i ON i.track_id = k.track_id "
        "WHERE k.source_id = ? AND k.start_s < ? AND k.end_s > ? "
        "ORDER BY k.track_id = ? DESC, least(k.end_s, ?) - greatest(k.start_s, ?) DESC, 1 LIMIT ?",
        [source_id, b, a, mine or "", b, a, MAX_FACES],
    ).fetchall()
    # Every point of a short stretch; of a longer one every second.
    step = 1 if span.duration_s <= 20 else 2
    out = []
    for track, person in found:
        rows = con.execute(
            "SELECT f.t_s, f.x, f.y, f.w, f.h FROM face_frames f JOIN tracklets l ON l.tracklet_id = f.tracklet_id "
            "WHERE l.track_id = ? AND f.k >= ? AND f.k < ? AND f.k % ? = 0 ORDER BY f.k",
            [track, int(a * GRID_HZ), int(b * GRID_HZ) + 1, step],
        ).fetchall()
        name = f"{person or 'nobody known'} ({track[-5:]})"
        out.append(Face(track, name, person, track == mine, [[round(float(v), 2) for v in r] for r in rows]))
    return out


def overlays(con: DuckDBPyConnection, source_id: str, span: Interval) -> list[Overlay]:
    """Return what was laid over the picture, about once a second, a little beyond a stretch."""
    rows = con.execute(
        "SELECT t_s, text_boxes, logo_boxes, inset_boxes, [bar_left, bar_top, bar_right, bar_bottom] FROM layout "
        "WHERE source_id = ? AND t_s >= ? AND t_s < ? ORDER BY k",
        [source_id, span.start_s - 2.0, span.end_s + 2.0],
    ).fetchall()
    return [Overlay(t_s, text or [], logo or [], inset or [], bars) for t_s, text, logo, inset, bars in rows]


def looked_at(policy: Policy | None, decision: DecisionRow | None) -> list[str]:
    """Return what of the picture the rule that decided looked at: text, logo, inset, bars, faces."""
    if policy is None or decision is None:
        return []
    rule = next((r for r in policy.rules if r.id == decision.rule), None)
    columns = " ".join(columns_of(rule)) if rule is not None else ""
    return [shown for word, shown in _OVERLAID.items() if word in columns]


def crop_knots(path: object, start_s: float) -> list[list[float]]:
    """Return a planned crop (`clip_plans.crop_path`) as knots [t_s, x, y, w, h] on the source's clock."""
    if not isinstance(path, list):
        return []
    knots = [path[i : i + 5] for i in range(0, len(path) - 4, 5)]
    return [[start_s + float(k[0]), *(float(v) for v in k[1:])] for k in knots]
