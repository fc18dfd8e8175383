"""What the page shows, as plain values for the template. Bounded: a sample of units, whatever the dataset's size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa
from markupsafe import Markup

from curation.audit.precision import audit
from curation.dataset import Dataset
from curation.decisions.decide import view_sql
from curation.decisions.ledger import OUTCOMES, ledger_tables
from curation.decisions.rules import thresholds_of
from curation.decisions.survey import survey
from curation.pack.splits import split_shares, split_warnings
from curation.report import svg
from curation.report.pictures import Pictures
from curation.report.rows import read_rows, source_names
from curation.report.run_warnings import run_warnings
from curation.report.status import policy_in_force, stage_speed
from schemas import tables as t
from schemas.settings.policy import Policy, UnitKind
from schemas.tables.people import ReferenceRow
from schemas.units import packed_columns, view_columns

MAX_SOURCES = 24
_MAX_PEOPLE = 24
_MAX_REFERENCES = 10

Content = Mapping[str, object]
"""What the template shows of one thing, by the names that it uses."""


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
    funnel = [
        {"label": s.step.replace("_", " "), "percent": s.percent, "paper": s.paper,
         "said": f"{s.count} {'segment' if s.step == 'conversation' or s in f.states else 'shot'}"
                 f"{'' if s.count == 1 else 's'}, {s.seconds:.1f} s"}
        for s in (*f.steps, *f.states)
    ]  # fmt: skip
    sums = "SELECT count(*), coalesce(sum(duration_s), 0), count(DISTINCT identity_id) FROM manifest"
    ((samples, seconds, people),) = dataset.query(sums).fetchall()
    ((sources,),) = dataset.query("SELECT count(DISTINCT source_id) FROM inputs").fetchall()
    return {
        "samples": samples,
        "seconds": seconds,
        "people": people,
        "sources": sources,
        "funnel": funnel,
        "beside": f"{f.quarantined} shots in quarantine and {f.pending} pending are not in the bars.",
        "outcomes": OUTCOMES,
        "splits": t.SPLIT_SHARES.rows(split_shares(dataset)),
        "split_warnings": split_warnings(dataset),
        "run_warnings": run_warnings(dataset),
        "balances": found.balances,
        "audit": audit(dataset, policy_in_force(dataset)),
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


def people(dataset: Dataset, pictures: Pictures) -> list[Content]:
    """Return identities with the reference images chosen for them."""
    con = dataset.connect(tables=[t.IDENTITIES, t.REFERENCES])
    chosen = read_rows(
        con,
        t.IDENTITIES,
        'SELECT * FROM identities WHERE identity_id IN (SELECT identity_id FROM "references") '
        f"ORDER BY sha256(identity_id) LIMIT {_MAX_PEOPLE}",
    )
    identities = {r.identity_id: r for r in chosen}
    refs: dict[str, dict[tuple[str, int], ReferenceRow]] = defaultdict(dict)
    listed = ", ".join(f"'{i}'" for i in identities) or "NULL"
    first = (
        f'SELECT DISTINCT ON (identity_id, ref_track_id, ref_k) * FROM "references" WHERE identity_id IN ({listed}) '
        "ORDER BY identity_id, ref_track_id, ref_k, segment_id, kind, n"
    )
    for r in read_rows(
        con,
        t.REFERENCES,
        f"SELECT * FROM ({first}) QUALIFY row_number() OVER "
        f"(PARTITION BY identity_id ORDER BY ref_track_id, ref_k) <= {_MAX_REFERENCES}",
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
    names = source_names(dataset.connect(tables=[t.INPUTS]), [e.source_id for e in errors])
    key = Markup('<span class="key"><i class="{}"></i>{}</span>')
    return {
        "workflow": stored.get("pipeline", {}),
        "policy": stored.get("policy", {}),
        "policy_id": stored.get("policy_id", ""),
        "speed": stage_speed(dataset),
        "errors": [{**dict(e), "name": names.get(e.source_id, "")} for e in errors],
        "legend": Markup("").join(key.format(x, x) for x in t.LABEL_STATES),
    }
