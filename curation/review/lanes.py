"""What was measured over a stretch of a source's time, as lanes for the page: plain numbers and words, no drawing.

A lane has a label and a kind: `runs` [start_s, end_s, class, text, tip], `curve` [t_s, value] between low and high, or
`words` [start_s, end_s, text]. Bounded by the stretch: a minute at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from duckdb import DuckDBPyConnection

from curation.report.timelines import HEARD, SOUNDS
from schemas import tables as t
from schemas.time import GRID_HZ, Interval

MAX_FACES = 6
TABLES = (
    t.TRACKS, t.TIMELINE, t.ASD_FRAMES, t.SYNC_FRAMES, t.VOICE_TURNS, t.WORDS, t.EVENTS, t.AUDIO_EVENTS, t.SHOTS,
    t.TRACK_IDENTITIES, t.BINDINGS, t.FACE_FRAMES, t.TRACKLETS, t.LAYOUT,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane; `track` says whose it is."""

    label: str
    kind: str
    items: list[list[object]]
    track: str = ""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Face:
    """A track that is in view during the stretch: its name for people, and its box [t_s, x, y, w, h] in pixels."""

    track: str
    name: str
    mine: bool
    boxes: list[list[float]] = field(default_factory=list)


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
        out.append(Face(track, name, track == mine, [[round(float(v), 2) for v in r] for r in rows]))
    return out


def overlays(con: DuckDBPyConnection, source_id: str, span: Interval) -> list[dict[str, object]]:
    """Return what was laid over the picture, about once a second: boxes x0, y0, x1, y1 as shares of the picture."""
    rows = con.execute(
        "SELECT t_s, text_boxes, logo_boxes, inset_boxes, [bar_left, bar_top, bar_right, bar_bottom] FROM layout "
        "WHERE source_id = ? AND t_s >= ? AND t_s < ? ORDER BY k",
        [source_id, span.start_s - 2.0, span.end_s + 2.0],
    ).fetchall()
    return [
        {"t": t_s, "text": text or [], "logo": logo or [], "inset": inset or [], "bars": bars}
        for t_s, text, logo, inset, bars in rows
    ]


def cuts(con: DuckDBPyConnection, source_id: str, span: Interval) -> list[float]:
    """Return when new shots begin."""
    sql = "SELECT start_s FROM shots WHERE source_id = ? AND start_s > ? AND start_s < ? ORDER BY 1"
    return [s for (s,) in con.execute(sql, [source_id, max(span.start_s, 0.001), span.end_s]).fetchall()]


def lanes(
    con: DuckDBPyConnection, source_id: str, span: Interval, people: list[Face], segment: str | None
) -> list[Lane]:
    """Return the lanes of a stretch: of each person states, scores and sync, then voices, sounds, events and words."""
    out: list[Lane] = []
    within = [source_id, span.end_s, span.start_s]
    for p in people:
        sql = (
            "SELECT start_s, end_s, state, state, reason || ', confidence ' || round(confidence, 2) || "
            "coalesce(', with ' || partner, '') FROM timeline "
            "WHERE track_id = ? AND start_s < ? AND end_s > ? ORDER BY 1"
        )
        if states := _rows(con, sql, [p.track, *within[1:]]):
            out.append(Lane(p.name, "runs", states, p.track))
        for label, table, column, known, low, high in (
            ("speaker score", "asd_frames", "score", "true", -4.0, 5.0),
            ("lip sync", "sync_frames", "log_odds", "known", -0.6, 0.8),
        ):
            sql = (
                f"SELECT k / {GRID_HZ}, {column} FROM {table} WHERE track_id = ? AND {known} AND k >= ? AND k < ? "
                "ORDER BY k"
            )
            points = _rows(con, sql, [p.track, int(span.start_s * GRID_HZ), int(span.end_s * GRID_HZ) + 1])
            if points:
                out.append(Lane(label, "curve", points, p.track, low, high))
    owner = dict(con.execute("SELECT speaker_id, min(track_id) FROM bindings WHERE bound GROUP BY 1").fetchall())
    names = {p.track: p.name for p in people}
    then = "WHERE source_id = ? AND start_s < ? AND end_s > ?"
    turns = f"SELECT start_s, end_s, speaker_id FROM voice_turns {then} ORDER BY 1"
    voices: dict[str, list[list[object]]] = {}
    for start, end, voice in con.execute(turns, within).fetchall():
        whose = names.get(owner.get(voice, ""), "off screen" if voice not in owner else "another face")
        voices.setdefault(voice, []).append([start, end, "voice", whose, f"{voice}: {whose}"])
    out += [Lane(f"voice {voice[-3:]}", "runs", runs) for voice, runs in sorted(voices.items())]
    for sound in SOUNDS:
        sql = (
            f"SELECT start_s, end_s, 'sound', '', '{sound} ' || round({sound}, 2) FROM audio_events "
            f"WHERE source_id = ? AND start_s < ? AND end_s > ? AND {sound} >= {HEARD} ORDER BY 1"
        )
        if heard := _rows(con, sql, within):
            out.append(Lane(str(sound), "runs", heard))
    if segment is not None:
        sql = (
            "SELECT start_s, end_s, 'event', event, event || ', confidence ' || round(confidence, 2) FROM events "
            "WHERE segment_id = ? ORDER BY start_s"
        )
        if done := _rows(con, sql, [segment]):
            out.append(Lane("events", "runs", done))
    sql = f"SELECT start_s, end_s, coalesce(word, guess || '?') FROM words {then} ORDER BY n"
    if said := _rows(con, sql, within):
        out.append(Lane("words", "words", said))
    return out


def _rows(con: DuckDBPyConnection, sql: str, values: list[object]) -> list[list[object]]:
    return [[round(v, 3) if isinstance(v, float) else v for v in row] for row in con.execute(sql, values).fetchall()]
