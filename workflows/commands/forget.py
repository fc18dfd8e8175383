"""`lpm forget`: take sources or people out of a dataset, and prove it."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from curation.dataset import Dataset
from curation.forget.forget import ForgetError, find, lift
from curation.forget.forget import forget as forget_sources
from curation.pack.pack import pack as pack_shards
from curation.storage.store import Store
from schemas import tables as t
from workflows.commands.jobs import existing
from workflows.progress import RunProgress
from workflows.usage import UsageError


def forget(
    err: Console, out: Console, target: str, sources: list[str], identities: list[str], reason: str | None,
    *, yes: bool, dry_run: bool, trusted: bool = False,
) -> bool:  # fmt: skip
    """Take sources out and print the proof; return whether traces were left."""
    if not sources and not identities:
        raise UsageError("name what to forget: sources (id, path or file name), or --identity ID")
    job, doomed = existing(target, trusted=trusted), find(Dataset(target), sources, identities)
    for d in doomed:
        where = ", ".join(d.paths) or "(taken out before)"
        out.print(f"{d.source_id}: {d.samples} samples, from {where}", markup=False, highlight=False)
    if dry_run:
        return False
    if not yes:
        if not sys.stdin.isatty():
            raise ForgetError(f"{len(doomed)} sources would be taken out for good: add --yes to do it")
        typer.confirm(f"take {len(doomed)} sources out of {target} for good?", abort=True)
    packer = pack_shards if job.pipeline.writer(t.CLIPS) is not None else None
    with RunProgress(err, job.pipeline) as progress:
        proof = forget_sources(job, doomed, reason=reason, packer=packer, event=progress.event)
    for name in proof.traces:
        err.print(f"a trace is left in {name}", markup=False, highlight=False, style="red")
    out.print(
        f"searched {proof.files} files, {proof.bytes} bytes: "
        + (f"{len(proof.traces)} hold a trace" if proof.traces else "nothing is left of them"),
        highlight=False,
    )
    if not proof.whole:
        out.print(
            "other sources wait for work, for instance since this version of the program is newer: samples that named "
            f"what is gone left the shards too; `lpm run --out {target}` makes the dataset whole",
            highlight=False,
        )
    out.print("the files they came from, copies of the dataset and models trained on it are as they were")
    return bool(proof.traces)


def lift_all(out: Console, target: str, source_ids: list[str]) -> None:
    """Let forgotten sources be taken in again."""
    n = lift(Store(target), source_ids)
    if not n:
        raise ForgetError(f"none of {', '.join(source_ids)} is in the table `forgotten`")
    out.print(f"{n} sources may be taken in again")
