"""Certify a dataset from the outside: hashes, shards, samples against tables, conservation, ids that join, one root.

Every check reads what a user would read; none trusts the engine's own bookkeeping twice. Costs one pass over the
files, bucket by bucket and slice by slice, and, with `media=True`, one decode of every packed sample; only that needs
the decoders, which the core of the distribution does without. What is damaged is found, never raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from curation.dataset import Dataset
from curation.engine.register import read_forgotten
from curation.forget.traces import search
from curation.storage import seal
from curation.verify import files, samples, shards
from curation.verify.conservation import unbalanced
from curation.verify.finding import Finding, Mend, plain
from curation.verify.joins import orphans
from curation.verify.keys import doubled
from curation.verify.part import Part
from curation.verify.root import Root
from schemas.tables.registry import ForgottenRow


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not as it must be."""

    check: str
    what: str
    mends: tuple[Mend, ...] = ()
    things: int = 1
    """how many things it is about: of many that are alike a few are named, and the rest are one problem"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was found, what could not be checked, and the hash of all that is there."""

    problems: list[Problem]
    notes: list[str]
    root: str | None
    """None where not everything was read"""


def certify(
    dataset: Dataset, *, media: bool = True, packed: bool = True, progress: Callable[[str], None] = lambda _: None,
    part: Part | None = None,
) -> Certificate:  # fmt: skip
    """Check everything; without problems the dataset is whole.

    `packed=False` leaves the samples in the shards out, `media=False` only their pictures. With `part` the files of a
    share of the sources and of the shards are read, and all of what the dataset has once; then there is no root.
    """
    problems: list[Problem] = []
    root = Root()
    checks: dict[str, Callable[[Dataset], Iterator[Finding]]] = {
        "hashes": lambda d: files.changed(d, root, part),
        "keys": doubled,
        "conservation": lambda d: plain(unbalanced(d)),
        "joins": lambda d: plain(orphans(d, part)),
    }
    if part is None:  # which go through all sources
        checks["forgotten"] = lambda d: plain(_traces(d))
    if packed:
        checks["shards"] = lambda d: shards.broken(d, media, root, part)
    if packed and part is None:
        checks.update(samples=samples.unlike)
    for name, function in checks.items():
        progress(name)
        try:
            problems += [Problem(name, f.what, f.mends, f.things) for f in function(dataset)]
        except Exception as e:  # a damaged file may end a check anywhere: that is a finding too
            why = f"{type(e).__name__}: {str(e).partition(chr(10))[0]}"
            problems.append(Problem(name, f"could not be checked to the end, for {why}; mend that and verify again"))
    return Certificate(problems, _notes(dataset), root.hexdigest() if packed and part is None else None)


def verify(
    dataset: Dataset, *, media: bool = True, shards: bool = True, progress: Callable[[str], None] = lambda _: None
) -> list[Problem]:
    """Return every problem found; an empty list means that the dataset is whole. See `certify`."""
    return certify(dataset, media=media, packed=shards, progress=progress).problems


def _notes(dataset: Dataset) -> list[str]:
    """Say what could not be certified, as an earlier version of the program wrote it."""
    out = []
    if shards.older(dataset):
        out.append("samples were packed before their hashes were kept, so what they show is not vouched for")
    if not dataset.store.exists(seal.FILE) or files.older(dataset):
        out.append("commits or tables were written before a seal was kept, so not every byte of them is vouched for")
    if out:
        out.append("`lpm pack` writes the hashes of what is there now")
    return out


def _traces(dataset: Dataset) -> Iterator[str]:
    gone = ForgottenRow.source_id.values(read_forgotten(dataset.store))
    for name in search(dataset.store, gone).traces if gone else ():
        yield f"{name} holds a trace of a forgotten source; run `lpm forget` on it again"
