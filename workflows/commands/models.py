"""`lpm models`: list, fetch, locate and check weights, and fit the lip-audio sync again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from annotators.models import weights
from workflows.usage import UsageError

app = typer.Typer(no_args_is_help=True, help="Model weights: what is needed, where it is found, fetching it.")
console = Console(soft_wrap=True)


@app.command("list")
def list_() -> None:
    """List the weights: size, licence, where from, and whether they are here."""
    models_list(console)


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="names; none = all that are required")] = None,
) -> None:
    """Fetch weights into the cache, checking their hashes."""
    models_fetch(console, names or [])


@app.command()
def path(name: Annotated[str, typer.Argument(help="a weight or demo file")]) -> None:
    """Print where a weight or demo file is, fetching it first when needed."""
    sys.stdout.write(f"{models_path(name)}\n")


@app.command()
def check() -> None:
    """Check that every required weight is here and has the right hash."""
    if models_check(console):
        raise typer.Exit(1)


@app.command("train-sync")
def train_sync(
    dataset: Annotated[str, typer.Argument(help="the dataset: a directory or an s3:// prefix")],
    out_: Annotated[Path | None, typer.Option("--out", help="file; default: lip_sync.npz where runs find it")] = None,
    max_hours: Annotated[float, typer.Option(min=0.02, help="most footage to use")] = 2.0,
) -> None:
    """Fit the lip-audio sync again, on the people who speak in a dataset."""
    models_train_sync(console, dataset, out_, max_hours)


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
    """Fetch weights by name, or all required ones and those that something weaker stands in for.

    Of the latter one that cannot be had is no error unless it was asked for by name.
    """
    known = weights.registry()
    unknown = [n for n in names if n not in known]
    if unknown:
        raise UsageError(f"no weight {unknown[0]!r}; there are: {', '.join(known)}")
    for name in names or [n for n, w in known.items() if not w.optional or w.stand_in]:
        out.print(f"{name}: ", end="", markup=False, highlight=False)
        try:
            said = str(weights.resolve(name))
        except weights.WeightsNotFound as e:
            if names or not known[name].optional:
                raise
            said = f"{' or '.join(known[name].stand_in)} stands in for it. {e}"
        out.print(said, markup=False, highlight=False)


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
    from workflows import train_sync as sync  # SciPy and scikit-learn take a second that others do not need

    where = file or sync.default_file()
    try:
        found = sync.train_sync(target, where, max_hours)
    except ValueError as e:
        raise UsageError(f"cannot train on {target}: {e}") from e
    out.print(f"{found.clips} stretches, {found.people} people, {found.hours:.2f} h")
    table = RichTable("features", "window s", "own voice against others, AUC", "lag within 2 frames")
    for kind, rows in found.held_out.items():
        for h in rows:
            table.add_row(kind, f"{h.window_s:g}", f"{h.auc:.3f}", f"{h.hits:.3f}")
    out.print(table)
    out.print(f"written: {where}", markup=False, highlight=False)
