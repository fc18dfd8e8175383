"""One run: register inputs, bring every source as far as it can go, then the dataset stages, ledger and catalog.

All checks that can fail come first (workflow, settings, policy, output, resources, models), before any item. The run
ends with the conservation law checked and everything recorded under runs/<run_id>/.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, cast

import pyarrow as pa

from curation.dataset import FORMAT_VERSION, Dataset, check_format
from curation.decisions import account
from curation.decisions.ledger import Balance
from curation.decisions.progress import next_stages, run_key
from curation.decisions.rules import check_policy
from curation.engine.breaker import Breaker
from curation.engine.dataset_step import dataset_step
from curation.engine.order import SourceWork, longest_first
from curation.engine.register import Named, register
from curation.engine.step import Stepper, StepResult
from curation.engine.user_code import record
from curation.engine.workflow import Pipeline, describe
from curation.forget.strip import keep_sources
from curation.pack.shards import ShardIndex
from curation.runs.log import RunLog
from curation.stage import WorkItem
from curation.storage.compaction import tidy
from curation.storage.head import Counted, Ended, Moving
from curation.storage.registry import gather, read_registry
from curation.storage.seal import sealing
from curation.storage.store import Store
from curation.storage.writers.lease import FILE as LEASE
from curation.storage.writers.lease import leased
from curation.storage.writers.lock import LockedError, lock
from schemas import tables as t
from schemas.document import data_contract
from schemas.extensions import own, to_json
from schemas.settings.policy import Policy
from schemas.tables.registry import InputRow


class RunStoppedError(RuntimeError):
    """The run cannot go on; the message says why and what to do. Finished work is kept."""


class MachineLeftOutError(RuntimeError):
    """A machine cannot do its part and gets no more of this run; the message names it. Others go on."""


@dataclass(frozen=True)
class Job:
    """Everything a worker needs; picklable."""

    store_uri: str
    pipeline: Pipeline
    policy: Policy
    retry: bool = False
    warnings: tuple[str, ...] = ()
    """what the run said at its start, for `status` and the report"""
    licences: Mapping[str, Mapping[str, str]] | None = None
    """of the models at work, by the setting that chooses them, where all were asked to be free for commercial use"""
    in_process: bool = False
    """run stages in the process that runs the steps, for debuggers; what ends it then ends the run"""
    run_id: str = ""

    def stepper(self) -> Stepper:
        """Open the store and return a stepper without models."""
        return Stepper(
            Store(self.store_uri), self.pipeline, self.policy, self.retry, run_id=self.run_id, apart=not self.in_process
        )


class Engine(Protocol):
    """Runs all source and window stages of the given sources, reporting each step."""

    name: str

    def run(self, job: Job, work: list[SourceWork], report: Callable[[StepResult], None]) -> None:
        """Bring every source through the pipeline.

        Raises:
            RunStoppedError, StoreError, StageSetupError.
            MachineLeftOutError: a machine was found unfit; what is left is to be given to the engine again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shards:
    """What packing came to."""

    index: ShardIndex
    status: Literal["written", "unchanged", "unwritten"]
    """unwritten: a dry run"""


@dataclass(slots=True)
class Outcome:
    """How a run ended."""

    run_id: str
    balances: list[Balance]
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(stage, status) -> steps"""
    packed: Shards | None = None
    """None = the workflow writes none"""

    @property
    def quarantined(self) -> int:
        """Sources, tracks or segments in quarantine."""
        return sum(b.counts["quarantined"] for b in self.balances)

    @property
    def pending(self) -> int:
        """Sources, tracks or segments that still have work to do."""
        return sum(b.counts["pending"] for b in self.balances)


Packer = Callable[[Job], Shards]
Event = Callable[[str, Any], None]


def run(
    job: Job,
    engine: Engine,
    named: list[Named],
    *,
    packer: Packer | None = None,
    event: Event = lambda kind, value: None,
    wait: bool = False,
) -> Outcome:
    """Run a workflow over a dataset; see the module's description.

    Args:
        job: dataset, pipeline and policy.
        engine: local or Ray.
        named: files to add; none = go on with what is registered.
        packer: assembles shards after the dataset stages; None = no shards.
        event: told ("forgotten", paths left out), ("work", sources), ("step", StepResult), ("phase", name),
            ("machine", a sentence on one that is left out) as they happen.
        wait: for another run on the same dataset to end, rather than to be refused.

    Raises:
        PolicyError, DatasetError, RunStoppedError, StageSetupError, StoreError, LedgerError.
    """
    check_policy(job.policy)
    store = Store(job.store_uri)
    there = is_there(store)
    with locked(store, wait=wait) as head:
        _open_dataset(store, job, there)
        store.remove_temporaries()
        run_id = time.strftime("%Y%m%dT%H%M%S") + "-" + uuid.uuid4().hex[:6]
        job = replace(job, run_id=run_id)
        log = RunLog(store, run_id, _facts(job, engine), job.warnings)
        told = _Told(job, Breaker(store), log, event)
        try:
            inputs = _registered(job, store, named, told)
            known = _Known(job, store, inputs, head, packs=packer is not None)
            balances, packed = _brought_up(job, store, engine, inputs, known, packer, told)
        except BaseException as e:
            log.close(f"{type(e).__name__}: {e}", [])
            if (said := log.unexpected(e)) is not None:
                raise RunStoppedError(said) from e
            raise
        log.close("done", balances)
        return Outcome(run_id, balances, told.steps, packed)


class _Told:
    """What a run tells of itself: counted, logged and handed on. `ended` are sources that are through their stages."""

    def __init__(self, job: Job, breaker: Breaker, log: RunLog, event: Event) -> None:
        self.steps: Counter[tuple[str, str]] = Counter()
        self.ended: set[str] = set()
        self._last = {s.name for s in job.pipeline.after[-1:]}
        self._breaker, self.log, self._event = breaker, log, event

    def report(self, result: StepResult) -> None:
        self.steps[result.stage, result.status] += 1
        if result.stage in self._last:
            self.ended.add(result.source_id)
        self._event("step", result)
        self._breaker.see(result)

    def tell(self, kind: str, value: Any) -> None:
        if kind == "phase":
            self.log.phase(str(value))
        self._event(kind, value)


def _registered(job: Job, store: Store, named: list[Named], told: _Told) -> pa.Table:
    """Return what is registered, with what is named and was not forgotten. Raises RunStoppedError: there is none."""
    told.tell("phase", "register")
    inputs = register(store, named) if named else read_registry(store)
    left_out = {n.path for n in named} - set(InputRow.path.values(inputs))
    if left_out:
        told.tell("forgotten", sorted(left_out))
    if inputs.num_rows == 0:
        why = "all that was named is forgotten" if left_out else "has no inputs yet"
        raise RunStoppedError(f"{job.store_uri}: {why}; name some files or folders")
    return inputs


def _brought_up(
    job: Job, store: Store, engine: Engine, inputs: pa.Table, known: _Known, packer: Packer | None, told: _Told
) -> tuple[list[Balance], Shards | None]:
    """Bring sources and dataset as far as they can go, where they are not there yet."""
    balances = known.balances()
    if balances is not None:
        told.tell("work", [])
        return balances, known.packed()
    drop_orphans(store, inputs)
    told.tell("phase", "plan")
    work = plan(job, inputs)
    told.tell("work", work)
    _work_off(job, engine, work, told)
    balances, packed = conclude(job, store, packer, told.report, told.tell)
    known.keep(balances)
    return balances, packed


def _work_off(job: Job, engine: Engine, work: list[SourceWork], told: _Told) -> None:
    """Give the engine all work, and what it leaves behind again, until nothing moves any more."""
    stuck: dict[str, str] = {}
    while work:
        told.tell("phase", "sources")
        try:
            engine.run(job, work, told.report)
        except MachineLeftOutError as e:
            told.log.warn(str(e))
            told.tell("machine", str(e))
            stuck = {}
        left, work = _left(job, [w for w in work if w.source_id not in told.ended])
        if left == stuck:
            return
        stuck = left


def conclude(
    job: Job, store: Store, packer: Packer | None, report: Callable[[StepResult], None], event: Event
) -> tuple[list[Balance], Shards | None]:
    """Do what concerns the dataset as a whole: its stages, ledger, shards, compaction, catalog."""
    stepper = job.stepper()
    gather(store)
    for resolved in job.pipeline.dataset:
        event("phase", resolved.name)
        report(dataset_step(stepper, resolved))
    event("phase", "compact")
    tidy(store)
    event("phase", "ledger")
    balances = account.write(stepper)
    packed = None
    if packer is not None:
        event("phase", "pack")
        packed = packer(job)
    Dataset(job.store_uri).write_catalog()
    return balances, packed


def plan(job: Job, inputs: pa.Table) -> list[SourceWork]:
    """Return the sources with something to do, in the order in which they are to be begun."""
    stepper = job.stepper()
    first = registered(inputs)
    return longest_first(w for w, _ in _waiting(stepper, first, first.keys() - account.ended(stepper)))


def _waiting(
    stepper: Stepper, first: Mapping[str, SourceWork], source_ids: Iterable[str]
) -> Iterator[tuple[SourceWork, str]]:
    """Yield the sources that have something to do, with what is known of them by now and the first stage that has."""
    by_name = {s.name: s for s in stepper.pipeline.stages}
    for _, bucket in itertools.groupby(sorted(source_ids), lambda source_id: source_id[:2]):
        with stepper.store.recalling(listing=True):  # what is listed of a bucket need not outlast it
            for source_id, stage in next_stages(stepper, list(bucket)):
                if stage is not None:
                    media_s = stepper.media_s(WorkItem(source_id))
                    cut_short = stepper.cut_short(by_name[stage], source_id)
                    yield replace(first[source_id], media_s=media_s, cut_short=cut_short), stage


def registered(inputs: pa.Table) -> dict[str, SourceWork]:
    """Return the sources of a registry by id; of equal files the first one."""
    first: dict[str, SourceWork] = {}
    for row in t.INPUTS.rows(inputs):
        first.setdefault(row.source_id, SourceWork(row.source_id, row.path, row.bytes))
    return first


def _left(job: Job, work: list[SourceWork]) -> tuple[dict[str, str], list[SourceWork]]:
    """Return the next stage, by id, of the sources that an engine did not bring to their end, and them in order.

    It lost workers, or a machine was left out.
    """
    first = {w.source_id: w for w in work}
    found = list(_waiting(job.stepper(), first, first))
    return {w.source_id: stage for w, stage in found}, longest_first(w for w, _ in found)


def _facts(job: Job, engine: Engine) -> dict[str, object]:
    """Return what a run is of, for its record."""
    return {
        "engine": engine.name,
        "pipeline": json.loads(describe(job.pipeline)),
        "policy": job.policy.model_dump(mode="json"),
        "policy_id": job.policy.policy_id,
        "commercial": job.licences is not None,
        "licences": job.licences,
    }


def is_there(store: Store) -> bool:
    """Tell whether there is a dataset, or could be one; writes nothing.

    Raises:
        DatasetError: there is one of another format.
        RunStoppedError: something else is there, or a file where a folder would have to be.
    """
    try:
        info = store.read_json("dataset.json")
    except NotADirectoryError as e:
        raise RunStoppedError(f"{store.uri} is a file, or lies in one; choose an empty or new --out") from e
    if info is not None:
        check_format(store.uri, info)
    elif not set(store.first(3)) <= {".lock", LEASE} and not store.exists("dataset.json"):
        raise RunStoppedError(f"{store.uri} exists and is not a dataset; choose an empty or new --out")
    return info is not None


def _open_dataset(store: Store, job: Job, there: bool) -> None:
    """Begin a dataset unless it is there, or another command has begun it since that was asked."""
    if not there and not is_there(store):
        store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    write_workflow(store, job)  # also finds out at once whether the output can be written


def write_workflow(store: Store, job: Job) -> None:
    """Record the workflow and policy in force in workflow.json, for later commands on the same dataset."""
    facts = {
        "workflow": job.pipeline.workflow.model_dump(mode="json"),
        "pipeline": json.loads(describe(job.pipeline)),
        "policy": job.policy.model_dump(mode="json"),
        "policy_id": job.policy.policy_id,
        "tables": [to_json(table) for table in own(job.pipeline.tables)],
        "code": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in job.pipeline.code.items()},
    }
    record(store, job.pipeline.code)
    store.write("data-contract.md", data_contract(own(job.pipeline.tables)).encode())
    store.write_json("workflow.json", facts, sort=False)  # stages run in the order they are written


def write_policy(store: Store, policy: Policy) -> None:
    """Record another policy in workflow.json; the workflow stays as it was run."""
    facts = store.read_json("workflow.json") or {}
    facts |= {"policy": policy.model_dump(mode="json"), "policy_id": policy.policy_id}
    store.write_json("workflow.json", facts, sort=False)


def drop_orphans(store: Store, inputs: pa.Table) -> None:
    """Remove tables, commits, clips and names of sources that no input refers to any more (replaced or forgotten)."""
    live = set(InputRow.source_id.values(inputs))
    kinds = [folder for top in ("commits", "tables", "faults") for folder in store.directories(top)]
    for bucket in (bucket for folder in (*kinds, "clips") for bucket in store.directories(folder)):
        for name in list(store.tables(bucket) if bucket.startswith("tables/") else store.names(bucket)):
            if "/bucket=" in name and name.rsplit("/", 1)[-1][:16] not in live:
                store.delete(name)
    keep_sources(store, t.REMEMBERED, live)


@contextlib.contextmanager
def locked(store: Store, *, wait: bool = False) -> Iterator[Moving | None]:
    """Hold the dataset alone, so that no two commands write it: by a lock that dies with the process, or a lease.

    Yields the dataset's head, which moves when the block ends; None inside another such block.

    Raises:
        RunStoppedError: another command holds it, and we do not `wait` for its end.
    """
    with _alone(store, wait=wait), sealing(store) as head:
        yield head


@contextlib.contextmanager
def _alone(store: Store, *, wait: bool) -> Iterator[None]:
    if store.uri.startswith("s3://"):
        with leased(store, wait=wait):
            yield
    elif store.local:
        try:
            with lock(store, wait=wait):
                yield
        except LockedError as e:
            raise RunStoppedError(str(e)) from e
    else:
        yield


class _Known:
    """What is known of a run from the one before, where nothing was written since: that it would have nothing to do.

    On object storage alone, where to look at every file is what a run costs then. Stages that were to be tried again
    are.
    """

    def __init__(self, job: Job, store: Store, inputs: pa.Table, head: Moving | None, *, packs: bool) -> None:
        self._store, self._head, self._packs = store, None if store.local or job.retry else head, packs
        self._key = "" if self._head is None else run_key(job.stepper(), inputs, packs=packs)

    def balances(self) -> list[Balance] | None:
        """Return what the ledger would say; None where that has to be found out."""
        before = None if self._head is None else self._head.before
        if self._head is None or before is None or before["key"] != self._key:
            return None
        self._head.ended = before
        return [Balance(**b) for b in before["balances"]]

    def packed(self) -> Shards | None:
        """Return what packing would come to."""
        index = ShardIndex.read(self._store) if self._packs else None
        return None if index is None else Shards(index, "unchanged")

    def keep(self, balances: list[Balance]) -> None:
        """Let the next run know, where nothing is left to do."""
        if self._head is not None and not any(b.counts["pending"] for b in balances):
            self._head.ended = Ended(key=self._key, balances=[cast(Counted, asdict(b)) for b in balances])
