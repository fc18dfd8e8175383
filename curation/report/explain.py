"""Everything known of one source, shot, track, segment or sample: measurements, every rule with its value, outcome.

Reads tables only. The answer is plain data, so that it prints as text and as JSON alike.
"""

from __future__ import annotations

import json
from typing import Any

from curation.dataset import Dataset
from curation.decisions.rules import columns_of, thresholds_of
from schemas import tables as t
from schemas.policy import Policy
from schemas.units import UNITS, Unit


class UnknownIdError(ValueError):
    """No unit of that id; the message says how to find one."""


def explain(dataset: Dataset, unit_id: str, policy: Policy) -> dict[str, Any]:
    """Return {"unit", "id", "decision", "rules", "measured", "parents", "children", "errors", "sample"}.

    `rules` lists every rule on the unit and on its parents with the measured values, thresholds and verdict.

    Raises:
        UnknownIdError: nothing in the dataset has this id.
    """
    # The id of a unit begins with that of its source, so the other sources' files need not be opened.
    con = dataset.connect(sources=[unit_id[:16]])
    unit = _find(con, unit_id)
    out: dict[str, Any] = {"unit": unit.kind.removesuffix("s"), "id": unit_id}
    decision = _rows(con, "SELECT * FROM decisions WHERE unit_id = ? AND unit = ?", [unit_id, unit.kind])
    out["decision"] = decision[0] if decision else None
    row = _one(con, unit, unit_id)
    out["measured"] = row
    out["rules"] = []
    chain: list[tuple[Unit, str]] = [(unit, unit_id)]
    while row is not None and (parent := chain[-1][0].parent) is not None:
        up = UNITS[parent]
        chain.append((up, str(row[up.id])))
    for u, i in reversed(chain):
        out["rules"] += _verdicts(con, u, i, policy)
    out["parents"] = {u.kind.removesuffix("s"): i for u, i in chain[1:]}
    out["children"] = _children(con, unit, unit_id)
    out["errors"] = _rows(con, "SELECT * FROM errors WHERE unit_id = ? OR source_id = ?", [unit_id, unit_id])
    out["labels"] = _labels(con, unit, row)
    if unit.kind == "sources":
        out["inputs"] = _rows(con, "SELECT * FROM inputs WHERE source_id = ?", [unit_id])
    if unit.kind == "segments":
        out["sample"] = next(iter(_rows(con, "SELECT * FROM manifest WHERE sample_id = ?", [unit_id])), None)
        out["references"] = _rows(con, 'SELECT * FROM "references" WHERE segment_id = ?', [unit_id])
    return out


def _find(con: Any, unit_id: str) -> Unit:
    for unit in UNITS.values():
        table = t.INPUTS if unit.kind == "sources" else unit.table
        if con.execute(f'SELECT 1 FROM "{table.name}" WHERE {unit.id} = ? LIMIT 1', [unit_id]).fetchone():
            return unit
    raise UnknownIdError(
        f"no source, shot, track, segment or sample {unit_id!r}; "
        'list ids with: lpm query DATASET "SELECT unit, unit_id, outcome FROM decisions"'
    )


def _labels(con: Any, unit: Unit, row: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the human labels on a unit: of its track where it has one, within its time."""
    if row is None:
        return []
    where, values = "source_id = ?", [row["source_id"]]
    if unit.kind in ("tracks", "segments"):
        where, values = where + " AND track_id = ?", [*values, row["track_id"]]
    if unit.kind != "sources":
        where, values = where + " AND start_s < ? AND end_s > ?", [*values, row["end_s"], row["start_s"]]
    return _rows(con, f"SELECT * FROM labels WHERE {where} ORDER BY start_s, labelled_at", values)


def _one(con: Any, unit: Unit, unit_id: str) -> dict[str, Any] | None:
    rows = _rows(con, f"SELECT * FROM units_{unit.kind} WHERE {unit.id} = ?", [unit_id])
    return rows[0] if rows else None


def _rows(con: Any, sql: str, values: list[Any]) -> list[dict[str, Any]]:
    cursor = con.execute(sql, values)
    names = [d[0] for d in cursor.description]
    return [{n: _plain(v) for n, v in zip(names, row, strict=True)} for row in cursor.fetchall()]


def _plain(value: Any) -> Any:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def _verdicts(con: Any, unit: Unit, unit_id: str, policy: Policy) -> list[dict[str, Any]]:
    out = []
    for rule in policy.on(unit.kind):
        columns = ", ".join(f'"{c}"' for c in columns_of(rule)) or "1 AS one"
        rows = _rows(
            con, f"SELECT ({rule.keep}) AS _keep, {columns} FROM units_{unit.kind} WHERE {unit.id} = ?", [unit_id]
        )
        keep = rows[0].pop("_keep") if rows else None
        out.append(
            {
                "rule": rule.id,
                "on": unit.kind.removesuffix("s"),
                "id": unit_id,
                "step": rule.step,
                "keep": rule.keep,
                "measured": rows[0] if rows else {},
                "thresholds": [f"{x.column} {x.operator} {x.value:g}" for x in thresholds_of(rule)],
                "verdict": {True: "pass", False: "fail", None: "not decided"}[keep],
                "why": rule.why,
            }
        )
    return out


def _children(con: Any, unit: Unit, unit_id: str) -> list[dict[str, Any]]:
    child = next((u for u in UNITS.values() if u.parent == unit.kind), None)
    if child is None:
        return []
    sql = (
        f"SELECT d.unit_id, d.duration_s, d.outcome, d.rule FROM decisions d JOIN {child.kind} c "
        f"ON d.unit_id = c.{child.id} AND d.unit = '{child.kind}' WHERE c.{unit.id} = ? ORDER BY 1"
    )
    return _rows(con, sql, [unit_id])


def as_text(answer: dict[str, Any]) -> str:
    """Return an explanation for people."""
    lines = [f"{answer['unit']} {answer['id']}"]
    d = answer["decision"]
    if d is not None:
        lines.append(
            f"outcome: {d['outcome']}" + (f" at {d['step']} by {d['rule']}: {d['reason']}" if d["reason"] else "")
        )
        if d["decided_by"] != answer["id"]:
            lines.append(f"decided by: {d['decided_by']}")
    lines += [f"{kind}: {i}" for kind, i in answer["parents"].items()]
    lines += [f"file: {i['path']}" for i in answer.get("inputs", [])]
    lines.append("rules:")
    for r in answer["rules"]:
        values = ", ".join(f"{k} = {_short(v)}" for k, v in r["measured"].items())
        lines.append(f"  {r['verdict']:>11}  {r['rule']} ({r['on']}, {r['step']}): {r['keep']}    [{values}]")
    for x in answer["labels"]:
        note = f" ({x['note']})" if x["note"] else ""
        where = f"{x['track_id']}, {x['start_s']:.2f}-{x['end_s']:.2f} s"
        lines.append(f"human label: {x['state']}, {where}, by {x['author']} at {x['labelled_at']}{note}")
    for e in answer["errors"]:
        lines += [f"error in {e['stage']}: {e['error']}: {e['message']}", *e["traceback"].splitlines()]
    if answer["measured"]:
        lines.append("measured:")
        lines += [
            f"  {k} = {_short(v)}" for k, v in answer["measured"].items() if not k.startswith(("source_", "shot_l"))
        ]
    for c in answer["children"]:
        lines.append(f"child {c['unit_id']}: {c['outcome']}" + (f" by {c['rule']}" if c["rule"] else ""))
    if answer.get("sample"):
        lines.append(f"sample in shard {answer['sample']['shard']}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."
