"""`lpm identities list | merge | split | undo | decisions`: who is who, and people's decisions about it."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from curation.dataset import Dataset
from curation.engine.run import locked
from curation.labels import identities
from curation.labels.identities import Decided, Person
from curation.pack.splits import split_warnings
from schemas import tables as t
from schemas.tables.people import DoubtfulMergeRow
from workflows.commands.review import login

app = typer.Typer(no_args_is_help=True, help="Who is who: list people, merge and split them by hand.")
out = Console(soft_wrap=True)

Target = Annotated[str, typer.Argument(help="the dataset: a directory or an s3:// prefix")]
Author = Annotated[str | None, typer.Option(help="who decides; default: the name you are logged in under")]
Note = Annotated[str | None, typer.Option(help="a remark that is kept with the decision")]


@app.command("list")
def list_(
    dataset: Target, as_json: Annotated[bool, typer.Option("--json", help="print JSON, with every track")] = False
) -> None:
    """List people: seconds, tracks, sources, split, former names; and pairs that may be one person."""
    opened = Dataset(dataset)
    people = identities.listing(opened)
    if as_json:
        sys.stdout.write(json.dumps([_facts(p) for p in people], indent=1, ensure_ascii=False) + "\n")
        return
    table = RichTable("identity", "seconds", "split", "group", "tracks", "sources", "former names")
    for p in people:
        table.add_row(
            p.row.identity_id, f"{p.row.seen_s:.1f}", p.row.split or "-", p.row.group_id, _some(p.tracks),
            _some(p.sources), " ".join(p.aliases),
        )  # fmt: skip
    out.print(table if people else "there are no people yet: `lpm run` finds them")
    doubtful = t.DOUBTFUL_MERGES.rows(opened.table(t.DOUBTFUL_MERGES))
    if doubtful:
        out.print(_doubtful(doubtful))
    for said in split_warnings(opened):
        out.print(f"warning: {said}", markup=False, highlight=False)
    made = identities.decisions(opened)
    if made:
        out.print(f"{len(made)} decisions by people: `lpm identities decisions {dataset}`", markup=False)


def _facts(p: Person) -> dict[str, Any]:
    return {**dict(p.row), "tracks": p.tracks, "sources": p.sources, "aliases": p.aliases}


def _doubtful(rows: list[DoubtfulMergeRow], most: int = 50) -> RichTable:
    left = f", {len(rows) - most} more in the table doubtful_merges" if len(rows) > most else ""
    table = RichTable("identity", "perhaps also", "distance", "limit", "kept apart for", "see tracks")
    table.caption = f"{len(rows)} pairs that may be one person: look, then merge or leave them{left}"
    for r in sorted(rows, key=lambda r: r.distance / max(r.limit, 1e-9))[:most]:
        table.add_row(
            r.identity_id, r.other_identity_id, f"{r.distance:.2f}", f"{r.limit:.2f}",
            r.why.replace("_", " "), f"{r.track_id} {r.other_track_id}",
        )  # fmt: skip
    return table


def _some(names: list[str], most: int = 4) -> str:
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@app.command()
def merge(
    dataset: Target,
    first: Annotated[str, typer.Argument(help="an identity")],
    second: Annotated[str, typer.Argument(help="an identity that is the same person")],
    author: Author = None,
    note: Note = None,
    force: Annotated[bool, typer.Option("--force", help="even where both are in view at the same time")] = False,
) -> None:
    """Say that two identities are one person; the one seen longer keeps its name. The next `lpm run` uses it."""
    opened = Dataset(dataset)
    with locked(opened.store):
        least = identities.min_overlap_s(opened)
        done = identities.merge(opened, first, second, _author(author), note, min_overlap_s=least, force=force)
    out.print(f"{first} and {second} are one person: {done.name}", markup=False, highlight=False)
    _next(dataset, done)


@app.command()
def split(
    dataset: Target,
    identity: Annotated[str, typer.Argument(help="an identity that holds two people")],
    tracks: Annotated[str | None, typer.Option(help="tracks of the other person, with commas between them")] = None,
    source: Annotated[list[str] | None, typer.Option(help="all tracks in this source: id or file name")] = None,
    author: Author = None,
    note: Note = None,
) -> None:
    """Say that some tracks of an identity are somebody else: they become one new person. The next `lpm run` uses it."""
    opened = Dataset(dataset)
    with locked(opened.store):
        moved = {x.strip() for x in (tracks or "").split(",") if x.strip()}
        moved |= identities.tracks_of_sources(opened, identity, source or [])
        done = identities.split(opened, identity, moved, _author(author), note)
    out.print(f"{done.tracks[1]} tracks of {identity} are a new person: {done.name}", markup=False, highlight=False)
    _next(dataset, done)


@app.command()
def undo(
    dataset: Target,
    decision: Annotated[str | None, typer.Argument(help="a decision's id; none = the newest")] = None,
) -> None:
    """Take a decision back: names are again what they were without it. The next `lpm run` uses it."""
    opened = Dataset(dataset)
    with locked(opened.store):
        done = identities.undo(opened, decision)
    out.print(f"{done.kind} {done.decision_id} is taken back", markup=False, highlight=False)
    out.print(f"`lpm run --out {dataset}` uses it", markup=False, highlight=False)


@app.command("decisions")
def decisions_(dataset: Target) -> None:
    """List what people decided, oldest first."""
    table = RichTable("decision", "kind", "identity", "tracks a", "tracks b")
    for d in identities.decisions(Dataset(dataset)):
        table.add_row(d.decision_id, d.kind, d.name, *(str(n) for n in d.tracks))
    out.print(table if table.row_count else "nothing was decided")


def _author(author: str | None) -> str:
    return author if author is not None else login()


def _next(dataset: str, done: Decided) -> None:
    if done.overrules:
        out.print(f"it overrules {', '.join(done.overrules)}: the later decision holds", highlight=False)
    out.print(
        f"decision {done.decision_id}: `lpm run --out {dataset}` uses it, `lpm identities undo {dataset} "
        f"{done.decision_id}` takes it back",
        markup=False, highlight=False,
    )  # fmt: skip
