"""Ask every question of a measured dataset, and account for every clip that was found."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import duckdb
import pyarrow as pa

from curation.check.limits import Limits
from curation.check.rules import QUESTIONS, VIEWS, Question
from curation.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip as it was found.

    Attributes:
        clip: its name.
        path: its file, as it was registered; None where it cannot be read.
        reason: why it cannot be read.
        tracks: whether its two channels are speak and listen.
        identity: whom it is declared to show; what else is declared of it follows.
        facts_error: why its metadata cannot be read.
    """

    clip: str
    path: str | None = None
    reason: str | None = None
    tracks: bool = False
    declared_fps: float | None = None
    declared_rate_hz: float | None = None
    declared_duration_s: float | None = None
    declared_n_frames: float | None = None
    declared_state: str | None = None
    identity: str | None = None
    facts_error: str | None = None


class _Row(NamedTuple):
    """What a question gives."""

    clip: str
    other: str | None
    value: float | None
    expected: str | float | None
    start_s: float | None
    end_s: float | None
    method: str | None


_ARROW: dict[str, pa.DataType] = {
    "str": pa.string(), "float": pa.float64(), "bool": pa.bool_(), "str | None": pa.string(),
    "float | None": pa.float64(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one clip."""

    clip: str
    finding: str
    says: str
    measure: str
    value: float | None
    unit: str
    threshold: float | None
    expected: str | None
    other: str | None
    start_s: float | None
    end_s: float | None
    method: str
    heuristic: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check came to: found = checked + unreadable."""

    found: int
    checked: int
    unreadable: int
    findings: list[Finding]
    measured: pa.Table
    """a row a clip: what was declared and measured of it"""


def check(dataset: Dataset, clips: Sequence[Clip], limits: Limits, ignore: Collection[str] = ()) -> Checked:
    """Return what is wrong with clips whose files a run has measured.

    Args:
        dataset: where the run wrote.
        clips: all that were found.
        limits: from where on something is a finding.
        ignore: findings that are not asked for.
    """
    with contextlib.closing(dataset.connect()) as con:
        con.register("foreign_clips", as_table(Clip, clips))
        con.execute(VIEWS)
        found = _unreadable(con)
        n_unreadable = len(found)
        for question in QUESTIONS:
            if question.finding not in ignore:
                found += _ask(con, question, limits)
        ((checked,),) = con.execute("SELECT count(*) FROM clip").fetchall()
        measured = con.sql(_MEASURED).to_arrow_table()
    if checked + n_unreadable != len(clips):
        raise AssertionError(f"{len(clips)} clips found, {checked} checked, {n_unreadable} unreadable")
    if "unreadable" in ignore:
        found = found[n_unreadable:]
    order = {q.finding: n for n, q in enumerate(QUESTIONS)}
    found.sort(key=lambda f: (f.clip, order.get(f.finding, -1), f.start_s or 0.0))
    return Checked(len(clips), checked, n_unreadable, found, measured)


def _ask(con: duckdb.DuckDBPyConnection, question: Question, limits: Limits) -> list[Finding]:
    values = limits.model_dump()
    used = {name: values[name] for name in con.extract_statements(question.sql)[0].named_parameters}
    out = []
    asked = con.execute(question.sql, used)
    names = [d[0] for d in asked.description or ()]
    for row in (_Row(**dict(zip(names, values_, strict=True))) for values_ in asked.fetchall()):
        limit = values.get(question.limit)
        method = row.method or ""
        out.append(
            Finding(
                clip=row.clip,
                finding=question.finding,
                says=question.says.format(**row._asdict(), limit=limit),
                measure=question.measure,
                value=None if row.value is None else float(row.value),
                unit=question.unit,
                threshold=None if limit is None else float(limit),
                expected=None if row.expected is None else str(row.expected),
                other=row.other,
                start_s=row.start_s,
                end_s=row.end_s,
                method=method,
                heuristic="heuristic" in method or "xcorr" in method,
            )
        )
    return out


def _unreadable(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """Return the clips that no stage could read, with the reason of the first that failed."""
    rows = con.execute(
        """
        SELECT f.clip, coalesce(f.reason, min(e.message), 'it was not measured'), coalesce(min(e.stage), 'container')
        FROM foreign_clips f LEFT JOIN inputs i USING (path)
        LEFT JOIN errors e ON e.source_id = i.source_id AND e.unit_id = i.source_id
        WHERE f.clip NOT IN (SELECT clip FROM clip) GROUP BY f.clip, f.reason"""
    ).fetchall()
    return [
        Finding(
            clip=clip, finding="unreadable", says=reason, measure="errors.message", value=None, unit="", threshold=None,
            expected=None, other=None, start_s=None, end_s=None, method=stage, heuristic=False,
        )
        for clip, reason, stage in rows
    ]  # fmt: skip


def as_table(kind: type[Clip | Finding], rows: Sequence[Clip | Finding]) -> pa.Table:
    """Return clips or findings as Arrow, a row each."""
    columns = [(f.name, _ARROW[str(f.type)]) for f in fields(kind)]
    return pa.Table.from_pylist([asdict(r) for r in rows], pa.schema(columns))


_MEASURED = """
SELECT f.clip, f.reason, c.source_id IS NOT NULL AS checked, face.track_id, f.identity,
  f.declared_state, f.declared_fps, f.declared_rate_hz, f.declared_duration_s, s.duration_s, s.fps, s.width, s.height,
  s.has_audio, s.audio_rate_hz, s.audio_channels, s.audio_duration_s, a.silence_ratio, a.level_db, a.n_speakers,
  (SELECT count(*) FROM cuts WHERE cuts.source_id = c.source_id AND t_s > 0) AS n_cuts,
  (SELECT count(*) FROM tracks WHERE tracks.source_id = c.source_id) AS n_tracks,
  y.offset_ms, y.confidence AS offset_confidence, y.own_voice, y.evidence_s, p.own_s, p.foreign_s, p.unvoiced_s,
  i.identity_id AS measured_identity, d.near_duplicate_of
FROM foreign_clips f LEFT JOIN clip c USING (clip) LEFT JOIN sources s ON s.source_id = c.source_id
LEFT JOIN audio a ON a.source_id = c.source_id LEFT JOIN face ON face.source_id = c.source_id
LEFT JOIN sync y ON y.track_id = face.track_id LEFT JOIN spoken p ON p.track_id = face.track_id
LEFT JOIN track_identities i ON i.track_id = face.track_id LEFT JOIN duplicates d ON d.source_id = c.source_id
ORDER BY f.clip
"""
