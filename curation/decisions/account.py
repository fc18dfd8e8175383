"""Write the ledger of a dataset: decisions, errors and balances, from its tables and commits, slice by slice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset import Dataset
from curation.decisions import ledger
from curation.decisions.ledger import Balance
from curation.decisions.progress import ProgressReader
from curation.engine.step import Stepper
from curation.runs.scratch import scratch
from curation.storage.store import Store, table_file
from curation.storage.table_writer import Append, writing
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.table import Table
from schemas.tables.output import ErrorRow
from schemas.units import UNITS

Change = tuple[str, str, str, str]
"""Kind of unit, outcome before ("new" = it had none), outcome now, and the rule or stage that says so."""


@dataclass(slots=True)
class Decided:
    """The ledger's balance, and what became different from the decisions before."""

    balances: list[Balance] = field(default_factory=list)
    without_reason: list[str] = field(default_factory=list)
    pending: int = 0
    """units below sources that are not measured to the end"""
    counts: Counter[Change] = field(default_factory=Counter)
    seconds: dict[Change, float] = field(default_factory=dict)


def write(stepper: Stepper) -> list[Balance]:
    """Decide the whole dataset, write DECISIONS and ERRORS, and return the balances.

    Raises:
        LedgerError: the conservation law does not hold.
    """
    return decide(stepper).balances


def decide(stepper: Stepper, *, dry_run: bool = False) -> Decided:
    """Decide the whole dataset under the stepper's policy; see `decide_by`."""
    return decide_by(stepper.store, stepper.policy, ProgressReader.of(stepper), dry_run=dry_run)


def decide_by(store: Store, policy: Policy, progress: ProgressReader, *, dry_run: bool = False) -> Decided:
    """Decide the whole dataset under a policy, and write DECISIONS and ERRORS unless it is a dry run.

    Raises:
        LedgerError: the conservation law does not hold.
    """
    out = Decided()
    balances = []
    with _Output(store, dry_run) as output:
        for con, errors in _slices(store, policy, progress):
            balances.append(ledger.balances(con, "decided"))
            out.without_reason += ledger.mute(con, "decided")
            _compare(con, out)
            if not dry_run:
                output.append(con, t.ERRORS.from_rows(errors))
    out.balances = ledger.check(ledger.total(balances), out.without_reason)
    return out


def ended(stepper: Stepper) -> set[str]:
    """Return sources of which the ledger knows that no stage has anything to do for them under the stepper's policy.

    It knows where a run of the same program and workflow has ended before; then a million sources are told without a
    look at their commits. Others may have ended too.
    """
    progress = ProgressReader.of(stepper)
    if not progress.known:
        return set()
    out: set[str] = set()
    for con, _ in _slices(stepper.store, stepper.policy, progress):
        out |= {str(i) for (i,) in con.execute("SELECT source_id FROM waits WHERE missing IS NULL").fetchall()}
    return out


def _slices(
    store: Store, policy: Policy, progress: ProgressReader
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[ErrorRow]]]:
    """Yield a connection with the view `decided` and the rows of ERRORS, slice by slice."""
    dataset = Dataset(store.uri)
    for part in dataset.slices():
        tables = [*ledger.ledger_tables(), t.DECISIONS]
        with contextlib.closing(dataset.connect(tables=tables, part=part, shut=True)) as con:
            ids = con.execute("SELECT DISTINCT source_id FROM inputs").fetchall()
            known = progress.read(str(i) for (i,) in ids)
            known.register(con)
            errors = t.ERRORS.from_rows(known.errors)
            con.register("errors_now", errors)
            con.execute(
                "CREATE TABLE failed AS SELECT DISTINCT ON (unit_id) unit_id, stage, error, message FROM errors_now "
                "ORDER BY unit_id, source_id, stage"
            )
            ledger.judge(con, policy, progress.work)
            yield con, known.errors
    progress.close()


def _compare(con: duckdb.DuckDBPyConnection, out: Decided) -> None:
    rows = con.execute(
        "SELECT n.unit, coalesce(o.outcome, 'new') AS was, n.outcome, coalesce(nullif(n.rule, ''), n.step, ''), "
        "count(*), sum(n.duration_s) FROM decided n LEFT JOIN decisions o USING (unit, unit_id) "
        "WHERE was <> n.outcome OR (o.unit_id IS NOT NULL AND o.rule IS DISTINCT FROM n.rule) GROUP BY ALL"
    ).fetchall()
    for *change, count, seconds in rows:
        unit, was, now, why = (str(x) for x in change)
        key = (unit, was, now, why)
        out.counts[key] += count
        out.seconds[key] = out.seconds.get(key, 0.0) + seconds
    pending = "SELECT count(*) FROM decided WHERE outcome = 'pending' AND unit <> 'sources'"
    ((count,),) = con.execute(pending).fetchall()
    out.pending += count


class _Output(contextlib.ExitStack):
    """DECISIONS and ERRORS in the making.

    DECISIONS is sorted by kind, and all kinds are found slice by slice: all but the first wait in files of their own.
    """

    def __init__(self, store: Store, dry_run: bool) -> None:
        super().__init__()
        self._store, self._dry_run = store, dry_run
        self._first, *self._later = sorted(UNITS)

    def __enter__(self) -> _Output:
        super().__enter__()
        if not self._dry_run:
            self._decisions = self._open(t.DECISIONS)
            self._errors = self._open(t.ERRORS)
            self._folder = self.enter_context(scratch("ledger"))
            self._waiting = {k: pq.ParquetWriter(self._folder / k, t.DECISIONS.schema) for k in self._later}
        return self

    def _open(self, table: Table) -> Append:
        return self.enter_context(writing(self._store, table_file(table), table))

    def append(self, con: duckdb.DuckDBPyConnection, errors: pa.Table) -> None:
        """Take over what was decided of a slice."""
        self._errors(errors)
        columns = ", ".join(t.DECISIONS.column_names)
        for kind in (self._first, *self._later):
            sql = f"SELECT {columns} FROM decided WHERE unit = '{kind}' ORDER BY unit_id"
            rows = con.sql(sql).to_arrow_table().cast(t.DECISIONS.schema)
            if kind == self._first:
                self._decisions(rows)
            else:
                self._waiting[kind].write_table(rows)

    def __exit__(self, *error: object) -> bool:
        if not self._dry_run:
            for writer in self._waiting.values():
                writer.close()
            if error[0] is None:
                for kind in self._later:
                    for batch in pq.ParquetFile(self._folder / kind).iter_batches():
                        self._decisions(pa.Table.from_batches([batch]))
        return bool(super().__exit__(*error))  # type: ignore[arg-type]
