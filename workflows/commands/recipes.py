"""`lpm recipe export | replay`: a dataset without its media, and the media made again from the same sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curation.dataset import Dataset
from curation.engine.register import expand
from workflows.commands import jobs
from workflows.trust import TrustOption

app = typer.Typer(no_args_is_help=True, help="Publish a dataset without its media: what rebuilds it from its sources.")
out = Console(soft_wrap=True)


@app.command("export")
def export_(
    dataset: Annotated[str, typer.Argument(help="the dataset: a directory or an s3:// prefix")],
    out_: Annotated[Path, typer.Option("--out", help="an empty folder, or one to be made")],
    trust_code: TrustOption = False,
) -> None:
    """Write ids, hashes, times, decisions and policy of what is packed: no picture, no sound, no voice vector."""
    from workflows.recipe import export  # stages, and with them what decodes and encodes

    samples, sources = export(jobs.existing(dataset, trusted=trust_code), Dataset(dataset), out_)
    out.print(f"{samples} samples of {sources} sources in {out_}", markup=False, highlight=False)


@app.command("replay")
def replay_(
    folder: Annotated[Path, typer.Argument(metavar="RECIPE", help="folder of a recipe")],
    sources: Annotated[list[str], typer.Argument(help="the sources: files, folders, globs")],
    out_: Annotated[Path, typer.Option("--out", help="an empty folder, or one to be made")],
) -> None:
    """Make the samples again from the same sources; exit code 1 where a shard is not as it was."""
    from workflows.replay import replay

    done = replay(folder, expand(sources), out_)
    lines = [
        f"{done.samples} of {done.of} samples, {len(done.equal)} of {len(done.equal + done.unequal)} shards as before"
    ]
    lines += [f"drifted: {path} is not the source {source} any more" for source, path in done.drifted]
    lines += [f"missing: {source}" for source in done.missing]
    lines += [f"not made: {key} lacks references from {', '.join(ids)}" for key, ids in done.unmade.items()]
    lines += [f"made, but not as it was: {key}" for key in done.differing]
    lines += [f"not as it was: shards/{name}" for name in done.unequal]
    if done.unequal:
        lines += [
            f"{k} is {b or 'not here'}, the recipe was made with {a}" for k, (a, b) in done.other_versions.items()
        ]
    for line in lines:
        out.print(line, markup=False, highlight=False)
    if not done.whole:
        raise typer.Exit(1)
