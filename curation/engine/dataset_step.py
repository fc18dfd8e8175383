"""Steps over the whole dataset: stages that need every source at once (identities, references).

Each sees the tables of all live sources, filtered to live tracks and segments. Fingerprints work as for sources. A
stage that reads a table of its own gets what it wrote there the last time, whole: its memory. Memory is no part of the
fingerprint, so remembering is no reason to run; a run that was killed between tables and commit reads its own results
as memory, so such a stage must give the same again from what it gave.
"""

from __future__ import annotations

import contextlib
import hashlib
import time

from curation.dataset import Dataset
from curation.decisions import ledger
from curation.engine.stage_call import Call, StageSetupError
from curation.engine.step import Status, Stepper, StepResult, result
from curation.engine.workflow import ResolvedStage
from curation.stage import WorkItem
from curation.storage.commits import Commit, commit_file, fingerprint, read_commit, write_commit
from curation.storage.store import table_file
from schemas.policy import UnitKind
from schemas.table import Table
from schemas.units import UNITS, chain


def dataset_step(stepper: Stepper, resolved: ResolvedStage) -> StepResult:
    """Run one dataset stage unless nothing it reads has changed.

    A failure here is nobody's item: it ends the run as StageSetupError with the stage's own words.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    live = _live_units(stepper)
    # A stage sees the live units of its gate's kind and of the kinds above it; what lies below is whole, so that
    # what it finds there cannot depend on decisions that rest on what it finds.
    gate = resolved.cls.gate
    kinds = list(UNITS) if gate is None else chain(gate)
    keep = {UNITS[k].id: live[k] for k in kinds}
    sources = tuple((s, stepper.source_windows(s)) for s in sorted(keep["source_id"]) if not _failed(stepper, s))
    item = WorkItem()
    name = commit_file(resolved.name, item, windowed=False)
    commit = read_commit(stepper.store, name)
    key = _fingerprint(stepper, resolved, sources, keep)
    status: Status = "skipped"
    answer = None
    if commit is None or commit.fingerprint != key or not stepper.intact(commit):
        remembered = frozenset(table.name for table in memory(resolved))
        answer = stepper.call(Call(resolved, item, "", keep, sources, remembered))
        if answer.failed is not None:
            why = f"{answer.failed.error}: {answer.failed.message}"
            raise StageSetupError(f"stage {resolved.name!r} failed on the dataset: {why}")
        outputs = answer.outputs
        new = Commit(resolved.name, "", key, errors=outputs.errors)
        for table in resolved.cls.writes:
            rows = outputs.tables.get(table, table.empty())
            file = table_file(table)
            digest = stepper.store.write_table(file, table, rows)
            new.tables[table.name] = {"file": file, "sha256": digest, "rows": rows.num_rows}
        write_commit(stepper.store, name, new)
        status = "ran"
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    return result(resolved, "", None, (status, ""), wall_s, cpu_s, 0.0, answer)


def _live_units(stepper: Stepper) -> dict[UnitKind, frozenset[str]]:
    """Return the ids of all units of the dataset that pass with all their parents, found slice by slice."""
    dataset = Dataset(stepper.store.uri)
    out: dict[UnitKind, list[str]] = {kind: [] for kind in UNITS}
    for part in dataset.slices():
        with contextlib.closing(dataset.connect(tables=ledger.ledger_tables(), part=part, shut=True)) as con:
            for kind, ids in ledger.live(con, stepper.policy).items():
                out[kind] += ids
    return {kind: frozenset(ids) for kind, ids in out.items()}


def memory(resolved: ResolvedStage) -> set[Table]:
    """Return the tables that a stage both reads and writes: what it remembers of its last run."""
    return set(resolved.cls.reads) & set(resolved.cls.writes)


def _failed(stepper: Stepper, source_id: str) -> bool:
    return any(c.status == "error" for c in stepper.source_commits(source_id))


def _fingerprint(
    stepper: Stepper, resolved: ResolvedStage, sources: tuple[tuple[str, int], ...], keep: dict[str, frozenset[str]]
) -> str:
    cls = resolved.cls
    upstream: dict[str, list[object]] = {}
    for table in cls.reads:
        if table in memory(resolved):
            continue
        if table.grain == "dataset":
            file = table_file(table)
            upstream[table.name] = [_content(stepper, file)]
        else:
            upstream[table.name] = [[s, stepper.content(table, WorkItem(s, n_windows=max(1, n)))] for s, n in sources]
    kinds: list[UnitKind] = ["sources", "tracks", "segments"] if cls.gate is None else chain(cls.gate)
    return fingerprint(
        stage=cls.name,
        version=cls.version,
        settings=resolved.settings.model_dump(mode="json"),
        identity=stepper.provenance(resolved),
        upstream=upstream,
        units={k: sorted(keep[UNITS[k].id]) for k in kinds},
    )


def _content(stepper: Stepper, file: str) -> str:
    try:
        return hashlib.sha256(stepper.store.read(file)).hexdigest()
    except FileNotFoundError:
        return ""
