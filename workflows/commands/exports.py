"""`lpm export | import`: packed samples and timelines in the forms that other tools read, and corrections back."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curation.dataset import Dataset
from curation.export import fiftyone, lerobot
from curation.export.samples import selected
from curation.labels import label_studio, labels

out = Console(soft_wrap=True)
exports = typer.Typer(
    no_args_is_help=True, help="Write samples or timelines as WebDataset, LeRobot, FiftyOne or Label Studio."
)
imports = typer.Typer(no_args_is_help=True, help="Take in what was corrected elsewhere.")


class Unseen(enum.Enum):
    """What an export of conversations takes of people who are not seen."""

    voices = "voices"
    silence = "silence"


Target = Annotated[str, typer.Argument(help="the dataset: a directory or an s3:// prefix")]
Folder = Annotated[Path, typer.Option("--out", help="an empty folder, or one to be made")]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help="condition over the manifest's columns, e.g. \"split = 'train'\"")
]


@exports.command("webdataset")
def to_webdataset(
    dataset: Target,
    out_: Folder,
    where: Where = None,
    max_samples: Annotated[int, typer.Option(min=1, help="most samples a shard")] = 10_000,
    max_mb: Annotated[
        int, typer.Option(min=1, help="size from which on a shard takes no further sample, 10^6 B")
    ] = 1000,
) -> None:
    """Write some of the samples as WebDataset shards of their own, by split: what a trainer copies to its machine."""
    from curation.export import webdataset_shards  # here, since webdataset imports torch where it can

    opened = Dataset(dataset)
    rows = selected(opened, where)
    shards = webdataset_shards.export(opened, rows, out_, max_samples, max_mb)
    out.print(f"{len(rows)} samples in {len(shards)} shards in {out_}", markup=False, highlight=False)


@exports.command("lerobot")
def to_lerobot(dataset: Target, out_: Folder, where: Where = None) -> None:
    """Write a LeRobot dataset (v3.0): one episode a clip, with the sounds of each frame and the person's state."""
    opened = Dataset(dataset)
    written, left = lerobot.export(opened, selected(opened, where), out_)
    more = f"; {left} of another picture size left out (--where width = W AND height = H)" if left else ""
    out.print(f"{written} episodes in {out_}{more}", markup=False, highlight=False)


@exports.command("fiftyone")
def to_fiftyone(dataset: Target, out_: Folder, where: Where = None) -> None:
    """Write clips and their states as FiftyOne imports them (FiftyOneTemporalDetectionDataset)."""
    opened = Dataset(dataset)
    out.print(f"{fiftyone.export(opened, selected(opened, where), out_)} clips in {out_}", markup=False)


@exports.command("conversations")
def to_conversations(
    dataset: Target,
    out_: Annotated[str, typer.Option("--out", help="an empty folder or s3:// prefix; one that was begun goes on")],
    where: Where = None,
    piece_s: Annotated[float, typer.Option(min=1, help="seconds of a sample at most")] = 20.0,
    absent_s: Annotated[
        float, typer.Option(min=0, help="seconds of not being seen or heard after which a person is gone")
    ] = 30.0,
    unseen: Annotated[
        Unseen, typer.Option(help="what is taken of people who are not seen: what voices say, or silence")
    ] = Unseen.voices,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Write whole recordings as both sounds of each person, without pictures: conditions for long rollouts.

    Of everybody of whom a clip is kept; the sources must lie where they were registered. `lpm train run` takes it as
    distill.conversations.
    """
    from workflows.conversations import export  # here, since it decodes sound
    from workflows.conversations.samples import Rules

    found = export.export(Dataset(dataset), out_, where, Rules(piece_s, absent_s, unseen.value), workers)
    hours = found.seconds / 3600
    out.print(f"{found.samples} samples, {hours:.2f} h of people's sides, in {out_}", markup=False, highlight=False)
    for source_id, why in sorted(found.left.items()):
        out.print(f"left out: source {source_id}: {why}", markup=False, highlight=False)
    if found.left:
        raise typer.Exit(3)


@exports.command("label-studio")
def to_label_studio(
    dataset: Target,
    out_: Annotated[Path, typer.Option("--out", help="file of tasks; the set-up lies beside it as .xml")],
    source: Annotated[str | None, typer.Option(help="one source: id or file name")] = None,
    media: Annotated[
        str | None, typer.Option(metavar="URL", help="address under which the browser finds the sources by their names")
    ] = None,
) -> None:
    """Write timelines as tasks for Label Studio's video timeline, one a person, and the labelling set-up."""
    opened = Dataset(dataset)
    source_id = None if source is None else labels.find_source(opened, source)
    for file in labels.export(opened, out_, "label-studio", source_id, media):
        out.print(str(file), markup=False, highlight=False)
    out_.with_suffix(".xml").write_text(label_studio.SET_UP, encoding="utf-8")
    out.print(str(out_.with_suffix(".xml")), markup=False, highlight=False)


@imports.command("label-studio")
def from_label_studio(
    dataset: Target,
    files: Annotated[list[Path], typer.Argument(help="the project's JSON export")],
    author: Annotated[str, typer.Option(help="who made the labels")],
    changes_only: Annotated[bool, typer.Option(help="leave out what agrees with the present timeline")] = False,
) -> None:
    """Take in what people annotated, all or none; the next `lpm run` uses it."""
    from workflows.commands.labels import import_

    import_(dataset, files, author, "label-studio", changes_only)
