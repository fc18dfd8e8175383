"""Check a dataset from the outside: hashes, member offsets, audio and video lengths, conservation, ids that join.

Every check reads what a user would read; none trusts the engine's own bookkeeping twice. Costs one pass over the
files, bucket by bucket and slice by slice, and, with `media=True`, one decode of every packed sample; only that needs
the decoders, which the core of the distribution does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from curation.dataset import Dataset
from curation.engine.register import read_forgotten
from curation.forget.traces import search
from curation.verify.conservation import unbalanced
from curation.verify.files import changed
from curation.verify.joins import orphans
from curation.verify.shards import broken
from schemas.tables.registry import ForgottenRow


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it must be."""

    check: str
    what: str


def verify(
    dataset: Dataset, *, media: bool = True, shards: bool = True, progress: Callable[[str], None] = lambda _: None
) -> list[Problem]:
    """Return every problem found; an empty list means that the dataset is whole.

    `shards=False` leaves the samples in the shards out, `media=False` only their pictures.
    """
    problems: list[Problem] = []
    checks: dict[str, Callable[[Dataset], Iterator[str]]] = {
        "hashes": changed, "conservation": unbalanced, "joins": orphans, "forgotten": _traces,
    }  # fmt: skip
    if shards:
        checks["shards"] = lambda d: broken(d, media)
    for name, function in checks.items():
        progress(name)
        problems += [Problem(name, what) for what in function(dataset)]
    return problems


def _traces(dataset: Dataset) -> Iterator[str]:
    gone = ForgottenRow.source_id.values(read_forgotten(dataset.store))
    for name in search(dataset.store, gone).traces if gone else ():
        yield f"{name} holds a trace of a forgotten source; run `lpm forget` on it again"
