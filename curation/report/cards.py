"""Cards of single units: samples that were kept, with their clip; and what was left out, with what decided it.

Bounded: a few of each reason, chosen by hash, whatever the dataset's size; what they need is read of their sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duckdb import DuckDBPyConnection

from curation.dataset import Dataset
from curation.decisions.words import heading, in_words
from curation.report.clips import Clips
from curation.report.frames import Frames, Picture, Shown
from curation.report.pictures import Pictures
from curation.report.rows import read_rows, source_names
from curation.report.seen import looked_at
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.table import Table
from schemas.tables.output import DecisionRow
from schemas.tables.pairing import STATE_REASONS
from schemas.time import Interval

MAX_KEPT = 18
MAX_OUT = 40
EACH = 4
"""Cards of a reason, at most."""
MAX_EXCERPTS = 12
"""One of a reason plays, until so many do: encoding an excerpt is what takes longest here."""

Card = Mapping[str, object]


def kept(dataset: Dataset, frames: Frames, clips: Clips | None, pictures: Pictures) -> list[Card]:
    """Return some of the packed samples, each with its clip and the frame that it was cut from."""
    con = dataset.connect(tables=[t.MANIFEST, t.INPUTS])
    sql = f"SELECT * FROM manifest ORDER BY sha256(segment_id) LIMIT {MAX_KEPT}"
    samples = sorted(read_rows(con, t.MANIFEST, sql), key=lambda m: m.segment_id)
    names = source_names(con, [m.source_id for m in samples])
    out: list[Card] = []
    for m in samples:
        reason = "SELECT reason FROM segments WHERE segment_id = ?"
        said = frames.tables(m.source_id).execute(reason, [m.segment_id]).fetchone()
        shown = Shown("segments", m.segment_id, m.source_id, Interval(m.start_s, m.end_s), m.track_id)
        drawn = frames.of(shown)
        images = [] if _any(drawn) else pictures.spread(m.track_id, m.start_s, m.end_s, 3)
        out.append({
            **dict(m), "file": names.get(m.source_id, ""), "clip": clips.sample(m) if clips else None,
            "pictures": drawn, "images": images, "because": STATE_REASONS.get(said[0], "") if said else "",
        })  # fmt: skip
    return out


def left_out(
    dataset: Dataset, policy: Policy | None, frames: Frames, clips: Clips | None, pictures: Pictures
) -> tuple[int, list[Card]]:
    """Return how many units a rule or an error stopped by themselves, and a few of each reason, the commonest first."""
    con = dataset.connect(tables=[t.DECISIONS, t.INPUTS])
    own = "FROM decisions WHERE outcome IN ('filtered', 'quarantined') AND decided_by = unit_id"
    totals = con.execute(
        f"SELECT outcome, step, rule, count(*), sum(duration_s), list_sort(list(DISTINCT unit)) {own} "
        "GROUP BY ALL ORDER BY 4 DESC, 1, 2, 3"
    ).fetchall()
    # A few of each, in memory that does not grow with the rest.
    chosen = (
        f"SELECT unnest(arg_min({{'unit': unit, 'id': unit_id}}, sha256(unit_id || unit), {EACH})) AS u {own} "
        "GROUP BY outcome, step, rule"
    )
    rows = read_rows(
        con, t.DECISIONS,
        f"SELECT d.* FROM decisions d JOIN ({chosen}) c ON d.unit = c.u.unit AND d.unit_id = c.u.id ORDER BY unit_id",
    )  # fmt: skip
    names = source_names(con, [r.source_id for r in rows])
    groups: list[Card] = []
    room = MAX_OUT
    for n, (outcome, step, rule, count, seconds, units) in enumerate(totals):
        mine = [r for r in rows if (r.outcome, r.step, r.rule) == (outcome, step, rule)][:room]
        room -= len(mine)
        known = next((r for r in policy.rules if r.id == rule), None) if policy and outcome == "filtered" else None
        cards: list[Card] = []
        for r in mine:
            plays = n < MAX_EXCERPTS and not any(c["clip"] for c in cards)
            cards.append(_card(r, policy, names, frames, clips if plays else None, pictures))
        groups.append({
            "title": heading(known) if known else str(rule or "").replace("_", " "), "outcome": outcome, "rule": rule,
            "step": (step or "").replace("_", " "), "count": count, "seconds": seconds or 0.0, "units": units,
            "why": known.why if known else "", "keep": known.keep if known else "", "cards": cards,
        })  # fmt: skip
    return sum(x[3] for x in totals), groups


def _card(
    decision: DecisionRow, policy: Policy | None, names: Mapping[str, str], frames: Frames,
    clips: Clips | None, pictures: Pictures,
) -> Card:  # fmt: skip
    where, tracks, reason = _where(frames.tables(decision.source_id), decision)
    drawn, clip, images = [], None, []
    if where is not None or decision.outcome == "filtered":
        span = where or Interval(0.0, decision.duration_s)
        what = tuple(looked_at(policy, decision))
        only = tracks[0] if len(tracks) == 1 else None
        shown = Shown(decision.unit, decision.unit_id, decision.source_id, span, only, what)
        drawn = frames.of(shown)
        if clips is not None:
            clip = clips.excerpt(frames.file(decision.source_id), decision.unit_id, span)
        if not _any(drawn):
            images = [x for i in tracks[:2] for x in pictures.spread(i, span.start_s, span.end_s, 2)]
    return {
        **dict(decision), "file": names.get(decision.source_id, ""), "where": where, "pictures": drawn, "clip": clip,
        "images": images, "said": in_words(decision, policy, reason),
    }  # fmt: skip


def _any(drawn: Sequence[Picture]) -> bool:
    return any(p.drawing for p in drawn)


def _where(con: DuckDBPyConnection, decision: DecisionRow) -> tuple[Interval | None, Sequence[str], str | None]:
    """Return when a unit is, which tracks show it, and why a segment has its state."""
    places: dict[str, tuple[Table[Any], str, str, str]] = {
        "shots": (t.SHOTS, "shot_id", "NULL", "NULL"),
        "tracks": (t.TRACKS, "track_id", "track_id", "NULL"),
        "segments": (t.SEGMENTS, "segment_id", "track_id", "reason"),
    }
    if decision.unit not in places:
        return None, (), None
    table, key, track, reason = places[decision.unit]
    sql = f"SELECT start_s, end_s, {track}, {reason} FROM {table.name} WHERE {key} = ?"
    found = con.execute(sql, [decision.unit_id]).fetchone()
    if found is None:
        return None, (), None
    start_s, end_s, mine, why = found
    if decision.unit == "shots":
        held = con.execute("SELECT track_id FROM tracks WHERE shot_id = ? ORDER BY 1", [decision.unit_id]).fetchall()
        return Interval(start_s, end_s), [str(i) for (i,) in held], None
    return Interval(start_s, end_s), [mine], why
