"""What each `lpm` command does, apart from parsing its arguments: build a job, call the engine, print.

`EXPECTED` lists the errors that are answers to the user: their message is the whole output, without a traceback.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from annotators.models import weights
from annotators.optional_parts import PartNotInstalledError
from curation import verify as vf
from curation.audit.audits import AuditError
from curation.audit.gate import below
from curation.audit.precision import audit
from curation.check.errors import CheckError
from curation.dataset import Dataset, DatasetError
from curation.decisions import account
from curation.decisions.ledger import LedgerError
from curation.decisions.progress import ProgressReader
from curation.decisions.rules import check_policy
from curation.engine.engine_local import LocalEngine
from curation.engine.program import stamp
from curation.engine.register import InputError, Named, expand
from curation.engine.run import Engine, Event, Job, Outcome, RunStoppedError, is_there, locked, write_policy
from curation.engine.run import run as run_job
from curation.engine.step import StageSetupError
from curation.engine.user_code import recorded
from curation.engine.workflow import WorkflowError, resolve
from curation.export.samples import ExportError
from curation.extras import not_installed
from curation.faults import fault_of
from curation.forget.forget import ForgetError
from curation.labels.formats import LabelError
from curation.labels.identities import IdentityError
from curation.listing import left_out
from curation.pack.pack import PackError
from curation.pack.pack import pack as pack_shards
from curation.pack.shards import ShardIndex
from curation.pack.splits import split_warnings
from curation.plan.rates import RatesError
from curation.publish.errors import PublishError, RecipeError, ReplayedError
from curation.pythons.find import OtherPythonError, check
from curation.report import explain as ex
from curation.search import SearchError
from curation.storage.compaction import tidy
from curation.storage.store import Store, StoreError
from curation.verify.part import Part
from schemas import tables as t
from schemas.printable import printable
from schemas.settings.policy import Policy, PolicyError, parse_policy
from schemas.settings.workflow import Workflow
from workflows import catalog
from workflows.commercial import LicenceError, check_commercial
from workflows.progress import RunProgress
from workflows.trust import TrustError, check_code, check_pythons
from workflows.usage import UsageError, path_answer

EXPECTED = (
    AuditError, CheckError, DatasetError, ex.UnknownIdError, ExportError, ForgetError, IdentityError, InputError,
    LabelError, LedgerError, LicenceError, OtherPythonError, PackError, PartNotInstalledError, PolicyError,
    PublishError, RatesError, RecipeError, ReplayedError, RunStoppedError, SearchError, StageSetupError, StoreError,
    TrustError, UsageError, WorkflowError, weights.WeightsMismatch, weights.WeightsNotFound,
)  # fmt: skip
_AGAIN = {
    "transient": "what it reads or writes cannot be reached; finished work is kept, run the same command again",
    "machine": "that is for want of something on this machine; mend it and run the same command again",
}


def answer(e: Exception, arguments: Iterable[str] = ()) -> str | None:
    """Return what a user who typed some arguments is told of an error, None where it is a fault of the program's."""
    if isinstance(e, EXPECTED):
        return str(e)
    if not isinstance(e, OSError):
        return None
    again = _AGAIN.get(fault_of(e))
    if again is None:
        return path_answer(e, arguments)
    return f"{str(e).strip().partition(chr(10))[0].rstrip('.')}; {again}"


def run(
    err: Console,
    out: Console,
    inputs: list[str],
    target: str,
    workflow: str | None,
    policy: str | None,
    engine: str,
    address: str | None,
    overrides: list[str],
    *,
    retry: bool,
    wait_for_nodes: bool,
    commercial: bool = False,
    wait: bool = False,
    in_process: bool = False,
    trusted: bool = False,
) -> tuple[int, int]:
    """Run a workflow; return how many units are in quarantine, and how many still have work to do."""
    is_there(Store(target))  # or could be, before any work
    job = replace(_job(target, workflow, policy, overrides, retry, trusted), in_process=in_process)
    for python in sorted({s.python for s in job.pipeline.stages if s.python}):
        check(python, ray=engine == "ray")
    if commercial:
        job = replace(job, licences=check_commercial(job.pipeline))
    named = _named(err, inputs, target)
    job = _warned(err, job)
    packer = pack_shards if job.pipeline.writer(t.CLIPS) is not None else None
    cores = 1.0 if engine == "local" else None if address is not None else float(os.cpu_count() or 1)
    with RunProgress(err, job.pipeline, cores) as progress:
        outcome = run_job(
            job, engine_named(engine, address, wait_for_nodes, progress.event), named, packer=packer,
            event=progress.event, wait=wait,
        )  # fmt: skip
    _print_outcome(err, out, job, outcome)
    return outcome.quarantined, outcome.pending


def _warned(err: Console, job: Job) -> Job:
    """Say which weaker models stand in for others; return the job with these warnings."""
    from workflows.stand_ins import sentence, stand_ins  # its models' runtimes take a second to import

    warnings = tuple(sentence(weight, weaker) for weight, weaker in stand_ins(job.pipeline).items())
    for said in warnings:
        err.print(f"warning: {said}", markup=False, highlight=False, style="yellow")
    return replace(job, warnings=warnings)


def _print_outcome(err: Console, out: Console, job: Job, outcome: Outcome) -> None:
    """Write the report; print what became of the sources, what was packed and what is left."""
    target, packed = job.store_uri, outcome.packed
    report(err, target)
    status(out, target)
    if packed is None:
        said = f"nothing packed, as no stage of workflow '{job.pipeline.workflow.name}' encodes clips"
    else:
        said = f"{packed.index.samples} samples in {len(packed.index.shards)} shards ({packed.status})"
    out.print(f"{said}; run {outcome.run_id}")
    _print_split_warnings(err, target)
    _print_quarantine(err, target)
    if outcome.pending:
        said = f"{outcome.pending} units still have work to do; run the same command to go on"
        err.print(said, markup=False, highlight=False, style="red")


def _named(err: Console, inputs: list[str], target: str) -> list[Named]:
    """Return the files that are named, and say what was left out. Raises InputError."""
    skipped: Counter[str] = Counter()
    named = expand(inputs, target, skipped)
    if named:
        said = "; ".join(filter(None, (f"{len(named)} files named", left_out(skipped))))
        err.print(said, markup=False, highlight=False)
    return named


def stopped(target: str, engine: str, address: str | None) -> str:
    """Return what is said of a run that was stopped by Ctrl-C: what of it is kept, and how to go on."""
    from curation.report.run_status import go_on, whats_next
    from curation.runs.newest import newest_run

    if _stored(target) is None:  # nothing is known of it yet
        return "lpm: stopped before anything was done; run the same command again"
    store = Store(target)
    said = whats_next(store, newest_run(store), go_on(target, engine, address))
    return f"lpm: stopped; {said} (`lpm status {target}` says how far it came)"


def engine_named(
    name: str, address: str | None, wait_for_nodes: bool = False, event: Event = lambda kind, value: None
) -> Engine:
    """Return an engine by its name, which tells `event` of what only it knows. Raises UsageError."""
    if name == "local":
        if address is not None:
            raise UsageError("--address is for --engine ray; the local engine has no cluster")
        return LocalEngine()
    if name != "ray":
        raise UsageError(f"no engine {name!r}; there are: ray, local")
    from curation.cluster.engine_ray import RayEngine  # importing Ray takes a second that other commands do not need

    return RayEngine(address, wait_for_nodes=wait_for_nodes, event=event)


def _job(
    target: str, workflow: str | None, policy: str | None, overrides: list[str], retry: bool, trusted: bool
) -> Job:
    stored = _stored(target) if workflow is None else None
    if stored is not None:
        spec = catalog.placed(Workflow.model_validate(stored["workflow"]))
        kept = parse_policy(stored["policy"], "workflow.json")
        code = recorded(Store(target))
        if not trusted:
            check_code(target, code, Path.cwd())
            check_pythons(target, spec, Path.cwd(), overrides)
        pipeline = resolve(spec, overrides, folder=Path.cwd(), code=code)
    else:
        pipeline, kept = catalog.pipeline(workflow or "conversation", overrides), None
        spec = pipeline.workflow
    chosen = catalog.policy(policy) if policy is not None else (kept or catalog.policy(spec.policy))
    check_policy(chosen)  # now that the tables of the user's own stages are known
    return Job(target, pipeline, chosen, retry)


def _stored(target: str) -> dict[str, Any] | None:
    stored: dict[str, Any] | None = Store(target).read_json("workflow.json")
    return stored


def existing(target: str, policy: str | None = None, *, trusted: bool = False) -> Job:
    """Return the job of a dataset that was run before, under its own workflow, or under another policy.

    Imports the code that the dataset keeps: `trusted`, or as it lies in the working directory too. Raises TrustError.
    """
    Dataset(target)
    _stored_or_refused(target)
    return _job(target, None, policy, [], retry=False, trusted=trusted)


def _stored_or_refused(target: str) -> dict[str, Any]:
    stored = _stored(target)
    if stored is None:
        raise DatasetError(f"{target} has no workflow.json; run `lpm run` on it first")
    return stored


def _policy(stored: dict[str, Any]) -> Policy:
    """Return the policy that a dataset keeps. Raises PolicyError where it could not be asked: it may be anybody's."""
    policy = parse_policy(stored["policy"], "workflow.json")
    check_policy(policy)
    return policy


def _print_split_warnings(err: Console, target: str) -> None:
    for said in split_warnings(Dataset(target)):
        err.print(f"warning: {said}", markup=False, highlight=False, style="yellow")


def _print_quarantine(err: Console, target: str) -> None:
    errors = t.ERRORS.rows(Dataset(target).table(t.ERRORS))
    names = {r.source_id: r.name for r in t.INPUTS.rows(Dataset(target).table(t.INPUTS))}
    for e in errors[:20]:
        text = f"quarantined {names.get(e.source_id, e.source_id)!r} in {e.stage}: {e.error}: {e.message}"
        err.print(text, markup=False, highlight=False, style="red")
    if len(errors) > 20:
        err.print(f'... and {len(errors) - 20} more: lpm query {target} "SELECT * FROM errors"', markup=False)


def status(out: Console, target: str) -> None:
    """Print funnel, ledger and speed."""
    from curation.report.status import render_status

    for part in render_status(Dataset(target)):
        out.print(part)


def gate(err: Console, target: str) -> bool:
    """Hold the dataset to the bounds of its policy; say what does not reach them and return whether all do."""
    dataset = Dataset(target)
    policy = _policy(_stored_or_refused(target))
    if not policy.audit:
        raise UsageError(
            f"policy {policy.name} names no bound, so nothing can be held to it; add `audit: {{state: 0.9}}` to a "
            f"policy of yours and `lpm decide {target} --policy FILE`"
        )
    said = below(audit(dataset, policy))
    for sentence in said:
        err.print(f"below its bound: {sentence}", markup=False, highlight=False, style="red")
    return not said


def explain(out: Console, target: str, unit_id: str, policy: str | None, as_json: bool) -> None:
    """Print everything known of one unit."""
    dataset = Dataset(target)
    asked = catalog.policy(policy) if policy is not None else _policy(_stored_or_refused(target))
    if policy is not None:
        check_policy(asked)
    answer = ex.explain(dataset, unit_id, asked)
    if as_json:
        sys.stdout.write(ex.as_json(answer) + "\n")
    else:
        out.print(ex.as_text(answer), markup=False, highlight=False)


def decide(out: Console, target: str, policy: str, dry_run: bool, trusted: bool = False) -> None:
    """Decide again and print what changes. Stages are imported only where what is known of them does not do."""
    Dataset(target)
    stored, store, chosen = _stored_or_refused(target), Store(target), catalog.policy(policy)
    check_policy(chosen)
    program = stamp(catalog.placed(Workflow.model_validate(stored["workflow"])), recorded(store))
    stepper = functools.cache(lambda: existing(target, policy, trusted=trusted).stepper())
    with contextlib.nullcontext() if dry_run else locked(store):
        progress = ProgressReader(store, program, stepper)
        if not dry_run:
            write_policy(store, chosen)
        decided = account.decide_by(store, chosen, progress, dry_run=dry_run)
    shown = RichTable("unit", "was", "becomes", "rule", "count", "seconds", title=f"policy {chosen.name}")
    for key, n in sorted(decided.counts.items()):
        shown.add_row(*key, str(n), f"{decided.seconds[key]:.1f}")
    out.print(shown if decided.counts else "nothing changes")
    if dry_run:
        return
    if decided.pending:
        out.print(
            f"{decided.pending} units came back and are not measured to the end: "
            f"`lpm run --out {target}` goes on with them"
        )
    else:
        out.print(f"`lpm pack {target}` writes the shards for it")


def pack(err: Console, out: Console, target: str, dry_run: bool = False, trusted: bool = False) -> None:
    """Write shards and manifest, or say what would be written for the decisions as they are."""
    job = existing(target, trusted=trusted)
    if dry_run:
        packed = pack_shards(job, dry_run=True)
        said = "nothing would change" if packed.status == "unchanged" else "would be written (bytes of the clips alone)"
        out.print(f"{_size(packed.index)}: {said}")
        return
    stepper = job.stepper()
    with locked(stepper.store):
        tidy(stepper.store)
        account.write(stepper)
        packed = pack_shards(job)
        Dataset(target).write_catalog()
    out.print(f"{_size(packed.index)}: {packed.status}")
    _print_split_warnings(err, target)


def _size(index: ShardIndex) -> str:
    return f"{index.samples} samples in {len(index.shards)} shards, {index.bytes} bytes"


def compact(out: Console, target: str, min_files: int) -> None:
    """Gather small table files into larger ones."""
    store = Dataset(target).store
    if min_files < 2:
        raise UsageError(f"--min-files must be at least 2, got {min_files}")
    with locked(store):
        done = tidy(store, min_files=min_files, progress=lambda name: out.print(name, markup=False, highlight=False))
        Dataset(target).write_catalog()
    out.print(f"{done.gathered} small files gathered into {done.written} larger ones; {done.cleared} old parts cleared")


def verify(
    out: Console, target: str, media: bool | None, tables: bool = False, root: str | None = None, mend: bool = False,
    share: float | None = None, seed: int = 0, trusted: bool = False,
) -> bool:  # fmt: skip
    """Check a dataset, or its tables only, mending first what can be mended; return whether problems are left.

    `media` None: packed samples are decoded too where the packages for it are here. `root` is the hash it must have.
    """
    from curation.verify.repair import check_not_replayed, opened

    if share is not None and (root is not None or mend):
        raise UsageError(
            "--part reads a part, which has no root and does not tell all that is to be mended: leave it out"
        )
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"--part {share:g} is no share of a dataset: say 0.02 for two hundredths of it")
    part = None if share is None else Part(share, seed)
    if tables and root is not None:
        raise UsageError("--root is the hash of the whole dataset; leave --tables out")
    check_not_replayed(Store(target))
    if mend and _repaired(out, target, trusted):
        return True
    without = next((p for p in ("av", "soundfile") if find_spec(p) is None), None)
    if media is None and not tables:
        media = without is None
        if without is not None:
            out.print(f"packed samples are not decoded: {not_installed(without)}", markup=False, highlight=False)
    elif media and without is not None:
        raise ModuleNotFoundError(name=without)
    found = vf.certify(
        opened(target),
        media=bool(media),
        packed=not tables,
        part=part,
        progress=lambda name: out.print(f"checking {name}", highlight=False),
    )
    problems = _say_problems(out, found.problems)
    for note in found.notes:
        out.print(f"note: {note}", markup=False, highlight=False, style="yellow")
    whole = "the tables are whole" if tables else "the dataset is whole"
    if part is not None:
        whole = f"nothing is wrong with what was looked at: {part}"
    out.print(f"{problems} problems" if problems else whole, highlight=False)
    if found.root is not None and not problems:
        out.print(f"root {found.root}", highlight=False)
    if root is not None and found.root != root.lower():
        said = f"its root is {found.root}, not {root}: this is not the dataset, or not the state of it, that was named"
        out.print(said, markup=False, highlight=False, style="red")
        return True
    return problems > 0


def _say_problems(out: Console, problems: list[vf.Problem]) -> int:
    for p in problems:
        out.print(f"{p.check}: {printable(p.what)}", markup=False, highlight=False, style="red")
    return sum(p.things for p in problems)


def _repaired(out: Console, target: str, trusted: bool) -> bool:
    """Mend a dataset; return whether something is left to be done before it can be whole."""
    from curation.verify.repair import marked, opened, ours, packable, repair

    store = Store(target)
    if not ours(store) and not store.exists("workflow.json"):
        Dataset(target)  # says why it is none, before anything is written
    if not trusted:
        check_code(target, recorded(store), Path.cwd())  # what is mended is packed again, by its stages
    with locked(store):
        if marked(store):
            out.print("dataset.json is written again")
        done = repair(opened(target), lambda said: out.print(printable(said), markup=False, highlight=False))
        _say_problems(out, done.left if done.withdrawn else [])
        if not done.withdrawn and (done.packing or done.deleted) and packable(store):
            job = existing(target, trusted=trusted)
            tidy(store)
            account.write(job.stepper())
            if job.pipeline.writer(t.CLIPS) is not None:
                packed = pack_shards(job)
                out.print(f"{_size(packed.index)}: {packed.status}")
            Dataset(target).write_catalog()
    if done.withdrawn:
        n = len(done.withdrawn)
        out.print(f"{n} {'steps are' if n > 1 else 'step is'} to be done again: run `lpm run --out {target}`")
    return bool(done.withdrawn)


def report(out: Console, target: str) -> None:
    """Write the report."""
    from curation.report.page import write_report

    out.print(f"report: {write_report(Dataset(target))}", markup=False, highlight=False)
