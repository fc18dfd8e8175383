"""Lists and samples of units, by SQL: filters, strata, a seed. Nothing but the rows that are shown comes to Python.

A sample takes the same number of units from every stratum, those whose hashed id and seed come first: the same question
to the same dataset draws the same units. A filter of one's own is one predicate, held to what a policy's rules are.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.audit.follow import followed
from curation.dataset import Dataset
from curation.decisions.decide import unit_tables, view_sql
from curation.decisions.rules import check_predicate, columns_of, thresholds_of
from curation.decisions.words import in_words
from schemas import columns as c
from schemas import tables as t
from schemas.column import Column
from schemas.row import Row
from schemas.settings.policy import Policy, Rule, UnitKind
from schemas.table import Table
from schemas.tables.audits import AuditRow
from schemas.units import RIGHTS, UNITS, view_columns

PAGE = 50
THRESHOLD = "threshold"
"""Among the strata: on which side of a rule's threshold a unit is, and how near."""
MOST = 500
"""Units of a sample."""


class DrawError(ValueError):
    """A list or sample that cannot be drawn; the message says why."""


class Draw(BaseModel):
    """What is asked for, as the page's address says it; empty = any."""

    model_config = ConfigDict(extra="forbid")

    unit: UnitKind = "segments"
    outcome: str = ""
    rule: str = ""
    state: str = ""
    source: str = Field(default="", description="id or file name")
    identity: str = ""
    judged: str = Field(default="", pattern="^(|no|others|me)$", description="by the author; others: by others alone")
    where: str = Field(default="", description="one SQL predicate over the unit's view and the columns below")
    by: tuple[str, ...] = Field(default=(), max_length=3, description="strata: columns, or threshold")
    of: str = Field(default="", description="the rule whose threshold is meant")
    n: int = Field(default=0, ge=0, le=200, description="units a stratum; 0 = a list of all")
    seed: int = 1
    page: int = Field(default=0, ge=0, le=1_000_000_000)


class DecidedRow(Row):
    """What a list knows of a unit besides its view."""

    outcome: Column[str] = c.text("kept, filtered, quarantined, or pending")
    rule: Column[str | None] = c.text("the rule that filtered it, or the error", null=True)
    step: Column[str | None] = c.text("funnel step, or the stage that failed", null=True)
    why: Column[str | None] = c.text("sentence for people", null=True)
    identity_id: Column[str | None] = c.text("person", null=True)
    file: Column[str | None] = c.text("name of the source's file", null=True)


class Drawn(BaseModel):
    """Ids in order with their strata; `total` is how many there are to list, and each stratum's size."""

    ids: list[str]
    strata: list[str]
    sizes: dict[str, int]
    total: int


def parse(values: dict[str, str]) -> Draw:
    """Return the question that an address asks. Raises DrawError."""
    try:
        given: dict[str, object] = {k: v for k, v in values.items() if v != ""}
        return Draw.model_validate({**given, "by": tuple(x for x in values.get("by", "").split(",") if x)})
    except ValidationError as e:
        first = e.errors()[0]
        raise DrawError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from e


def columns(kind: UnitKind) -> dict[str, Column[Any]]:
    """Return the columns that filters and strata may name."""
    view = {name: column for name, (_, column, _) in view_columns(kind).items()}
    return {**view, **{column.name: column for column in DecidedRow.columns}}


def drawn(dataset: Dataset, ask: Draw, policy: Policy | None, author: str) -> Drawn:
    """Return a page of the list, or a sample.

    Raises:
        DrawError, PolicyError: the question makes no sense.
    """
    known = columns(ask.unit)
    wanted, tests, values = _filters(ask, known)
    distance, needs = _distance(ask, policy) if THRESHOLD in ask.by else ("", ())
    for name in ask.by:
        if name != THRESHOLD and name not in known:
            raise DrawError(f"{ask.unit} have no {name!r} to be grouped by")
    wanted |= {*needs, *(x for x in ask.by if x != THRESHOLD)}
    con = dataset.connect(tables=_tables(ask.unit, wanted), shut=True)
    found = _found(ask.unit, wanted, known)
    if ask.judged:
        tests.append(_judged(con, dataset, ask.judged, author))
    chosen = f"SELECT * FROM ({found}) WHERE {' AND '.join(tests) or 'true'}"
    if not ask.n:
        ((total,),) = con.execute(f"SELECT count(*) FROM ({chosen})", values).fetchall()
        sql = f"SELECT unit_id FROM ({chosen}) ORDER BY unit_id LIMIT {PAGE} OFFSET {PAGE * ask.page}"
        ids = [str(i) for (i,) in con.execute(sql, values).fetchall()]
        return Drawn(ids=ids, strata=[""] * len(ids), sizes={}, total=total)
    parts = [distance if name == THRESHOLD else _part(name, known[name]) for name in ask.by]
    stratum = " || ' · ' || ".join(parts) or "'all'"
    grouped = f"SELECT unit_id, {stratum} AS stratum FROM ({chosen})"
    sql = (
        "SELECT unit_id, stratum, size FROM (SELECT unit_id, stratum, count(*) OVER (PARTITION BY stratum) AS size, "
        f"row_number() OVER (PARTITION BY stratum ORDER BY md5(unit_id || ' {ask.seed}'), unit_id) AS place "
        f"FROM ({grouped})) WHERE place <= {ask.n} ORDER BY stratum, place LIMIT {MOST}"
    )
    rows = con.execute(sql, values).fetchall()
    return Drawn(
        ids=[r[0] for r in rows], strata=[r[1] for r in rows], sizes={r[1]: r[2] for r in rows}, total=len(rows)
    )


def _filters(ask: Draw, known: dict[str, Column[Any]]) -> tuple[set[str], list[str], list[str]]:
    """Return the columns that are looked at, the tests, and the values that stand for their question marks."""
    wanted, tests, values = set[str](), list[str](), list[str]()
    for name, value in (
        ("outcome", ask.outcome),
        ("rule", ask.rule),
        ("state", ask.state),
        ("identity_id", ask.identity),
    ):
        if value:
            if name not in known:
                raise DrawError(f"{ask.unit} have no {name}")
            wanted.add(name)
            tests.append(f'"{name}" = ?')
            values.append(value)
    if ask.source:
        wanted.add("file")
        tests.append("(source_id = ? OR file = ?)")
        values += [ask.source, ask.source]
    if ask.where:
        wanted |= set(check_predicate(ask.where, known, "filter"))
        tests.append(f"coalesce(({ask.where}), false)")
    return wanted, tests, values


_DECISION = {"outcome": "outcome", "rule": "rule", "step": "step", "why": "reason"}


def _tables(kind: UnitKind, wanted: set[str]) -> list[Table[Any]]:
    own = wanted - {column.name for column in DecidedRow.columns}
    out: list[Table[Any]] = [t.DECISIONS, t.INPUTS]
    if own:
        out += [x for x in unit_tables() if x is not RIGHTS]
    if "identity_id" in wanted:
        out += [t.TRACK_IDENTITIES, UNITS[kind].table]
    return out


def _found(kind: UnitKind, wanted: set[str], known: dict[str, Column[Any]]) -> str:
    """Return the SELECT of all units of a kind with the wanted columns, and no table that these do not need."""
    unit = UNITS[kind]
    decided = {column.name for column in DecidedRow.columns}
    own = sorted(wanted - decided)
    select = ["d.unit_id", "d.source_id", *(f'd."{_DECISION[x]}" AS {x}' for x in sorted(wanted & _DECISION.keys()))]
    joins = ["FROM decisions d"]
    if own:
        select += [f'v."{x}"' for x in own if x not in ("unit_id", "source_id")]
        joins.append(
            f"LEFT JOIN ({view_sql(kind, '{}', presence=False, columns={unit.id, *own})}) v ON v.{unit.id} = d.unit_id"
        )
    if "file" in wanted:
        select.append("n.name AS file")
        names = "SELECT DISTINCT ON (source_id) source_id, name FROM inputs ORDER BY source_id, path"
        joins.append(f"LEFT JOIN ({names}) n ON n.source_id = d.source_id")
    if "identity_id" in wanted:
        if kind not in ("tracks", "segments"):
            raise DrawError(f"{kind} are nobody's: identity is of tracks and segments")
        select.append("i.identity_id")
        joins.append(
            f'LEFT JOIN (SELECT u.{unit.id} AS of_unit, i.identity_id FROM "{unit.table.name}" u '
            "JOIN track_identities i ON i.track_id = u.track_id) i ON i.of_unit = d.unit_id"
        )
    return f"SELECT {', '.join(select)} {' '.join(joins)} WHERE d.unit = '{kind}'"


def _judged(con: DuckDBPyConnection, dataset: Dataset, which: str, author: str) -> str:
    """Return the test of who judged a unit; verdicts are followed to the units that they are about now."""
    rows = t.AUDITS.rows(dataset.table(t.AUDITS)) if dataset.files(t.AUDITS) else []
    pairs = sorted({(now.unit_id, row.author) for row, now in followed(dataset, rows) if now is not None})
    con.register(
        "judged", pa.table({"unit_id": [i for i, _ in pairs], "author": [a for _, a in pairs]}, schema=_JUDGED)
    )
    name = author.replace("'", "''")
    mine = f"unit_id IN (SELECT unit_id FROM judged WHERE author = '{name}')"
    if which == "me":
        return mine
    return f"NOT {mine}" if which == "no" else f"unit_id IN (SELECT unit_id FROM judged) AND NOT {mine}"


_JUDGED = pa.schema([("unit_id", pa.string()), ("author", pa.string())])


def _part(name: str, column: Column[Any]) -> str:
    """Return the SQL of a column's part of the stratum: quarters of numbers, the first of a list, else the value."""
    if pa.types.is_floating(column.type):
        return (
            f"CASE WHEN \"{name}\" IS NULL THEN '{name}: none' ELSE '{name}: quarter ' || "
            f'ntile(4) OVER (PARTITION BY "{name}" IS NULL ORDER BY "{name}") END'
        )
    value = f'"{name}"[1]' if pa.types.is_list(column.type) else f'"{name}"'
    return f"coalesce(CAST({value} AS VARCHAR), 'no {name}')"


def _distance(ask: Draw, policy: Policy | None) -> tuple[str, tuple[str, ...]]:
    """Return the SQL of where a unit lies about a rule's threshold: its side, and which quarter of that by nearness."""
    rule = next((r for r in (policy.rules if policy else ()) if r.id == ask.of), None)
    if rule is None or rule.on != ask.unit:
        raise DrawError(f"nearness to a threshold is that of a rule: name one on {ask.unit} ({ask.of!r} is none)")
    margin = _margin(rule)
    side = f"CASE WHEN ({rule.keep}) THEN 'passes' ELSE 'fails' END"
    sql = (
        f"CASE WHEN ({margin}) IS NULL THEN '{rule.id}: not measured' ELSE '{rule.id}: ' || {side} || ', quarter ' || "
        f"ntile(4) OVER (PARTITION BY ({margin}) IS NULL, {side} ORDER BY abs({margin})) || ' from its threshold' END"
    )
    return sql, columns_of(rule)


def _margin(rule: Rule) -> str:
    """Return the SQL of how far a unit is from the nearest of a rule's thresholds, as a share of each."""
    parts = []
    for x in thresholds_of(rule):
        if x.operator in ("=", "<>"):
            continue
        parts.append(f'abs(CAST("{x.column}" AS DOUBLE) - {x.value!r}) / {abs(x.value) or 1.0!r}')
    if not parts:
        raise DrawError(f"rule {rule.id} compares no column with a number: it has no distance")
    return f"least({', '.join(parts)})" if len(parts) > 1 else parts[0]


class Listed(BaseModel):
    """A unit as the list shows it."""

    unit: str
    id: str
    source: str
    file: str
    start_s: float | None
    end_s: float | None
    track: str | None
    outcome: str
    rule: str | None
    why: str | None
    state: str | None
    confidence: float | None
    identity: str | None
    stratum: str = ""
    verdict: str | None = None
    what: list[str] = []
    others: int = 0


_TIMED = {
    "sources": "0.0, d.duration_s",
    "shots": "u.start_s, u.end_s",
    "tracks": "u.start_s, u.end_s",
    "segments": "u.start_s, u.end_s",
}


def described(
    dataset: Dataset, kind: UnitKind, ids: list[str], strata: list[str], author: str, policy: Policy
) -> list[Listed]:
    """Return the rows of some units, in the order given; opens the files of their sources alone."""
    unit, sources = UNITS[kind], {i[:16] for i in ids}
    tables: list[Table[Any]] = [t.DECISIONS, t.INPUTS, t.TRACK_IDENTITIES, unit.table]
    con = dataset.connect(tables=tables, sources=sources, shut=True)
    seg, track = kind == "segments", kind in ("tracks", "segments")
    timed = "0.0, d.duration_s" if kind == "sources" else "u.start_s, u.end_s"
    sql = (
        f"SELECT d.unit_id, d.source_id, {timed}, {'u.track_id' if track else 'NULL'}, d.outcome, d.rule, "
        f"{'u.state, u.reason, u.confidence' if seg else 'NULL, NULL, NULL'}, {'i.identity_id' if track else 'NULL'} "
        f'FROM decisions d LEFT JOIN "{unit.table.name}" u ON u.{unit.id} = d.unit_id '
        + ("LEFT JOIN track_identities i ON i.track_id = u.track_id " if track else "")
        + "WHERE d.unit = ? AND list_contains(?, d.unit_id)"
    )
    found = {r[0]: r for r in con.execute(sql, [kind, ids]).fetchall()}
    of_these = con.sql("SELECT * FROM decisions WHERE unit = $1 AND list_contains($2, unit_id)", params=[kind, ids])
    decided = {r.unit_id: r for r in t.DECISIONS.rows(of_these.to_arrow_table())}
    names = dict(con.execute("SELECT DISTINCT ON (source_id) source_id, name FROM inputs ORDER BY 1, path").fetchall())
    verdicts: dict[str, dict[str, AuditRow]] = {}
    audits = t.AUDITS.rows(dataset.table(t.AUDITS, sources=sources)) if dataset.files(t.AUDITS) else []
    for row, now in followed(dataset, sorted(audits, key=lambda a: a.judged_at)):
        if now is not None:
            verdicts.setdefault(now.unit_id, {})[row.author] = row
    out = []
    for i, stratum in zip(ids, strata, strict=True):
        if i not in found:
            continue
        _, source, start, end, track_id, outcome, rule, state, reason, confidence, identity = found[i]
        why = str(in_words(decided[i], policy, reason if decided[i].decided_by == i else None)) or None
        said = verdicts.get(i, {})
        mine = said.get(author)
        out.append(
            Listed(
                unit=kind, id=i, source=source, file=names.get(source, source), start_s=start, end_s=end,
                track=track_id, outcome=outcome, rule=rule, why=why, state=state, confidence=confidence,
                identity=identity, stratum=stratum, verdict=None if mine is None else mine.verdict,
                what=[] if mine is None else mine.what, others=len(said.keys() - {author}),
            )
        )  # fmt: skip
    return out
