"""What the page shows, as plain values for the template. Bounded: a sample of units, whatever the dataset's size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa
from markupsafe import Markup

from curation.audit.precision import audit
from curation.dataset import Dataset
from curation.decisions.decide import view_sql
from curation.decisions.ledger import OUTCOMES, ledger_tables
from curation.decisions.rules import thresholds_of
from curation.decisions.survey import survey
from curation.engine.run_warnings import run_warnings
from curation.pack.splits import split_warnings
from curation.report import svg
from curation.report.pictures import Pictures
from curation.report.status import policy_in_force, stage_speed
from schemas import tables as t
from schemas.policy import Policy, UnitKind
from schemas.table import Column, Row, Table
from schemas.tables.attribution import AsdFrameRow, SyncFrameRow, SyncRow
from schemas.tables.pairing import TimelineRow
from schemas.tables.people import ReferenceRow
from schemas.tables.speech import AudioEventRow
from schemas.tables.tracks import TrackRow
from schemas.time import grid_time
from schemas.units import packed_columns, view_columns

MAX_SOURCES = 24
MAX_KEPT = 60
MAX_OUT = 60
MAX_PEOPLE = 24
MAX_REFERENCES = 10
SOUNDS = (AudioEventRow.music, AudioEventRow.singing, AudioEventRow.laughter, AudioEventRow.noise)
HEARD = 0.3
"""Score from which a sound is drawn, as the speech stage counts it."""
MAX_LANES = 8

Content = Mapping[str, object]
"""What the template shows of one thing, by the names that it uses."""
R = TypeVar("R", bound=Row)


def some_sources(dataset: Dataset) -> tuple[int, list[str]]:
    """Return how many sources there are, and a few of them, chosen by hash: the same dataset shows the same ones."""
    con = dataset.connect(tables=[t.SOURCES])
    ((n,),) = con.execute("SELECT count(DISTINCT source_id) FROM sources").fetchall()
    sql = f"SELECT DISTINCT source_id, sha256(source_id) FROM sources ORDER BY 2 LIMIT {MAX_SOURCES}"
    return n, sorted(str(i) for i, _ in con.execute(sql).fetchall())


def overview(dataset: Dataset) -> Content:
    """Return totals, funnel drawing, ledger and reasons."""
    found = survey(dataset)
    f = found.funnel
    rows = [
        (s.step.replace("_", " "), s.percent, s.paper,
         f"{s.count} {'segments' if s.step == 'conversation' else 'shots'}, {s.seconds:.1f} s")
        for s in f.steps
    ]  # fmt: skip
    rows += [(f"{s.step}", s.percent, s.paper, f"{s.count} segments, {s.seconds:.1f} s") for s in f.states]
    sums = "SELECT count(*), coalesce(sum(duration_s), 0), count(DISTINCT identity_id) FROM manifest"
    ((samples, seconds, people),) = dataset.query(sums).fetchall()
    ((sources,),) = dataset.query("SELECT count(DISTINCT source_id) FROM inputs").fetchall()
    return {
        "samples": samples,
        "seconds": seconds,
        "people": people,
        "sources": sources,
        "funnel": svg.funnel_bars(rows),
        "beside": f"{f.quarantined} shots in quarantine and {f.pending} pending are not in the bars.",
        "outcomes": OUTCOMES,
        "splits": t.SPLIT_SHARES.rows(dataset.table(t.SPLIT_SHARES)),
        "split_warnings": split_warnings(dataset),
        "run_warnings": run_warnings(dataset),
        "balances": found.balances,
        "audit": audit(dataset, policy_in_force(dataset)),
        "reasons": [(*key, *sums) for key, sums in found.reasons.items()],
    }


def distributions(dataset: Dataset, policy: Policy) -> list[Content]:
    """Return a histogram for each numeric column that the policy has a threshold on or that is packed."""
    con = dataset.connect(tables=[*ledger_tables(), t.MANIFEST])
    marks: dict[tuple[UnitKind, str], list[tuple[float, str, str]]] = defaultdict(list)
    for rule in policy.rules:
        for x in thresholds_of(rule):
            marks[rule.on, x.column].append((x.value, x.operator, rule.id))
    out: list[Content] = []

    def draw(title: str, said: str, column: str, unit: str, rows: str, limits: list[tuple[float, str]]) -> None:
        sql = f'SELECT CAST("{column}" AS DOUBLE) FROM {rows} WHERE "{column}" IS NOT NULL USING SAMPLE 20000 ROWS'
        values = sorted(v for (v,) in con.execute(sql).fetchall())
        if values:
            out.append({"title": title, "rules": said, "n": len(values), "chart": svg.histogram(values, limits, unit)})

    for (kind, column), found in marks.items():
        rows = f"({view_sql(kind, '{}', presence=False, columns=[column])})"
        unit = view_columns(kind)[column][1].unit
        rules = ", ".join(dict.fromkeys(r for *_, r in found))
        draw(f"{kind}.{column}", rules, column, unit, rows, [(v, op) for v, op, _ in found])
    shown = {(kind, column) for kind, column in marks}
    for owner, _, c in packed_columns():
        if pa.types.is_floating(c.type) and c.packed and c.packed.manifest and (owner.kind, c.name) not in shown:
            draw(f"manifest.{c.name}", "no rule", c.name, c.unit, "manifest", [])
    return out


def contact_sheets(dataset: Dataset, pictures: Pictures) -> Content:
    """Return cards of kept samples, and of units that rules or errors left out, grouped by reason."""
    con = dataset.connect(tables=[t.MANIFEST, t.DECISIONS, t.INPUTS])
    # Chosen by hash: the same dataset shows the same sample.
    samples = _rows(con, t.MANIFEST, f"SELECT * FROM manifest ORDER BY sha256(sample_id) LIMIT {MAX_KEPT}")
    own = "FROM decisions WHERE outcome IN ('filtered', 'quarantined') AND decided_by = unit_id"
    left_out = _rows(con, t.DECISIONS, f"SELECT * {own} ORDER BY sha256(unit_id), unit LIMIT {MAX_OUT}")
    ((n_kept,),) = con.execute("SELECT count(*) FROM manifest").fetchall()
    ((n_out,),) = con.execute(f"SELECT count(*) {own}").fetchall()
    names = _names(con, [*(m.source_id for m in samples), *(r.source_id for r in left_out)])
    kept = [
        {**dict(m), "name": names.get(m.source_id, ""),
         "images": pictures.spread(m.track_id, m.start_s, m.end_s, 3)}
        for m in sorted(samples, key=lambda m: m.sample_id)
    ]  # fmt: skip
    sources = {r.source_id for r in left_out}
    tracks = t.TRACKS.rows(dataset.table(t.TRACKS, sources=sources))
    places = {
        s.shot_id: _Place(s, [k.track_id for k in tracks if k.shot_id == s.shot_id])
        for s in t.SHOTS.rows(dataset.table(t.SHOTS, sources=sources))
    }
    places |= {k.track_id: _Place(k, [k.track_id]) for k in tracks}
    segments = t.SEGMENTS.rows(dataset.table(t.SEGMENTS, sources=sources))
    places |= {s.segment_id: _Place(s, [s.track_id]) for s in segments}
    groups: dict[str, list[Content]] = defaultdict(list)
    for r in sorted(left_out, key=lambda r: (r.outcome, r.step or "", r.rule or "", r.unit_id)):
        place = places.get(r.unit_id)
        images, where = [], None
        if place is not None:
            where = (place.at.start_s, place.at.end_s)
            images = [x for i in sorted(place.tracks)[:2] for x in pictures.spread(i, *where, 2)]
        card = {**dict(r), "name": names.get(r.source_id, ""), "images": images, "where": where}
        groups[f"{r.outcome} · {(r.step or '').replace('_', ' ')} · {r.rule}"].append(card)
    return {"kept": kept, "n_kept": n_kept, "groups": dict(groups), "n_out": n_out}


class _Timed(Protocol):
    @property
    def start_s(self) -> float: ...

    @property
    def end_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a unit is: its row, and the tracks that show it."""

    at: _Timed
    tracks: list[str]


def _rows(con: duckdb.DuckDBPyConnection, table: Table[R], sql: str) -> list[R]:
    """Return the few rows of a query for all columns of a table."""
    return table.rows(con.sql(sql).to_arrow_table())


def _names(con: duckdb.DuckDBPyConnection, sources: Iterable[str]) -> dict[str, str]:
    """Return the file names of some sources; of several paths of one, the first."""
    sql = (
        "SELECT DISTINCT ON (source_id) source_id, name FROM inputs WHERE list_contains(?, source_id) ORDER BY 1, path"
    )
    return {str(i): str(name) for i, name in con.execute(sql, [sorted(set(sources))]).fetchall()}


def timelines(dataset: Dataset, pictures: Pictures, sources: list[str]) -> list[Content]:
    """Return one drawing a source: filmstrip, a lane of states and scores a person, voices, words."""
    con = dataset.connect(tables=[t.INPUTS, t.DECISIONS, t.SESSION_PAIRS], sources=sources)
    across = _rows(con, t.SESSION_PAIRS, "SELECT * FROM session_pairs ORDER BY segment_id")
    names = _names(dataset.connect(tables=[t.INPUTS]), [*sources, *(str(r.session_partner)[6:22] for r in across)])

    def by_source(table: Table[R]) -> dict[str, list[R]]:
        out: dict[str, list[R]] = defaultdict(list)
        for r in table.rows(dataset.table(table, sources=sources)):
            out[str(r[t.SOURCES.key[0]])].append(r)
        return out

    spans = {r.segment_id: r for s in by_source(t.SEGMENTS).values() for r in s} if across else {}
    elsewhere: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for pair in across:
        seg = spans[pair.segment_id]
        said = "" if pair.session_state == seg.state else f"; in its session: {pair.session_state}"
        told = f"{pair.session_partner} ({names.get(str(pair.session_partner)[6:22], 'another file')}){said}"
        elsewhere[seg.track_id].append((seg.start_s, seg.end_s, told))
    shots, tracks, runs = by_source(t.SHOTS), by_source(t.TRACKS), by_source(t.TIMELINE)
    turns, words, durations = by_source(t.VOICE_TURNS), by_source(t.WORDS), by_source(t.SOURCES)
    events = by_source(t.AUDIO_EVENTS)
    drawn = {s: _longest(tracks[s], {r.track_id for r in runs[s]}) for s in sources}
    wanted = sorted(r.track_id for s in sources for r in drawn[s])
    asd = _curves(dataset, t.ASD_FRAMES, AsdFrameRow.score, sources, wanted)
    odds = _curves(dataset, t.SYNC_FRAMES, SyncFrameRow.log_odds, sources, wanted)
    sync = {r.track_id: r for r in t.SYNC.rows(dataset.table(t.SYNC, sources=sources))}
    sql = "SELECT * FROM decisions WHERE unit IN ('tracks', 'sources')"
    decided = {r.unit_id: r for r in _rows(con, t.DECISIONS, sql)}
    out: list[Content] = []
    for s in sources:
        if not durations[s]:
            continue
        duration = durations[s][0].duration_s
        lanes = svg.Lanes(duration)
        longest = drawn[s]
        for track in sorted(longest, key=lambda r: r.track_id):
            lanes.strip([(t_s, uri, track.track_id) for t_s, uri in _strip(pictures, track, duration)])
            lanes.label(f"face {track.track_id[-4:]}")
            mine = [r for r in runs[s] if r.track_id == track.track_id]
            if mine:
                lanes.runs([(r.start_s, r.end_s, r.state, _tip(r, elsewhere[r.track_id])) for r in mine])
                partners = [(r.start_s, r.end_s, _with(r.partner)) for r in mine if r.partner]
                if partners:
                    lanes.label("listens to", 11)
                    lanes.words(partners)
                lanes.label("speaker score", 18)
                lanes.curve(asd[track.track_id], -4.0, 5.0)
                if odds[track.track_id]:
                    lanes.label("lip sync", 14)
                    lanes.label(_offset(sync.get(track.track_id)), 26)
                    lanes.curve(odds[track.track_id], -0.6, 0.8)
            else:
                why = decided[track.track_id].reason if track.track_id in decided else None
                lanes.runs([(track.start_s, track.end_s, "out", f"left out: {why or 'not measured further'}")])
            lanes.gap()
        for voice in sorted({r.speaker_id for r in turns[s]}):
            lanes.label(f"voice {voice[-3:]}", 9)
            lanes.runs([(r.start_s, r.end_s, "voice", voice) for r in turns[s] if r.speaker_id == voice], 10)
        for sound in SOUNDS:
            if heard := _heard(events[s], sound):
                lanes.label(sound.name, 9)
                lanes.runs(heard, 10)
        if words[s]:
            lanes.label("words", 11)
            lanes.words([(w.start_s, w.end_s, w.word or f"({w.guess}?)") for w in words[s]])
        cuts = [r.start_s for r in shots[s][1:]]
        drawing = lanes.finish(cuts, f"timeline of {names.get(s, s)}")
        outcome = dict(decided[s]) if s in decided else {}
        more = max(0, len(tracks[s]) - len(longest))
        facts = {"name": names.get(s, s), "id": s, "outcome": outcome, "duration": duration, "more": more}
        out.append({**facts, "drawing": drawing})
    return out


def _longest(tracks: list[TrackRow], seen: set[str]) -> list[TrackRow]:
    # Faces of a moment that nothing was measured of would only take room.
    shown = [r for r in tracks if r.track_id in seen or r.duration_s >= 1.0]
    return sorted(shown, key=lambda r: (-r.duration_s, r.track_id))[:MAX_LANES]


def _curves(
    dataset: Dataset, table: Table, column: Column[float], sources: list[str], tracks: list[str]
) -> dict[str, list[tuple[float, float]]]:
    """Return (seconds, value) of every second grid point of some tracks, where it is known."""
    out: dict[str, list[tuple[float, float]]] = defaultdict(list)
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


def _tip(r: TimelineRow, elsewhere: list[tuple[float, float, str]]) -> str:
    told = dict.fromkeys(x for a, b, x in elsewhere if a < r.end_s and b > r.start_s)
    partner = f", with {', '.join(told) or r.partner}" if told or r.partner else ""
    return f"{r.state} {r.start_s:.2f}-{r.end_s:.2f} s: {r.reason}, confidence {r.confidence:.2f}{partner}"


def people(dataset: Dataset, pictures: Pictures) -> list[Content]:
    """Return identities with the reference images chosen for them."""
    con = dataset.connect(tables=[t.IDENTITIES, t.REFERENCES])
    chosen = _rows(
        con,
        t.IDENTITIES,
        'SELECT * FROM identities WHERE identity_id IN (SELECT identity_id FROM "references") '
        f"ORDER BY sha256(identity_id) LIMIT {MAX_PEOPLE}",
    )
    identities = {r.identity_id: r for r in chosen}
    refs: dict[str, dict[tuple[str, int], ReferenceRow]] = defaultdict(dict)
    listed = ", ".join(f"'{i}'" for i in identities) or "NULL"
    first = (
        f'SELECT DISTINCT ON (identity_id, ref_track_id, ref_k) * FROM "references" WHERE identity_id IN ({listed}) '
        "ORDER BY identity_id, ref_track_id, ref_k, segment_id, kind, n"
    )
    for r in _rows(
        con,
        t.REFERENCES,
        f"SELECT * FROM ({first}) QUALIFY row_number() OVER "
        f"(PARTITION BY identity_id ORDER BY ref_track_id, ref_k) <= {MAX_REFERENCES}",
    ):
        refs[r.identity_id][r.ref_track_id, r.ref_k] = r
    out: list[Content] = []
    for i in sorted(identities):
        images = []
        for (track, k), r in sorted(refs[i].items()):
            uri = pictures.at(track, k)
            if uri is not None:
                images.append((uri, f"{r.kind}: {r.view.replace('_', ' ')}, {r.expression.replace('_', ' ')}"))
        out.append({**dict(identities[i]), "images": images})
    return out


def facts(dataset: Dataset) -> Content:
    """Return the workflow, policy and weights in force, the speed of the stages, and the errors."""
    stored = dataset.store.read_json("workflow.json") or {}
    errors = t.ERRORS.rows(dataset.table(t.ERRORS))
    names = _names(dataset.connect(tables=[t.INPUTS]), [e.source_id for e in errors])
    key = Markup('<span class="key"><i class="{}"></i>{}</span>')
    return {
        "workflow": stored.get("pipeline", {}),
        "policy": stored.get("policy", {}),
        "policy_id": stored.get("policy_id", ""),
        "speed": stage_speed(dataset),
        "errors": [{**dict(e), "name": names.get(e.source_id, "")} for e in errors],
        "legend": Markup("").join(key.format(x, x) for x in t.LABEL_STATES),
    }
