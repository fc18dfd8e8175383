"""Steps over the whole dataset: stages that need every source at once (identities, references).

Each sees the tables of all live sources, filtered to live tracks and segments. Fingerprints work as for sources. A
stage that reads a table of its own gets what it wrote there the last time, whole: its memory. Memory is no part of the
fingerprint, so remembering is no reason to run; a run that was killed between tables and commit reads its own results
as memory, so such a stage must give the same again from what it gave.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from curation.dataset import Dataset
from curation.decisions import ledger
from curation.engine.attempts import told
from curation.engine.stage_call import Answer, Call, StageSetupError
from curation.engine.step import Stepper, after, result
from curation.engine.workflow import ResolvedStage
from curation.runs.cost import Watch
from curation.runs.steps import StepResult
from curation.stage import WorkItem
from curation.storage.commits import Commit, commit_file, fingerprint, read_commit, write_commit
from curation.storage.store import table_file
from schemas.settings.policy import UnitKind
from schemas.table import Table
from schemas.units import UNITS, chain


def dataset_step(stepper: Stepper, resolved: ResolvedStage) -> StepResult:
    """Run one dataset stage unless nothing it reads has changed.

    It has the limits of other stages, and is tried again where its process ends. A failure here is nobody's item: it
    ends the run as StageSetupError with the stage's own words.
    """
    watch = Watch()
    live = _live_units(stepper)
    # A stage sees the live units of its gate's kind and of the kinds above it; what lies below is whole, so that
    # what it finds there cannot depend on decisions that rest on what it finds.
    gate = resolved.cls.gate
    kinds = list(UNITS) if gate is None else chain(gate)
    keep = {UNITS[k].id: live[k] for k in kinds}
    sources, contents = _sources(stepper, resolved, keep["source_id"])
    item = WorkItem()
    name = commit_file(resolved.name, item, windowed=False)
    commit = read_commit(stepper.store, name)
    key = _fingerprint(stepper, resolved, contents, keep)
    if commit is None or commit.fingerprint != key or not stepper.intact(commit):
        remembered = frozenset(table.name for table in memory(resolved))
        answer = _answered(stepper, Call(resolved, item, "", keep, sources, remembered))
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
        done = result(resolved, "", None, ("ran", ""), watch.lap(), 0.0, answer, commit=new)
        stepper.log.put([done])
        write_commit(stepper.store, name, new)
        return done
    done = result(resolved, "", None, ("skipped", ""), watch.lap(), 0.0, None)
    stepper.log.put([done])
    return done


def _answered(stepper: Stepper, call: Call) -> Answer:
    """Call a stage until it is answered, or has ended without an answer as often as it may in a run.

    What it is called on is no item that could be quarantined, so nothing is put down, and the next run tries again.
    """
    call = replace(call, limits=stepper.limits(call))
    ended: list[str] = []
    answer = stepper.call(call)
    while answer.lost:
        ended.append(answer.lost)
        if len(ended) == call.resolved.resources.attempts:
            said = "" if answer.failed is None else f"; {answer.failed.message}"
            raise StageSetupError(
                f"stage {call.resolved.name!r} failed on the dataset: {told(ended)}{said}. Finished work is kept; "
                "give it more of `resources` in the workflow, or a larger machine, and run the same command again"
            )
        answer = after(answer, stepper.call(call))
    return answer


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


def _sources(
    stepper: Stepper, resolved: ResolvedStage, source_ids: Iterable[str]
) -> tuple[tuple[tuple[str, int], ...], dict[str, list[object]]]:
    """Return the sources that are not in quarantine with their windows, and the content of the tables read, by name.

    Each commit of a source is read once, bucket by bucket.
    """
    read = [x for x in resolved.cls.reads if x not in memory(resolved)]
    contents: dict[str, list[object]] = {
        x.name: [_content(stepper, table_file(x))] if x.grain == "dataset" else [] for x in read
    }
    out = []
    for _, bucket in itertools.groupby(sorted(source_ids), lambda source_id: source_id[:2]):
        with stepper.store.recalling(listing=True):
            for source_id in bucket:
                with stepper.remembering():
                    if any(c.status == "error" for c in stepper.source_commits(source_id)):
                        continue
                    n = stepper.source_windows(source_id)
                    out.append((source_id, n))
                    for x in (x for x in read if x.grain != "dataset"):
                        found = stepper.content(x, WorkItem(source_id, n_windows=max(1, n)))
                        contents[x.name].append([source_id, found])
    return tuple(out), contents


def _fingerprint(
    stepper: Stepper,
    resolved: ResolvedStage,
    contents: Mapping[str, list[object]],
    keep: Mapping[str, frozenset[str]],
) -> str:
    cls = resolved.cls
    kinds: list[UnitKind] = ["sources", "tracks", "segments"] if cls.gate is None else chain(cls.gate)
    return fingerprint(
        stage=cls.name,
        version=cls.version,
        settings=resolved.settings.model_dump(mode="json"),
        identity=stepper.provenance(resolved),
        upstream=contents,
        units={k: sorted(keep[UNITS[k].id]) for k in kinds},
    )


def _content(stepper: Stepper, file: str) -> str:
    try:
        return hashlib.sha256(stepper.store.read(file)).hexdigest()
    except FileNotFoundError:
        return ""
