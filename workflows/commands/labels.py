"""`lpm labels export | import`: timelines out to annotators' tools, corrected ones back in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curation.dataset import Dataset
from curation.labels import labels

app = typer.Typer(no_args_is_help=True, help="Human correction: timelines to annotators' tools and back.")
out = Console(soft_wrap=True)

Target = Annotated[str, typer.Argument(help="the dataset: a directory or an s3:// prefix")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="csv, json, rttm, elan, audacity or label-studio; default: by suffix")
]


@app.command("export")
def export_(
    dataset: Target,
    out_: Annotated[Path, typer.Option("--out", help="a file; a folder for ELAN or Audacity and several sources")],
    format_: FormatOption = None,
    source: Annotated[str | None, typer.Option(help="one source: id or file name")] = None,
) -> None:
    """Write the present timelines, human labels included."""
    opened = Dataset(dataset)
    source_id = None if source is None else labels.find_source(opened, source)
    for file in labels.export(opened, out_, labels.format_of(out_, format_), source_id):
        out.print(str(file), markup=False, highlight=False)


@app.command("import")
def import_(
    dataset: Target,
    files: Annotated[list[Path], typer.Argument(help="label files")],
    author: Annotated[str, typer.Option(help="who made the labels")],
    format_: FormatOption = None,
    changes_only: Annotated[bool, typer.Option(help="leave out what agrees with the present timeline")] = False,
) -> None:
    """Take labels in, all or none; the next `lpm run` uses them."""
    done = labels.take_in(Dataset(dataset), labels.read_files(files, format_), author, changes_only=changes_only)
    out.print(f"{done.added} labels added, {done.known} known already, {done.sources} sources changed")
    if done.nowhere:
        out.print(f"no face is followed where {done.nowhere} of them lie: check track_id, center_x, center_y and times")
    if done.sources:
        out.print(f"`lpm run --out {dataset}` uses them", markup=False, highlight=False)
