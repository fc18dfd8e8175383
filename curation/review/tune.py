"""Move a rule's threshold: which units would come in and go out, by counts, by what people judged, and to be looked at.

What is affected is held in a table of its own once a rule is chosen: the units that its kind's rules let in, and those
that this rule alone or with others keeps out. A move of the threshold is then one query over two or three columns.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from curation.audit.follow import Present, followed
from curation.audit.interval import wilson
from curation.audit.precision import KEPT, RULE, answers
from curation.dataset import Dataset
from curation.decisions.decide import decision_sql, unit_tables, view_sql
from curation.decisions.rules import Threshold, check_policy, columns_of, thresholds_of
from curation.decisions.tune import moved, with_rule
from schemas import tables as t
from schemas.settings.policy import Policy, PolicyError, Rule
from schemas.tables.audits import AuditRow
from schemas.units import RIGHTS, UNITS, view_columns

BINS = 80
SHOWN = 8
"""Units of each side that are listed, the nearest to the threshold first."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A rule and one of its thresholds."""

    rule: Rule
    n: int

    @property
    def threshold(self) -> Threshold:
        """The threshold as the policy has it."""
        return thresholds_of(self.rule)[self.n]


def tunable(policy: Policy) -> list[dict[str, object]]:
    """Return the rules that have a threshold to be moved, with what is compared."""
    out: list[dict[str, object]] = []
    for rule in policy.rules:
        view = view_columns(rule.on)
        for n, x in enumerate(thresholds_of(rule)):
            if x.operator in ("=", "<>"):
                continue
            with contextlib.suppress(PolicyError):
                moved(rule, n, x.value)
                column = view[x.column][1]
                out.append(
                    {"rule": rule.id, "n": n, "on": rule.on, "column": x.column, "operator": x.operator,
                     "value": x.value, "unit": column.unit, "doc": column.doc, "keep": rule.keep, "why": rule.why}
                )  # fmt: skip
    return out


class Tuner:
    """Holds the units of the rule that is being tuned."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self._lock = dataset, threading.Lock()
        self._con: duckdb.DuckDBPyConnection | None = None
        self._of: tuple[str, str, int] | None = None

    def close(self) -> None:
        """Let go of the units."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._con is not None:
            self._con.close()
        self._con, self._of = None, None

    def move(
        self, policy: Policy, chosen: Chosen, value: float, low: float | None, high: float | None, fresh: bool
    ) -> dict[str, Any]:
        """Return what a threshold would do, with the histogram between two values (None = where most values lie).

        Raises:
            PolicyError: the threshold cannot have the value.
        """
        if not math.isfinite(value):
            raise PolicyError("a threshold is a number")
        new = moved(chosen.rule, chosen.n, value)
        check_policy(with_rule(policy, new))
        with self._held(policy, chosen, fresh) as con:
            con.execute(
                f"CREATE OR REPLACE TEMP VIEW now AS SELECT *, CASE WHEN side = 'in' AND old AND NOT new THEN 'leaves' "
                "WHEN side = 'out' AND new AND others THEN 'enters' WHEN side = 'out' AND new THEN 'other' "
                "WHEN side = 'in' THEN 'stays' ELSE 'out' END AS becomes FROM (SELECT *, "
                f"coalesce(({new.keep}), false) AS new FROM held)"
            )
            return {
                "value": value, "keep": new.keep, "counts": _counts(con), "judged": _judged(con),
                "histogram": _histogram(con, low, high, value, chosen.threshold.value),
                "enters": _nearest(con, "enters", value), "leaves": _nearest(con, "leaves", value),
            }  # fmt: skip

    @contextlib.contextmanager
    def _held(self, policy: Policy, chosen: Chosen, fresh: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        of = (policy.policy_id, chosen.rule.id, chosen.n)
        with self._lock:
            if fresh or of != self._of or self._con is None:
                self._drop()
                self._con = _hold(self._dataset, policy, chosen)
                self._of = of
            yield self._con


def _hold(dataset: Dataset, policy: Policy, chosen: Chosen) -> duckdb.DuckDBPyConnection:
    """Return a connection with the table `held`: side (in, out), the rule's columns, x, old, others, judged good."""
    rule, kind = chosen.rule, chosen.rule.on
    unit = UNITS[kind]
    con = dataset.connect(tables=[t.DECISIONS, t.INPUTS, *(x for x in unit_tables() if x is not RIGHTS)], shut=True)
    kinds = list(UNITS)
    below = [r.id for r in policy.rules if kinds.index(r.on) > kinds.index(kind)]
    con.execute(
        "CREATE TEMP TABLE side AS SELECT unit_id, outcome, duration_s AS lasts_s, "
        "CASE WHEN rule = ? AND outcome = 'filtered' AND decided_by = unit_id THEN 'out' ELSE 'in' END AS side "
        "FROM decisions WHERE unit = ? AND ((rule = ? AND decided_by = unit_id) OR outcome <> 'filtered' "
        "OR list_contains(?, rule))",
        [rule.id, kind, rule.id, below],
    )
    others = with_rule(policy, rule.model_copy(update={"keep": "true"}))
    con.execute(
        "CREATE TEMP TABLE free AS SELECT unit_id FROM "
        f"({decision_sql(others, kind)}) WHERE failed IS NULL "
        "AND unit_id IN (SELECT unit_id FROM side WHERE side = 'out')"
    )
    columns = columns_of(rule)
    named = ", ".join(f'v."{c}"' for c in columns)
    x = chosen.threshold.column
    con.execute(
        f'CREATE TEMP TABLE held AS SELECT s.*, {named}, CAST(v."{x}" AS DOUBLE) AS tuned_x, '
        f"coalesce(({rule.keep}), false) AS old, f.unit_id IS NOT NULL AS others, CAST(NULL AS BOOLEAN) AS good "
        f"FROM side s JOIN ({view_sql(kind, '{}', presence=False, columns={unit.id, *columns})}) v "
        f"ON v.{unit.id} = s.unit_id LEFT JOIN free f ON f.unit_id = s.unit_id"
    )
    good = _good(dataset, rule)
    if good:
        con.register("said", pa.table({"unit_id": list(good), "is_good": list(good.values())}))
        con.execute("UPDATE held SET good = is_good FROM said WHERE said.unit_id = held.unit_id")
        con.unregister("said")
    return con


def _good(dataset: Dataset, rule: Rule) -> dict[str, bool]:
    """Return by unit whether people found it good: a kept one in which nothing is wrong, or one wrongly left out."""
    rows = t.AUDITS.rows(dataset.table(t.AUDITS)) if dataset.files(t.AUDITS) else []
    newest: dict[str, tuple[AuditRow, Present]] = {}
    for row, now in followed(dataset, sorted(rows, key=lambda r: (r.verdict != "unsure", r.judged_at))):
        if now is not None and now.unit == rule.on:
            newest[now.unit_id] = (row, now)
    out: dict[str, bool] = {}
    for unit_id, (row, now) in newest.items():
        said = answers(row, now)
        if KEPT in said:
            out[unit_id] = said[KEPT]
        elif (RULE, rule.id) in said:
            out[unit_id] = not said[RULE, rule.id]
    return out


def _counts(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, float]]:
    rows = con.execute("SELECT becomes, count(*), sum(lasts_s) FROM now GROUP BY 1").fetchall()
    counts = {becomes: {"n": n, "s": seconds} for becomes, n, seconds in rows}
    ((kept, kept_s),) = con.execute(
        "SELECT count(*), coalesce(sum(lasts_s), 0) FROM now WHERE becomes = 'leaves' AND outcome = 'kept'"
    ).fetchall()
    counts["kept_leaves"] = {"n": kept, "s": kept_s}
    return counts


def _judged(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, object]]:
    """Return of each group how many judged ones are good, with the interval of the share."""
    groups = {
        "enters": "becomes = 'enters'", "leaves": "becomes = 'leaves'", "inside": "becomes IN ('stays', 'enters')",
        "outside": "becomes IN ('out', 'other', 'leaves')",
    }  # fmt: skip
    out: dict[str, dict[str, object]] = {}
    for name, test in groups.items():
        sql = f"SELECT count(*) FILTER (good), count(*) FROM now WHERE good IS NOT NULL AND {test}"
        ((good, n),) = con.execute(sql).fetchall()
        out[name] = {"good": good, "n": n, "interval": wilson(good, n)}
    return out


def _histogram(
    con: duckdb.DuckDBPyConnection, low: float | None, high: float | None, value: float, old: float
) -> dict[str, object]:
    """Return counts a bin of those inside and outside now; what lies beyond is in the first and last bin."""
    if low is None or high is None or not low < high:
        sql = "SELECT quantile_cont(tuned_x, 0.01), quantile_cont(tuned_x, 0.99) FROM held WHERE isfinite(tuned_x)"
        ((a, b),) = con.execute(sql).fetchall()
        low, high = min(x for x in (a, value, old) if x is not None), max(x for x in (b, value, old) if x is not None)
        margin = 0.06 * (high - low) or max(abs(high), 1e-6) * 0.5
        low, high = low - margin, high + margin
    sql = (
        "SELECT CAST(least(greatest(floor((tuned_x - ?) / ?), 0), ?) AS INTEGER) AS bin, side, count(*) FROM held "
        "WHERE isfinite(tuned_x) GROUP BY ALL"
    )
    rows = con.execute(sql, [low, (high - low) / BINS, BINS - 1]).fetchall()
    bins = {side: [0] * BINS for side in ("in", "out")}
    for i, side, n in rows:
        bins[side][i] = n
    ((unknown,),) = con.execute("SELECT count(*) FROM held WHERE tuned_x IS NULL OR NOT isfinite(tuned_x)").fetchall()
    return {"low": low, "high": high, "in": bins["in"], "out": bins["out"], "unknown": unknown}


def _nearest(con: duckdb.DuckDBPyConnection, becomes: str, value: float) -> list[str]:
    sql = "SELECT unit_id FROM now WHERE becomes = ? ORDER BY abs(tuned_x - ?), unit_id LIMIT ?"
    return [str(i) for (i,) in con.execute(sql, [becomes, value, SHOWN]).fetchall()]
