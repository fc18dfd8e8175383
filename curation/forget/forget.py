"""Take sources out of a dataset for good, and prove that nothing of them is left.

Their tables, commits and clips go; log lines that name them are struck out; precomputed sets beside the shards lose the
shards that held them; whatever names them is cut out of the dataset's own tables and shards (`curation.forget.strip`).
None of this needs a model or the present version's tables. Then identities, references, sessions, ledger, shards,
report and card are made again without them, unless other sources wait for work, and every file is searched for their
ids. Their bytes are refused from then on: the FORGOTTEN table keeps their hash, with date and reason. A dataset that
forgot a source equals one that never had it. May be killed at any moment and run again. Costs a read of all that is
left, and writes the shards again; nothing is decoded or measured.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from curation.dataset import Dataset
from curation.decisions import progress
from curation.decisions.progress import next_stage
from curation.engine.register import read_forgotten
from curation.engine.run import Event, Job, Packer, conclude, drop_orphans, locked
from curation.engine.step import StageSetupError
from curation.forget.strip import strip
from curation.forget.traces import Proof, in_columns, search
from curation.labels.identities import present_name
from curation.storage import registry
from curation.storage.compaction import tidy
from curation.storage.seal import settle
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.tables.output import ManifestRow
from schemas.tables.registry import ForgottenRow, InputRow


class ForgetError(ValueError):
    """What is to be forgotten is not in the dataset; the message says what is."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A source that is to go, and what goes with it."""

    source_id: str
    paths: tuple[str, ...]
    samples: int


def find(dataset: Dataset, sources: Iterable[str], identities: Iterable[str] = ()) -> list[Doomed]:
    """Return the sources that ids, paths, file names and identities mean, sorted by id.

    An identity means every source in which its face was seen: the others in it were heard or seen together with it.
    Sources that were forgotten before are found by id, so that a stopped command can be finished.

    Raises:
        ForgetError: there is no such source or identity, or a file name is that of several sources.
    """
    inputs = t.INPUTS.rows(dataset.table(t.INPUTS))
    before = set(ForgottenRow.source_id.values(read_forgotten(dataset.store)))
    chosen: set[str] = set()
    for name in sources:
        ids = {r.source_id for r in inputs if name in (r.source_id, r.path)} or ({name} & before)
        ids = ids or {r.source_id for r in inputs if r.name == name}
        if not ids:
            raise ForgetError(
                f'no source {name!r}; `lpm query DATASET "SELECT source_id, path FROM inputs"` lists them'
            )
        if len(ids) > 1:
            raise ForgetError(f"{len(ids)} sources are called {name!r}: {', '.join(sorted(ids))}; name them by id")
        chosen |= ids
    for identity in identities:
        people = t.TRACK_IDENTITIES.rows(dataset.table(t.TRACK_IDENTITIES))
        name = present_name(dataset, identity)
        ids = {r.source_id for r in people if r.identity_id == name}
        if not ids:
            raise ForgetError(f'no identity {identity!r}; `lpm query DATASET "SELECT * FROM identities"` lists them')
        chosen |= ids
    packed = ManifestRow.source_id.values(dataset.table(t.MANIFEST, [ManifestRow.source_id]))
    paths = {i: tuple(r.path for r in inputs if r.source_id == i) for i in chosen}
    return [Doomed(i, paths[i], packed.count(i)) for i in sorted(chosen)]


def forget(
    job: Job, doomed: Sequence[Doomed], *, reason: str | None = None, packer: Packer | None = None,
    event: Event = lambda kind, value: None,
) -> Proof:  # fmt: skip
    """Take sources out and search for what may be left of them; see the module's description.

    Args:
        job: the dataset with its own pipeline and policy.
        doomed: as `find` returns them.
        reason: kept in the FORGOTTEN table.
        packer: assembles shards; None = the workflow writes none.
        event: told ("phase", name) as they happen.

    Raises:
        RunStoppedError: another command is writing the dataset.
        StageSetupError, StoreError, PackError: what is left cannot be put together; run the command again.
    """
    from curation.publish.card import renew
    from curation.report.page import write_report  # templates and charts, which finding and searching do not need

    store, ids = Store(job.store_uri), [d.source_id for d in doomed]
    with locked(store):
        store.remove_temporaries()  # what a killed command left half written may be of these sources
        # First of all, so that a stopped command can be finished and no run takes them in again.
        _record(store, doomed, reason, proven=False)
        inputs = registry.read_registry(store)
        left = inputs.filter(pc.invert(pc.is_in(InputRow.source_id.of(inputs), pa.array(ids, pa.string()))))
        registry.replace(store, left)
        _cut(store, ids, left, event)
        whole = _measured(job, left)
        if whole:
            conclude(job, store, packer, lambda step: None, event)
            event("phase", "report")
            write_report(Dataset(job.store_uri))
        else:
            tidy(store)
            Dataset(job.store_uri).write_catalog()
        if gone := renew(Dataset(job.store_uri), whole=whole):
            event("phase", f"{' and '.join(gone)} told of it and are gone: `lpm card` writes them again")
        event("phase", "search")
        settle(store)
        proof = replace(search(store, ids), whole=whole)
        _record(store, doomed, reason, proven=not proof.traces)
        return proof


def _cut(store: Store, ids: Sequence[str], left: pa.Table, event: Event) -> None:
    """Delete what is of these sources, and cut them out of what is of others too."""
    event("phase", "tables and clips")
    drop_orphans(store, left)
    event("phase", "precomputed sets")
    _precomputed(store, ids)
    event("phase", "logs")
    _logs(store, ids)
    event("phase", "shards")
    strip(store, ids)
    progress.forget(store)
    for name in list(store.names("report")):
        store.delete(name)


def _measured(job: Job, inputs: pa.Table) -> bool:
    """Say whether all sources are measured to the end by this version of the program, with the weights at hand."""
    stepper = job.stepper()
    try:
        return all(next_stage(stepper, s) is None for s in set(InputRow.source_id.values(inputs)))
    except StageSetupError:
        return False


def lift(store: Store, source_ids: Iterable[str]) -> int:
    """Let sources be taken in again; returns how many were forgotten before."""
    with locked(store):
        rows, ids = t.FORGOTTEN.rows(read_forgotten(store)), set(source_ids)
        kept = [r for r in rows if r.source_id not in ids]
        store.write_table(table_file(t.FORGOTTEN), t.FORGOTTEN, t.FORGOTTEN.from_rows(kept))
        return len(rows) - len(kept)


def _record(store: Store, doomed: Sequence[Doomed], reason: str | None, *, proven: bool) -> None:
    rows = {r.source_id: r for r in t.FORGOTTEN.rows(read_forgotten(store))}
    today = datetime.date.today().isoformat()
    for d in doomed:
        new = ForgottenRow(source_id=d.source_id, forgotten_on=today, reason=reason, samples=d.samples, proven=proven)
        rows[d.source_id] = rows[d.source_id].but(proven=proven) if d.source_id in rows else new
    store.write_table(table_file(t.FORGOTTEN), t.FORGOTTEN, t.FORGOTTEN.from_rows(rows.values()))


def _precomputed(store: Store, ids: Sequence[str]) -> None:
    """Delete precomputed shards that hold a sample of these; `lpm train precompute` makes what is missing again."""
    for name in list(store.names("precomputed", ".parquet")):
        if in_columns(store, name, ids):
            store.delete_file(name.removesuffix(".parquet") + ".tar")
            store.delete_file(name)


def _logs(store: Store, ids: Sequence[str]) -> None:
    """Strike out the lines of old runs that name these."""
    for name in list(store.names("runs", ".jsonl")):
        lines = store.read(name).decode().splitlines(keepends=True)
        kept = [line for line in lines if not any(i in line for i in ids)]
        if len(kept) != len(lines):
            store.write(name, "".join(kept).encode())
