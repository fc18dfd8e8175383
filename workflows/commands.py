"""What each `lpm` command does, apart from parsing its arguments: build a job, call the engine, print.

`EXPECTED` lists the errors that are answers to the user: their message is the whole output, without a traceback.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table as RichTable

from annotators import weights
from curation import account
from curation import explain as ex
from curation import verify as vf
from curation.compaction import tidy
from curation.dataset import Dataset, DatasetError
from curation.engine_local import LocalEngine
from curation.label_formats import LabelError
from curation.ledger import LedgerError
from curation.pack import PackError
from curation.pack import pack as pack_shards
from curation.register import InputError, expand
from curation.rules import check_policy
from curation.run import Engine, Job, RunStoppedError, locked, write_workflow
from curation.run import run as run_job
from curation.step import StageSetupError
from curation.store import Store, StoreError
from curation.workflow import WorkflowError, resolve
from schemas import tables as t
from schemas.caption import PerformanceCaption
from schemas.policy import Policy, PolicyError, parse_policy
from schemas.sample import Sample
from schemas.table import Table
from schemas.units import UNITS, view_columns
from schemas.workflow import Workflow
from workflows import catalog
from workflows.progress import RunProgress
from workflows.train_sync import default_file, train_sync


class UsageError(ValueError):
    """An argument that makes no sense; the message says what does."""


EXPECTED = (
    DatasetError, ex.UnknownIdError, InputError, LabelError, LedgerError, PackError, PolicyError, RunStoppedError,
    StageSetupError, StoreError, UsageError, WorkflowError, weights.WeightsNotFound, weights.WeightsMismatch,
)  # fmt: skip


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
) -> int:
    """Run a workflow; return how many units are in quarantine."""
    job = _job(target, workflow, policy, overrides, retry)
    check_policy(job.policy)
    named = expand(inputs, None if "://" in target else str(Path(target).absolute()))
    if named:
        err.print(f"{len(named)} files named", highlight=False)
    with RunProgress(err, job.pipeline) as progress:
        outcome = run_job(
            job, _engine(engine, address, wait_for_nodes), named, packer=pack_shards, event=progress.event
        )
    report(err, target)
    status(out, target)
    packed = outcome.packed
    out.print(
        f"{packed['samples']} samples in {len(packed['shards'])} shards ({packed['status']}); run {outcome.run_id}"
    )
    _print_quarantine(err, target)
    return outcome.quarantined


def _engine(name: str, address: str | None, wait_for_nodes: bool) -> Engine:
    if name == "local":
        if address is not None:
            raise UsageError("--address is for --engine ray; the local engine has no cluster")
        return LocalEngine()
    if name != "ray":
        raise UsageError(f"no engine {name!r}; there are: ray, local")
    from curation.engine_ray import RayEngine  # importing Ray takes a second that other commands do not need

    return RayEngine(address, wait_for_nodes=wait_for_nodes)


def _job(target: str, workflow: str | None, policy: str | None, overrides: list[str], retry: bool) -> Job:
    stored = _stored(target)
    if workflow is None and stored is not None:
        spec = Workflow.model_validate(stored["workflow"])
        kept = parse_policy(stored["policy"], "workflow.json")
    else:
        spec, kept = catalog.workflow(workflow or "conversation"), None
    pipeline = resolve(spec, overrides)
    chosen = catalog.policy(policy) if policy is not None else (kept or catalog.policy(spec.policy))
    return Job(target, pipeline, chosen, retry)


def _stored(target: str) -> dict[str, Any] | None:
    stored: dict[str, Any] | None = Store(target).read_json("workflow.json")
    return stored


def _existing(target: str, policy: str | None = None) -> Job:
    Dataset(target)
    if _stored(target) is None:
        raise DatasetError(f"{target} has no workflow.json; run `lpm run` on it first")
    return _job(target, None, policy, [], retry=False)


def _print_quarantine(err: Console, target: str) -> None:
    errors = Dataset(target).table(t.ERRORS).to_pylist()
    names = {r["source_id"]: r["name"] for r in Dataset(target).table(t.INPUTS).to_pylist()}
    for e in errors[:20]:
        text = (
            f"quarantined {names.get(e['source_id'], e['source_id'])!r} in {e['stage']}: {e['error']}: {e['message']}"
        )
        err.print(text, markup=False, highlight=False, style="red")
    if len(errors) > 20:
        err.print(f'... and {len(errors) - 20} more: lpm query {target} "SELECT * FROM errors"', markup=False)


def status(out: Console, target: str) -> None:
    """Print funnel, ledger and speed."""
    from curation.status import render_status

    for part in render_status(Dataset(target)):
        out.print(part)


def query(out: Console, target: str, sql: str, format_: str, file: Path | None) -> None:
    """Run SQL and print or write the result."""
    if format_ not in {"table", "csv", "json", "parquet"}:
        raise UsageError(f"no format {format_!r}; there are: table, csv, json, parquet")
    relation = Dataset(target).query(sql)
    rows: pa.Table = relation.to_arrow_table()
    if format_ == "parquet":
        if file is None:
            raise UsageError("--format parquet needs --out FILE")
        pq.write_table(rows, file)
        return
    if format_ == "table" and file is None:
        out.print(_rich_table(rows))
        return
    if format_ == "csv":
        data = _csv(rows)
    elif format_ == "json":
        data = "".join(json.dumps(r, default=str, ensure_ascii=False) + "\n" for r in rows.to_pylist()).encode()
    else:
        text = Console(file=None, record=True, width=200)
        with text.capture() as capture:
            text.print(_rich_table(rows))
        data = capture.get().encode()
    if file is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        file.write_bytes(data)


def _csv(rows: pa.Table) -> bytes:
    # CSV has no lists: they become JSON text, which every reader can take apart again.
    columns: list[Any] = []
    for column in rows.columns:
        nested = pa.types.is_list(column.type) or pa.types.is_struct(column.type) or pa.types.is_map(column.type)
        if nested:
            columns.append(pa.array([json.dumps(v, default=str) for v in column.to_pylist()], pa.string()))
        else:
            columns.append(column)
    sink = pa.BufferOutputStream()
    pacsv.write_csv(pa.table(columns, names=rows.column_names), sink)
    return bytes(sink.getvalue().to_pybytes())


def _rich_table(rows: pa.Table, limit: int = 200) -> RichTable:
    table = RichTable(
        *rows.column_names, caption=f"{rows.num_rows} rows" + (f", {limit} shown" if rows.num_rows > limit else "")
    )
    for row in rows.slice(0, limit).to_pylist():
        table.add_row(*(_cell(v) for v in row.values()))
    return table


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def explain(out: Console, target: str, unit_id: str, policy: str | None, as_json: bool) -> None:
    """Print everything known of one unit."""
    job = _existing(target, policy)
    check_policy(job.policy)
    answer = ex.explain(Dataset(target), unit_id, job.policy)
    if as_json:
        sys.stdout.write(json.dumps(answer, default=str, ensure_ascii=False, indent=1) + "\n")
    else:
        out.print(ex.as_text(answer), markup=False, highlight=False)


def decide(out: Console, target: str, policy: str, dry_run: bool) -> None:
    """Decide again and print what changes."""
    job = _existing(target, policy)
    check_policy(job.policy)
    before = {(r["unit"], r["unit_id"]): r for r in Dataset(target).table(t.DECISIONS).to_pylist()}
    stepper = job.stepper()
    table, _ = account.decisions(stepper)
    changes: Counter[tuple[str, str, str, str]] = Counter()
    seconds: Counter[tuple[str, str, str, str]] = Counter()
    for r in table.to_pylist():
        old = before.get((r["unit"], r["unit_id"]))
        was = old["outcome"] if old else "new"
        if was != r["outcome"] or (old is not None and old["rule"] != r["rule"]):
            key = (r["unit"], was, r["outcome"], str(r["rule"] or r["step"] or ""))
            changes[key] += 1
            seconds[key] += r["duration_s"]  # type: ignore[assignment]
    shown = RichTable("unit", "was", "becomes", "rule", "count", "seconds", title=f"policy {job.policy.name}")
    for key, n in sorted(changes.items()):
        shown.add_row(*key, str(n), f"{seconds[key]:.1f}")
    out.print(shown if changes else "nothing changes")
    if dry_run:
        return
    with locked(stepper.store):
        write_workflow(stepper.store, job)
        account.write(stepper)
    pending = sum(r["outcome"] == "pending" for r in table.to_pylist() if r["unit"] != "sources")
    if pending:
        out.print(
            f"{pending} units came back and are not measured to the end: `lpm run --out {target}` goes on with them"
        )
    else:
        out.print(f"`lpm pack {target}` writes the shards for it")


def pack(out: Console, target: str) -> None:
    """Write shards and manifest."""
    job = _existing(target)
    stepper = job.stepper()
    with locked(stepper.store):
        account.write(stepper)
        packed = pack_shards(job)
        tidy(stepper.store)
        Dataset(target).write_catalog()
    out.print(
        f"{packed['samples']} samples in {len(packed['shards'])} shards, {packed['bytes']} bytes: {packed['status']}"
    )


def compact(out: Console, target: str, min_files: int) -> None:
    """Gather small table files into larger ones."""
    store = Dataset(target).store
    if min_files < 2:
        raise UsageError(f"--min-files must be at least 2, got {min_files}")
    with locked(store):
        done = tidy(store, min_files=min_files, progress=lambda name: out.print(name, markup=False, highlight=False))
        Dataset(target).write_catalog()
    out.print(f"{done.gathered} small files gathered into {done.written} larger ones; {done.cleared} old parts cleared")


def verify(out: Console, target: str, media: bool) -> bool:
    """Check a dataset; return whether problems were found."""
    problems = vf.verify(
        Dataset(target), media=media, progress=lambda name: out.print(f"checking {name}", highlight=False)
    )
    for p in problems:
        out.print(f"{p.check}: {p.what}", markup=False, highlight=False, style="red")
    out.print(f"{len(problems)} problems" if problems else "the dataset is whole", highlight=False)
    return bool(problems)


def report(out: Console, target: str) -> None:
    """Write the report."""
    from curation.report import write_report

    out.print(f"report: {write_report(Dataset(target))}", markup=False, highlight=False)


_MODELS: dict[str, type[BaseModel]] = {
    "sample": Sample, "caption": PerformanceCaption, "policy": Policy, "workflow": Workflow,
}  # fmt: skip


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a table, a rule's view (units_<kind>), or a model."""
    if name == "list":
        views = [f"units_{k}" for k in UNITS]
        return {"models": sorted(_MODELS), "tables": sorted(t.TABLES), "views": views}
    if name in _MODELS:
        return _MODELS[name].model_json_schema()
    if name in t.TABLES:
        return table_schema(t.TABLES[name])
    if name.startswith("units_") and name[6:] in UNITS:
        kind = next(k for k in UNITS if k == name[6:])
        columns = {n: column for n, (_, column, _) in view_columns(kind).items()}
        return {"title": name, "type": "object", "properties": {n: _column_schema(c) for n, c in columns.items()}}
    raise UsageError(f"no schema {name!r}; `lpm schema list` names them all")


def table_schema(table: Table) -> dict[str, Any]:
    """Return the JSON Schema of one row of a table."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": table.name,
        "description": table.doc,
        "type": "object",
        "properties": {c.name: _column_schema(c) for c in table.columns},
        "required": list(table.column_names),
        "additionalProperties": False,
        "key": list(table.key),
    }


def _column_schema(c: Any) -> dict[str, Any]:
    kind = _json_type(c.type)
    if c.nullable:
        kind = {**kind, "type": [kind["type"], "null"]}
    return {**kind, "description": c.doc + (f" [{c.unit}]" if c.unit else "")}


def _json_type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"type": "array", "items": _json_type(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"type": "object", "properties": {f.name: _json_type(f.type) for f in kind}}
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    if pa.types.is_floating(kind):
        return {"type": "number"}
    if pa.types.is_binary(kind):
        return {"type": "string", "contentEncoding": "base64"}
    return {"type": "string"}


def models_list(out: Console) -> None:
    """Print the registry of weights."""
    table = RichTable("name", "MB", "licence", "needed", "here", "about")
    for name, w in weights.registry().items():
        found = weights.find(name)
        table.add_row(
            name, f"{w.size / 1e6:.1f}", w.licence, "optional" if w.optional else "required",
            "yes" if found else "no", w.about,
        )  # fmt: skip
    out.print(table)


def models_fetch(out: Console, names: list[str]) -> None:
    """Fetch weights by name, or all required ones."""
    known = weights.registry()
    unknown = [n for n in names if n not in known]
    if unknown:
        raise UsageError(f"no weight {unknown[0]!r}; there are: {', '.join(known)}")
    for name in names or [n for n, w in known.items() if not w.optional]:
        out.print(f"{name}: ", end="", markup=False, highlight=False)
        out.print(str(weights.resolve(name)), markup=False, highlight=False)


def models_path(name: str) -> Path:
    """Return the path of a weight or demo file, fetching it when needed."""
    if name not in weights.registry():
        raise UsageError(f"no weight {name!r}; `lpm models list` names them")
    return weights.resolve(name)


def models_check(out: Console) -> bool:
    """Check weights; return whether a required one is missing or wrong."""
    bad = False
    for s in weights.check():
        out.print(f"{s.state:>8}  {s.weight.name}  {s.detail}", markup=False, highlight=False)
        bad = bad or s.state == "wrong" or (s.state == "missing" and not s.weight.optional)
    return bad


def models_train_sync(out: Console, target: str, file: Path | None, max_hours: float) -> None:
    """Fit the lip-audio sync on a dataset's talkers and print how people held out fare."""
    where = file or default_file()
    try:
        found = train_sync(target, where, max_hours)
    except ValueError as e:
        raise UsageError(f"cannot train on {target}: {e}") from e
    out.print(f"{found.clips} stretches, {found.people} people, {found.hours:.2f} h")
    table = RichTable("features", "window s", "own voice against others, AUC", "lag within 2 frames")
    for kind, rows in found.held_out.items():
        for h in rows:
            table.add_row(kind, f"{h.window_s:g}", f"{h.auc:.3f}", f"{h.hits:.3f}")
    out.print(table)
    out.print(f"written: {where}", markup=False, highlight=False)
