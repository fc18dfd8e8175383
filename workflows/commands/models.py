"""What the `lpm models` commands do: list, fetch, locate and check weights, and fit the lip-audio sync again."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from annotators.models import weights
from workflows.usage import UsageError


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
    from workflows.train_sync import (  # SciPy and scikit-learn take a second that others do not need
        default_file,
        train_sync,
    )

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
