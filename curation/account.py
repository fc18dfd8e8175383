"""Write the ledger of a dataset: decisions, errors and balances, from its tables and commits."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curation.commits import commit_file, read_commit
from curation.dataset import Dataset
from curation.dataset_step import all_verdicts
from curation.decide import Verdicts
from curation.ledger import Balance, Progress, check, decide_all
from curation.register import read_registry
from curation.stage import WorkItem
from curation.step import Stepper
from curation.store import table_file
from schemas import tables as t
from schemas.policy import UnitKind
from schemas.units import UNITS


def next_stage(stepper: Stepper, source_id: str) -> str | None:
    """Return the first stage that has something to do for a source, or None; loads no model, touches no media."""
    pipeline = stepper.pipeline
    with stepper.remembering():
        for resolved in (*pipeline.before, *pipeline.windowed, *pipeline.after):
            items = [WorkItem(source_id)] if resolved.cls.unit == "source" else stepper.window_items(source_id)
            if any(stepper.has_work(resolved, item) for item in items):
                return resolved.name
        return None


def errors(stepper: Stepper, source_ids: list[str]) -> pa.Table:
    """Return the ERRORS table of some sources, from their commits."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for source_id in source_ids:
        for commit in stepper.source_commits(source_id):
            for e in commit.errors:
                row = {
                    "source_id": source_id, "stage": commit.stage, "unit_id": e.unit_id, "error": e.error,
                    "message": e.message, "traceback": e.traceback,
                }  # fmt: skip
                rows.setdefault((source_id, commit.stage, e.unit_id), row)
    return t.ERRORS.from_rows(rows.values())


def progress(stepper: Stepper, source_id: str) -> Progress:
    """Return how far a source has come."""
    out = Progress(missing=next_stage(stepper, source_id))
    for resolved in stepper.pipeline.after:
        cls = resolved.cls
        if cls.gate is None or cls.gate_mode == "any":
            continue
        commit = read_commit(stepper.store, commit_file(resolved.name, WorkItem(source_id), windowed=False))
        covered = set() if commit is None else set(commit.units)
        out.covered.setdefault(cls.gate, {})[resolved.name] = covered
    return out


def decisions(stepper: Stepper, verdicts: Verdicts | None = None) -> tuple[pa.Table, pa.Table]:
    """Return (DECISIONS, ERRORS) of the whole dataset under the stepper's policy; nothing is written."""
    inputs = read_registry(stepper.store)
    source_ids = sorted({str(s) for s in inputs["source_id"].to_pylist()})
    failed = errors(stepper, source_ids)
    state = {s: progress(stepper, s) for s in source_ids}
    return decide_all(inputs, verdicts or all_verdicts(stepper), failed.to_pylist(), state), failed


def write(stepper: Stepper) -> list[Balance]:
    """Decide the whole dataset, write DECISIONS and ERRORS, and return the balances.

    Raises:
        LedgerError: the conservation law does not hold.
    """
    table, failed = decisions(stepper)
    stepper.store.write_table(table_file(t.DECISIONS), t.DECISIONS, table)
    stepper.store.write_table(table_file(t.ERRORS), t.ERRORS, failed)
    return check(table, expected_units(Dataset(stepper.store.uri)))


def expected_units(dataset: Dataset) -> dict[UnitKind, list[str]]:
    """Return every id that must be accounted for: registered sources and all measured shots, tracks, segments."""
    out: dict[UnitKind, list[str]] = {}
    for kind, unit in UNITS.items():
        table = t.INPUTS if kind == "sources" else unit.table
        ids = {str(i) for i in dataset.table(table, [unit.id])[unit.id].to_pylist()}
        out[kind] = sorted(ids)
    return out
