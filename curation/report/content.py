"""What the page shows, as plain values for the template. Bounded: a sample of units, whatever the dataset's size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import duckdb
from markupsafe import Markup

from curation.dataset import Dataset
from curation.decisions.decide import view_sql
from curation.decisions.ledger import OUTCOMES, ledger_tables
from curation.decisions.rules import thresholds_of
from curation.decisions.survey import survey
from curation.engine.run_warnings import run_warnings
from curation.pack.splits import split_warnings
from curation.report import svg
from curation.report.pictures import Pictures
from curation.report.status import stage_speed
from schemas import tables as t
from schemas.policy import Policy, UnitKind
from schemas.table import Table
from schemas.units import UNITS

MAX_SOURCES = 24
MAX_KEPT = 60
MAX_OUT = 60
MAX_PEOPLE = 24
MAX_REFERENCES = 10
SOUNDS = ("music", "singing", "laughter", "noise")
HEARD = 0.3
"""Score from which a sound is drawn, as the speech stage counts it."""
MAX_LANES = 8


def some_sources(dataset: Dataset) -> tuple[int, list[str]]:
    """Return how many sources there are, and a few of them, chosen by hash: the same dataset shows the same ones."""
    con = dataset.connect(tables=[t.SOURCES])
    ((n,),) = con.execute("SELECT count(DISTINCT source_id) FROM sources").fetchall()
    sql = f"SELECT DISTINCT source_id, sha256(source_id) FROM sources ORDER BY 2 LIMIT {MAX_SOURCES}"
    return n, sorted(str(i) for i, _ in con.execute(sql).fetchall())


def overview(dataset: Dataset) -> dict[str, Any]:
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
        "splits": dataset.table(t.SPLIT_SHARES).to_pylist(),
        "split_warnings": split_warnings(dataset),
        "run_warnings": run_warnings(dataset),
        "balances": found.balances,
        "reasons": [(*key, *sums) for key, sums in found.reasons.items()],
    }


def distributions(dataset: Dataset, policy: Policy) -> list[dict[str, Any]]:
    """Return a histogram for each numeric column that the policy has a threshold on."""
    con = dataset.connect(tables=ledger_tables())
    marks: dict[tuple[UnitKind, str], list[tuple[float, str, str]]] = defaultdict(list)
    for rule in policy.rules:
        for x in thresholds_of(rule):
            marks[rule.on, x.column].append((x.value, x.operator, rule.id))
    out = []
    for (kind, column), found in marks.items():
        rows = view_sql(kind, "{}", presence=False, columns=[column])
        sql = f'SELECT CAST("{column}" AS DOUBLE) FROM ({rows}) WHERE "{column}" IS NOT NULL USING SAMPLE 20000 ROWS'
        values = sorted(v for (v,) in con.execute(sql).fetchall())
        if values:
            unit = next((c.unit for c in UNITS[kind].table.columns if c.name == column), "")
            chart = svg.histogram(values, [(v, op) for v, op, _ in found], unit)
            rules = ", ".join(dict.fromkeys(r for *_, r in found))
            out.append({"title": f"{kind}.{column}", "rules": rules, "n": len(values), "chart": chart})
    return out


def contact_sheets(dataset: Dataset, pictures: Pictures) -> dict[str, Any]:
    """Return cards of kept samples, and of units that rules or errors left out, grouped by reason."""
    con = dataset.connect(tables=[t.MANIFEST, t.DECISIONS, t.INPUTS])
    # Chosen by hash: the same dataset shows the same sample.
    kept = _rows(con, f"SELECT * FROM manifest ORDER BY sha256(sample_id) LIMIT {MAX_KEPT}")
    own = "FROM decisions WHERE outcome IN ('filtered', 'quarantined') AND decided_by = unit_id"
    left_out = _rows(con, f"SELECT * {own} ORDER BY sha256(unit_id), unit LIMIT {MAX_OUT}")
    ((n_kept,),) = con.execute("SELECT count(*) FROM manifest").fetchall()
    ((n_out,),) = con.execute(f"SELECT count(*) {own}").fetchall()
    names = _names(con, [r["source_id"] for r in (*kept, *left_out)])
    kept = [
        {**m, "name": names.get(m["source_id"], ""),
         "images": pictures.spread(m["track_id"], m["start_s"], m["end_s"], 3)}
        for m in sorted(kept, key=lambda m: str(m["sample_id"]))
    ]  # fmt: skip
    sources = {str(r["source_id"]) for r in left_out}
    segments, tracks, shots = (
        {r[f"{table.name[:-1]}_id"]: r for r in dataset.table(table, sources=sources).to_pylist()}
        for table in (t.SEGMENTS, t.TRACKS, t.SHOTS)
    )
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in sorted(left_out, key=lambda r: (r["outcome"], r["step"] or "", r["rule"] or "", r["unit_id"])):
        row = segments.get(r["unit_id"]) or tracks.get(r["unit_id"]) or shots.get(r["unit_id"])
        images = []
        if row is not None:
            mine = [row["track_id"]] if "track_id" in row else _tracks_of(tracks, r["unit_id"])
            images = [x for i in mine[:2] for x in pictures.spread(i, row["start_s"], row["end_s"], 2)]
        where = None if row is None else (row["start_s"], row["end_s"])
        card = {**r, "name": names.get(r["source_id"], ""), "images": images, "where": where}
        groups[f"{r['outcome']} · {(r['step'] or '').replace('_', ' ')} · {r['rule']}"].append(card)
    return {"kept": kept, "n_kept": n_kept, "groups": dict(groups), "n_out": n_out}


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """Return the few rows of a query."""
    rows: list[dict[str, Any]] = con.sql(sql).to_arrow_table().to_pylist()
    return rows


def _tracks_of(tracks: dict[str, dict[str, Any]], shot_id: str) -> list[str]:
    return sorted(i for i, r in tracks.items() if r["shot_id"] == shot_id)


def _names(con: duckdb.DuckDBPyConnection, sources: Iterable[str]) -> dict[str, str]:
    """Return the file names of some sources; of several paths of one, the first."""
    sql = (
        "SELECT DISTINCT ON (source_id) source_id, name FROM inputs WHERE list_contains(?, source_id) ORDER BY 1, path"
    )
    return {str(i): str(name) for i, name in con.execute(sql, [sorted(set(sources))]).fetchall()}


def timelines(dataset: Dataset, pictures: Pictures, sources: list[str]) -> list[dict[str, Any]]:
    """Return one drawing a source: filmstrip, a lane of states and scores a person, voices, words."""
    con = dataset.connect(tables=[t.INPUTS, t.DECISIONS, t.SESSION_PAIRS], sources=sources)
    across = _rows(con, "SELECT * FROM session_pairs ORDER BY segment_id")
    names = _names(
        dataset.connect(tables=[t.INPUTS]),
        [*sources, *(str(r["session_partner"])[6:22] for r in across)],
    )

    def by_source(table: Any) -> dict[str, list[dict[str, Any]]]:
        out: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for r in dataset.table(table, sources=sources).to_pylist():
            out[r["source_id"]].append(r)
        return out

    spans = {r["segment_id"]: r for s in by_source(t.SEGMENTS).values() for r in s} if across else {}
    elsewhere: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for r in across:
        seg = spans[r["segment_id"]]
        said = "" if r["session_state"] == seg["state"] else f"; in its session: {r['session_state']}"
        told = f"{r['session_partner']} ({names.get(str(r['session_partner'])[6:22], 'another file')}){said}"
        elsewhere[seg["track_id"]].append((seg["start_s"], seg["end_s"], told))
    shots, tracks, runs = by_source(t.SHOTS), by_source(t.TRACKS), by_source(t.TIMELINE)
    turns, words, durations = by_source(t.VOICE_TURNS), by_source(t.WORDS), by_source(t.SOURCES)
    events = by_source(t.AUDIO_EVENTS)
    drawn = {s: _longest(tracks[s], {r["track_id"] for r in runs[s]}) for s in sources}
    wanted = sorted(r["track_id"] for s in sources for r in drawn[s])
    asd = _curves(dataset, t.ASD_FRAMES, "score", sources, wanted)
    odds = _curves(dataset, t.SYNC_FRAMES, "log_odds", sources, wanted)
    sync = {r["track_id"]: r for r in dataset.table(t.SYNC, sources=sources).to_pylist()}
    decided = {r["unit_id"]: r for r in _rows(con, "SELECT * FROM decisions WHERE unit IN ('tracks', 'sources')")}
    out = []
    for s in sources:
        if not durations[s]:
            continue
        duration = durations[s][0]["duration_s"]
        lanes = svg.Lanes(duration)
        longest = drawn[s]
        for track in sorted(longest, key=lambda r: str(r["track_id"])):
            lanes.strip([(t_s, uri, track["track_id"]) for t_s, uri in _strip(pictures, track, duration)])
            lanes.label(f"face {track['track_id'][-4:]}")
            mine = [r for r in runs[s] if r["track_id"] == track["track_id"]]
            if mine:
                lanes.runs([(r["start_s"], r["end_s"], r["state"], _tip(r, elsewhere[r["track_id"]])) for r in mine])
                partners = [(r["start_s"], r["end_s"], _with(r["partner"])) for r in mine if r["partner"]]
                if partners:
                    lanes.label("listens to", 11)
                    lanes.words(partners)
                lanes.label("speaker score", 18)
                lanes.curve(asd[track["track_id"]], -4.0, 5.0)
                if odds[track["track_id"]]:
                    lanes.label("lip sync", 14)
                    lanes.label(_offset(sync.get(track["track_id"])), 26)
                    lanes.curve(odds[track["track_id"]], -0.6, 0.8)
            else:
                why = decided.get(track["track_id"], {}).get("reason") or "not measured further"
                lanes.runs([(track["start_s"], track["end_s"], "out", f"left out: {why}")])
            lanes.gap()
        for voice in sorted({r["speaker_id"] for r in turns[s]}):
            lanes.label(f"voice {voice[-3:]}", 9)
            mine = [r for r in turns[s] if r["speaker_id"] == voice]
            lanes.runs([(r["start_s"], r["end_s"], "voice", voice) for r in mine], 10)
        for sound in SOUNDS:
            if heard := _heard(events[s], sound):
                lanes.label(sound, 9)
                lanes.runs(heard, 10)
        if words[s]:
            lanes.label("words", 11)
            lanes.words([(w["start_s"], w["end_s"], w["word"] or f"({w['guess']}?)") for w in words[s]])
        cuts = [r["start_s"] for r in shots[s][1:]]
        drawing = lanes.finish(cuts, f"timeline of {names.get(s, s)}")
        outcome = decided.get(s, {})
        more = max(0, len(tracks[s]) - len(longest))
        facts = {"name": names.get(s, s), "id": s, "outcome": outcome, "duration": duration, "more": more}
        out.append({**facts, "drawing": drawing})
    return out


def _longest(tracks: list[dict[str, Any]], seen: set[str]) -> list[dict[str, Any]]:
    # Faces of a moment that nothing was measured of would only take room.
    shown = [r for r in tracks if r["track_id"] in seen or r["duration_s"] >= 1.0]
    return sorted(shown, key=lambda r: (-r["duration_s"], r["track_id"]))[:MAX_LANES]


def _curves(
    dataset: Dataset, table: Table, column: str, sources: list[str], tracks: list[str]
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
            out[track].append((k / 25.0, value))
    return out


def _heard(windows: list[dict[str, Any]], sound: str) -> list[tuple[float, float, str, str]]:
    """Return (start_s, end_s, CSS class, tooltip) of the stretches in which a sound is heard; windows overlap."""
    out: list[tuple[float, float, str, str]] = []
    for w in windows:
        if w[sound] < HEARD:
            continue
        start = out.pop()[0] if out and w["start_s"] <= out[-1][1] else w["start_s"]
        out.append((start, w["end_s"], "sound", f"{sound} {start:.1f}-{w['end_s']:.1f} s"))
    return out


def _with(partner: str) -> str:
    kind, _, name = partner.partition(":")
    return f"face {name[-4:]}" if kind == "track" else f"voice {name[-3:]}"


def _offset(sync: dict[str, Any] | None) -> str:
    """Return how late a track's sound is, in words."""
    if sync is None or sync["offset_ms"] is None:
        return "not measured"
    return f"{sync['offset_ms']:+.0f} ms ({sync['confidence']:.2f})"


def _strip(pictures: Pictures, track: dict[str, Any], duration_s: float) -> list[tuple[float, str]]:
    share = track["duration_s"] / max(duration_s, 1e-3)
    n = max(1, min(12, int(svg.Lanes.WIDTH * share / 60)))
    return pictures.spread(track["track_id"], track["start_s"], track["end_s"], n, 84)


def _tip(r: dict[str, Any], elsewhere: list[tuple[float, float, str]]) -> str:
    told = dict.fromkeys(x for a, b, x in elsewhere if a < r["end_s"] and b > r["start_s"])
    partner = f", with {', '.join(told) or r['partner']}" if told or r["partner"] else ""
    return (
        f"{r['state']} {r['start_s']:.2f}-{r['end_s']:.2f} s: {r['reason']}, confidence {r['confidence']:.2f}{partner}"
    )


def people(dataset: Dataset, pictures: Pictures) -> list[dict[str, Any]]:
    """Return identities with the reference images chosen for them."""
    con = dataset.connect(tables=[t.IDENTITIES, t.REFERENCES])
    chosen = _rows(
        con,
        'SELECT * FROM identities WHERE identity_id IN (SELECT identity_id FROM "references") '
        f"ORDER BY sha256(identity_id) LIMIT {MAX_PEOPLE}",
    )
    identities = {r["identity_id"]: r for r in chosen}
    refs: dict[str, dict[tuple[str, int], dict[str, Any]]] = defaultdict(dict)
    listed = ", ".join(f"'{i}'" for i in identities) or "NULL"
    first = (
        f'SELECT DISTINCT ON (identity_id, ref_track_id, ref_k) * FROM "references" WHERE identity_id IN ({listed}) '
        "ORDER BY identity_id, ref_track_id, ref_k, segment_id, kind, n"
    )
    for r in _rows(
        con,
        f"SELECT * FROM ({first}) QUALIFY row_number() OVER "
        f"(PARTITION BY identity_id ORDER BY ref_track_id, ref_k) <= {MAX_REFERENCES}",
    ):
        refs[r["identity_id"]][r["ref_track_id"], r["ref_k"]] = r
    out = []
    for i in sorted(identities):
        images = []
        for (track, k), r in sorted(refs[i].items()):
            uri = pictures.at(track, k)
            if uri is not None:
                images.append((uri, f"{r['kind']}: {r['view'].replace('_', ' ')}, {r['expression'].replace('_', ' ')}"))
        out.append({**identities[i], "images": images})
    return out


def facts(dataset: Dataset) -> dict[str, Any]:
    """Return the workflow, policy and weights in force, the speed of the stages, and the errors."""
    stored = dataset.store.read_json("workflow.json") or {}
    errors = dataset.table(t.ERRORS).to_pylist()
    names = _names(dataset.connect(tables=[t.INPUTS]), [e["source_id"] for e in errors])
    key = Markup('<span class="key"><i class="{}"></i>{}</span>')
    return {
        "workflow": stored.get("pipeline", {}),
        "policy": stored.get("policy", {}),
        "policy_id": stored.get("policy_id", ""),
        "speed": stage_speed(dataset),
        "errors": [{**e, "name": names.get(e["source_id"], "")} for e in errors],
        "legend": Markup("").join(key.format(x, x) for x in svg.STATES),
    }
