"""What happened in a source, drawn over time: filmstrip, states and scores a person, voices, sounds, words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from curation.dataset import Dataset
from curation.decisions.words import in_words
from curation.report import svg
from curation.report.pictures import Pictures
from curation.report.rows import read_rows, source_names
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.table import Column, Row, Table
from schemas.tables.attribution import AsdFrameRow, SyncFrameRow, SyncRow, VoiceTurnRow
from schemas.tables.pairing import STATE_REASONS, TimelineRow
from schemas.tables.sessions import SessionPairRow
from schemas.tables.speech import AudioEventRow, WordRow
from schemas.tables.tracks import TrackRow
from schemas.time import grid_time

SOUNDS = (AudioEventRow.music, AudioEventRow.singing, AudioEventRow.laughter, AudioEventRow.noise)
HEARD = 0.3
"""Score from which a sound is drawn, as the speech stage counts it."""
_MAX_LANES = 8

R = TypeVar("R", bound=Row)
_Told = tuple[float, float, str]
"""start_s, end_s, and what is said of that stretch"""
_Curve = list[tuple[float, float]]


def timelines(
    dataset: Dataset, pictures: Pictures, sources: list[str], policy: Policy | None
) -> list[Mapping[str, object]]:
    """Return one drawing a source, as the template takes it."""
    con = dataset.connect(tables=[t.INPUTS, t.DECISIONS, t.SESSION_PAIRS], sources=sources)
    across = read_rows(con, t.SESSION_PAIRS, "SELECT * FROM session_pairs ORDER BY segment_id")
    partners = [str(r.session_partner)[6:22] for r in across]
    names = source_names(dataset.connect(tables=[t.INPUTS]), [*sources, *partners])
    shots, tracks = _by_source(dataset, t.SHOTS, sources), _by_source(dataset, t.TRACKS, sources)
    runs, turns = _by_source(dataset, t.TIMELINE, sources), _by_source(dataset, t.VOICE_TURNS, sources)
    words, events = _by_source(dataset, t.WORDS, sources), _by_source(dataset, t.AUDIO_EVENTS, sources)
    durations = {r.source_id: r.duration_s for r in t.SOURCES.rows(dataset.table(t.SOURCES, sources=sources))}
    drawn = {s: _longest(tracks[s], {r.track_id for r in runs[s]}) for s in sources}
    wanted = sorted(r.track_id for s in sources for r in drawn[s])
    sql = "SELECT * FROM decisions WHERE unit IN ('tracks', 'sources')"
    people = _People(
        pictures,
        _elsewhere(dataset, sources, across, names),
        asd=_curves(dataset, t.ASD_FRAMES, AsdFrameRow.score, sources, wanted),
        odds=_curves(dataset, t.SYNC_FRAMES, SyncFrameRow.log_odds, sources, wanted),
        sync={r.track_id: r for r in t.SYNC.rows(dataset.table(t.SYNC, sources=sources))},
        decided={r.unit_id: (r.outcome, str(in_words(r, policy))) for r in read_rows(con, t.DECISIONS, sql)},
    )
    out: list[Mapping[str, object]] = []
    for s in sources:
        if s not in durations:
            continue
        lanes = svg.Lanes(durations[s])
        for track in sorted(drawn[s], key=lambda r: r.track_id):
            people.draw(lanes, track, durations[s], [r for r in runs[s] if r.track_id == track.track_id])
        _draw_sound(lanes, turns[s], events[s], words[s])
        out.append(
            {
                "name": names.get(s, s),
                "id": s,
                "outcome": people.decided.get(s, ("not decided", "")),
                "duration": durations[s],
                "more": max(0, len(tracks[s]) - len(drawn[s])),
                "drawing": lanes.finish([r.start_s for r in shots[s][1:]], f"timeline of {names.get(s, s)}"),
            }
        )
    return out


def _by_source(dataset: Dataset, table: Table[R], sources: list[str]) -> dict[str, list[R]]:
    out: dict[str, list[R]] = defaultdict(list)
    for r in table.rows(dataset.table(table, sources=sources)):
        out[str(r[t.SOURCES.key[0]])].append(r)
    return out


def _elsewhere(
    dataset: Dataset, sources: list[str], across: list[SessionPairRow], names: Mapping[str, str]
) -> dict[str, list[_Told]]:
    """Return by track with whom of its session's other files the person is when, and in which state by them."""
    spans = {r.segment_id: r for s in _by_source(dataset, t.SEGMENTS, sources).values() for r in s} if across else {}
    out: dict[str, list[_Told]] = defaultdict(list)
    for pair in across:
        seg = spans[pair.segment_id]
        said = "" if pair.session_state == seg.state else f"; in its session: {pair.session_state}"
        told = f"{pair.session_partner} ({names.get(str(pair.session_partner)[6:22], 'another file')}){said}"
        out[seg.track_id].append((seg.start_s, seg.end_s, told))
    return out


@dataclass(frozen=True)
class _People:
    """What is drawn of people: curves and runs by track id."""

    pictures: Pictures
    elsewhere: Mapping[str, list[_Told]]
    asd: Mapping[str, _Curve]
    odds: Mapping[str, _Curve]
    sync: Mapping[str, SyncRow]
    decided: Mapping[str, tuple[str, str]]
    """by track or source, the outcome and why"""

    def draw(self, lanes: svg.Lanes, track: TrackRow, duration_s: float, runs: list[TimelineRow]) -> None:
        """Add one person's lanes: pictures, states, partners and scores, or why nothing was measured."""
        name = track.track_id
        lanes.strip([(t_s, uri, name) for t_s, uri in _strip(self.pictures, track, duration_s)])
        lanes.label(f"face {name[-4:]}")
        if runs:
            lanes.runs([(r.start_s, r.end_s, r.state, _tip(r, self.elsewhere.get(name, []))) for r in runs])
            partners = [(r.start_s, r.end_s, _with(r.partner)) for r in runs if r.partner]
            if partners:
                lanes.label("listens to", 11)
                lanes.words(partners)
            lanes.label("speaker score", 18)
            lanes.curve(self.asd.get(name, []), -4.0, 5.0)
            if odds := self.odds.get(name):
                lanes.label("lip sync", 14)
                lanes.label(_offset(self.sync.get(name)), 26)
                lanes.curve(odds, -0.6, 0.8)
        else:
            _, why = self.decided.get(name, ("", ""))
            lanes.runs([(track.start_s, track.end_s, "out", f"left out: {why or 'not measured further'}")])
        lanes.gap()


def _draw_sound(lanes: svg.Lanes, turns: list[VoiceTurnRow], events: list[AudioEventRow], words: list[WordRow]) -> None:
    for voice in sorted({r.speaker_id for r in turns}):
        lanes.label(f"voice {voice[-3:]}", 9)
        lanes.runs([(r.start_s, r.end_s, "voice", voice) for r in turns if r.speaker_id == voice], 10)
    for sound in SOUNDS:
        if heard := _heard(events, sound):
            lanes.label(sound.name, 9)
            lanes.runs(heard, 10)
    if words:
        lanes.label("words", 11)
        lanes.words([(w.start_s, w.end_s, w.word or f"({w.guess}?)") for w in words])


def _longest(tracks: list[TrackRow], seen: set[str]) -> list[TrackRow]:
    # Faces of a moment that nothing was measured of would only take room.
    shown = [r for r in tracks if r.track_id in seen or r.duration_s >= 1.0]
    return sorted(shown, key=lambda r: (-r.duration_s, r.track_id))[:_MAX_LANES]


def _curves(
    dataset: Dataset, table: Table, column: Column[float], sources: list[str], tracks: list[str]
) -> dict[str, _Curve]:
    """Return (seconds, value) of every second grid point of some tracks, where it is known."""
    out: dict[str, _Curve] = defaultdict(list)
    known = "known" if "known" in table.column_names else "true"
    for s in sources:  # a long source has millions of rows
        con = dataset.connect(tables=[table], sources=[s])
        sql = (
            f"SELECT track_id, k, {column} FROM {table.name} "
            f"WHERE {known} AND k % 2 = 0 AND list_contains(?, track_id) ORDER BY track_id, k"
        )
        for track, k, value in con.execute(sql, [[i for i in tracks if i[:16] == s]]).fetchall():
            out[track].append((grid_time(k), value))
    return out


def _heard(windows: list[AudioEventRow], sound: Column[float]) -> list[tuple[float, float, str, str]]:
    """Return (start_s, end_s, CSS class, tooltip) of the stretches in which a sound is heard; windows overlap."""
    out: list[tuple[float, float, str, str]] = []
    for w in windows:
        if float(str(w[sound.name])) < HEARD:
            continue
        start = out.pop()[0] if out and w.start_s <= out[-1][1] else w.start_s
        out.append((start, w.end_s, "sound", f"{sound} {start:.1f}-{w.end_s:.1f} s"))
    return out


def _with(partner: str) -> str:
    kind, _, name = partner.partition(":")
    return f"face {name[-4:]}" if kind == "track" else f"voice {name[-3:]}"


def _offset(sync: SyncRow | None) -> str:
    """Return how late a track's sound is, in words."""
    if sync is None or sync.offset_ms is None:
        return "not measured"
    return f"{sync.offset_ms:+.0f} ms ({sync.confidence:.2f})"


def _strip(pictures: Pictures, track: TrackRow, duration_s: float) -> list[tuple[float, str]]:
    share = track.duration_s / max(duration_s, 1e-3)
    n = max(1, min(12, int(svg.Lanes.WIDTH * share / 60)))
    return pictures.spread(track.track_id, track.start_s, track.end_s, n, 84)


def _tip(r: TimelineRow, elsewhere: list[_Told]) -> str:
    told = dict.fromkeys(x for a, b, x in elsewhere if a < r.end_s and b > r.start_s)
    partner = f", with {', '.join(told) or r.partner}" if told or r.partner else ""
    why = STATE_REASONS.get(r.reason, r.reason)
    return f"{r.state} {r.start_s:.2f}-{r.end_s:.2f} s: {why}, confidence {r.confidence:.2f}{partner}"
