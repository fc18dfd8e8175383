"""What was measured over a stretch of a source's time, as lanes for the page: plain numbers and words, no drawing.

A lane has a label and a kind: `runs` [start_s, end_s, class, text, tip], `curve` [t_s, value] between low and high, or
`words` [start_s, end_s, text]. Bounded by the stretch: a minute at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from curation.labels.apply import reworded, with_cuts
from curation.report.seen import Face
from curation.report.timelines import HEARD, SOUNDS
from schemas import tables as t
from schemas.table import Table
from schemas.time import GRID_HZ, Interval

TABLES: tuple[Table[Any], ...] = (
    t.TRACKS, t.TIMELINE, t.ASD_FRAMES, t.SYNC_FRAMES, t.VOICE_TURNS, t.WORDS, t.EVENTS, t.AUDIO_EVENTS, t.SHOTS,
    t.TRACK_IDENTITIES, t.BINDINGS, *t.LABEL_TABLES, t.FACE_FRAMES, t.TRACKLETS, t.LAYOUT,
)  # fmt: skip

_IN_SPAN = "WHERE source_id = ? AND start_s < ? AND end_s > ?"
"""Takes the source, then the end of the span, then its start."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane; `track` says whose it is."""

    label: str
    kind: str
    items: list[list[object]]
    track: str = ""
    low: float = 0.0
    high: float = 1.0
    of: str = ""
    """what can be corrected in it: states, words, or voice"""
    voice: str = ""


def cuts(con: DuckDBPyConnection, source_id: str, span: Interval, since: str) -> list[float]:
    """Return when new shots begin, by what people said after `since` where they did."""
    sql = "SELECT start_s FROM shots WHERE source_id = ? AND start_s > ? AND start_s < ? ORDER BY 1"
    found = [s for (s,) in con.execute(sql, [source_id, max(span.start_s, 0.001), span.end_s]).fetchall()]
    sql = "SELECT start_s, end_s, cut FROM cut_labels WHERE labelled_at > ? ORDER BY labelled_at, cut"
    said = con.execute(sql, [since]).fetchall()
    return sorted(s for s in with_cuts(found, said) if span.start_s < s < span.end_s)


def lanes(
    con: DuckDBPyConnection, source_id: str, span: Interval, people: list[Face], segment: str | None, since: str
) -> list[Lane]:
    """Return the lanes of a stretch: of each person states, scores and sync, then voices, sounds, events and words.

    What people said after `since` lies on top of what the machine found: no run has used it yet.
    """
    out = [lane for p in people for lane in _of_person(con, span, p, since)]
    out += [*_voices(con, source_id, span, people, since), *_sounds(con, source_id, span)]
    if segment is not None:
        sql = (
            "SELECT start_s, end_s, 'event', event, event || ', confidence ' || round(confidence, 2) FROM events "
            "WHERE segment_id = ? ORDER BY start_s"
        )
        if done := _rows(con, sql, [segment]):
            out.append(Lane("events", "runs", done))
    if said := _words(con, source_id, span, since):
        out.append(Lane("words", "words", said, of="words"))
    return out


def _of_person(con: DuckDBPyConnection, span: Interval, p: Face, since: str) -> Iterator[Lane]:
    """Yield a person's states, then the scores that they rest on."""
    sql = (
        "SELECT start_s, end_s, state, state, reason || ', confidence ' || round(confidence, 2) || "
        "coalesce(', with ' || partner, '') FROM timeline "
        "WHERE track_id = ? AND start_s < ? AND end_s > ? ORDER BY 1"
    )
    if states := corrected(_rows(con, sql, [p.track, span.end_s, span.start_s]), _said(con, p.track, span, since)):
        yield Lane(p.name, "runs", states, p.track, of="states")
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
            yield Lane(label, "curve", points, p.track, low, high)


def _voices(con: DuckDBPyConnection, source_id: str, span: Interval, people: list[Face], since: str) -> Iterator[Lane]:
    """Yield each voice's turns, with whose voice it is."""
    owner = dict(con.execute("SELECT speaker_id, min(track_id) FROM bindings WHERE bound GROUP BY 1").fetchall())
    newer = "SELECT speaker_id, track_id FROM voice_labels WHERE labelled_at > ? ORDER BY labelled_at"
    owner |= dict(con.execute(newer, [since]).fetchall())
    owner = {voice: track for voice, track in owner.items() if track is not None}
    names = {p.track: p.name for p in people}
    sql = f"SELECT start_s, end_s, speaker_id FROM voice_turns {_IN_SPAN} ORDER BY 1"
    turns: dict[str, list[list[object]]] = defaultdict(list)
    for start, end, voice in con.execute(sql, [source_id, span.end_s, span.start_s]).fetchall():
        whose = names.get(owner.get(voice, ""), "off screen" if voice not in owner else "another face")
        turns[voice].append([start, end, "voice", whose, f"{voice}: {whose}"])
    for voice, runs in sorted(turns.items()):
        yield Lane(f"voice {voice[-3:]}", "runs", runs, of="voice", voice=voice)


def _sounds(con: DuckDBPyConnection, source_id: str, span: Interval) -> Iterator[Lane]:
    for sound in SOUNDS:
        sql = (
            f"SELECT start_s, end_s, 'sound', '', '{sound} ' || round({sound}, 2) FROM audio_events "
            f"{_IN_SPAN} AND {sound} >= {HEARD} ORDER BY 1"
        )
        if heard := _rows(con, sql, [source_id, span.end_s, span.start_s]):
            yield Lane(str(sound), "runs", heard)


def _words(con: DuckDBPyConnection, source_id: str, span: Interval, since: str) -> list[list[object]]:
    within = [source_id, span.end_s, span.start_s]
    found = _rows(con, f"SELECT start_s, end_s, coalesce(word, guess || '?') FROM words {_IN_SPAN} ORDER BY n", within)
    newer = f"SELECT start_s, end_s, word FROM word_labels {_IN_SPAN} AND labelled_at > ? ORDER BY labelled_at"
    return reworded(found, _rows(con, newer, [*within, since]))


def corrected(runs: list[list[object]], said: list[list[object]]) -> list[list[object]]:
    """Return runs [start_s, end_s, ...] with those that people gave in place of what they cover, the last on top."""
    for new in said:
        out: list[list[object]] = []
        for run in runs:
            (a, b), (start, end) = ((float(str(x)) for x in r[:2]) for r in (run, new))
            out += [[x, y, *run[2:]] for x, y in ((a, min(b, start)), (max(a, end), b)) if y - x > 1e-3]
        runs = sorted([*out, new], key=lambda r: float(str(r[0])))
    return runs


def _said(con: DuckDBPyConnection, track: str, span: Interval, since: str) -> list[list[object]]:
    sql = (
        "SELECT start_s, end_s, state, state, 'label by ' || author FROM labels "
        "WHERE track_id = ? AND start_s < ? AND end_s > ? AND labelled_at > ? ORDER BY labelled_at, label_id"
    )
    return _rows(con, sql, [track, span.end_s, span.start_s, since])


def _rows(con: DuckDBPyConnection, sql: str, values: list[object]) -> list[list[object]]:
    return [[round(v, 3) if isinstance(v, float) else v for v in row] for row in con.execute(sql, values).fetchall()]
