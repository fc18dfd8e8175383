"""What became of all units of a dataset, in one go over its slices: funnel, balances, reasons. No media is touched."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from curation.dataset import Dataset, Slice
from curation.decisions.funnel import Funnel, Tally
from curation.decisions.ledger import Balance, balances, mute, total
from schemas import tables as t
from schemas.table import Table
from schemas.units import UNITS

Reason = tuple[str, str, str, str]
"""Outcome, kind of unit, step, rule or error."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Sums over the whole dataset; `reasons` in order, with how many units and seconds of them."""

    funnel: Funnel
    balances: list[Balance]
    reasons: dict[Reason, tuple[int, float]]
    mute: list[str]
    """ids of units that were not kept, without a reason"""


def slices(dataset: Dataset) -> Iterator[tuple[Slice, duckdb.DuckDBPyConnection]]:
    """Yield every slice with its tables of units, registry, decisions and manifest in a connection of its own."""
    tables: list[Table[Any]] = [t.INPUTS, t.DECISIONS, t.MANIFEST, *(unit.table for unit in UNITS.values())]
    for part in dataset.slices(times=3):
        with contextlib.closing(dataset.connect(tables=tables, part=part)) as con:
            yield part, con


def survey(dataset: Dataset) -> Survey:
    """Go over the dataset once."""
    tally, parts, without = Tally(), [], []
    count: Counter[Reason] = Counter()
    seconds: dict[Reason, float] = {}
    for _, con in slices(dataset):
        tally.add(con)
        parts.append(balances(con))
        without += mute(con)
        rows = con.execute(
            "SELECT outcome, unit, coalesce(step, ''), coalesce(rule, ''), count(*), sum(duration_s) FROM decisions "
            "WHERE outcome <> 'kept' GROUP BY ALL"
        ).fetchall()
        for outcome, unit, step, rule, n, length in rows:
            key = (outcome, unit, step, rule)
            count[key] += n
            seconds[key] = seconds.get(key, 0.0) + length
    reasons = {key: (n, seconds[key]) for key, n in sorted(count.items())}
    return Survey(tally.funnel(), total(parts), reasons, without)
