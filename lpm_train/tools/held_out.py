"""What the splits of a dataset are good for: can validation tell anything, and does it know what training has seen?

Read off the manifest alone, a few columns as a stream. What is wrong comes as sentences that say what to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal

from lpm_train.config import Data
from lpm_train.data.shards import of_split, shapes_of
from lpm_train.data.sizes import Rule, fit
from lpm_train.data.table.manifest import Manifest
from lpm_train.session import EVALUATED
from lpm_train.storage import Storage

SPLITS = ("train", "val", "test")
"""Those that are used; clips of other splits (`withheld`) are in none of these."""

Shared = Literal["identity_id", "source_id"]

_NAMED = 3  # of what two splits share

_LEAST_PEOPLE = 3  # in validation: of fewer, a figure tells how these look, and not how people do
_STATES = ("speak", "listen", "idle")
_WORDS = {"identity_id": ("person", "people"), "source_id": ("source", "sources")}
_MORE = (
    "curate more sources, or deal them out anew with a larger share before anything is trained (lpm run ... --set "
    "identity.val=0.1 --set identity.split_seed=NEW)"
)
_SHOWN = {"speak": "speak", "listen": "listen to another", "idle": "are still while nobody speaks"}


@dataclass(frozen=True)
class Split:
    """What one split holds."""

    clips: int = 0
    people: int = 0
    sources: int = 0
    states: Mapping[str, int] = field(default_factory=dict)  # clips by state


@dataclass(frozen=True)
class Leak:
    """What lies in two splits."""

    of: Shared
    kept: str  # the split that stays as it is
    held: str  # the other, whose clips are to go
    number: int  # of people or sources
    names: tuple[str, ...]  # the first of them
    clips: int  # of theirs in `held`


def contents(data: Data) -> dict[str, Split]:
    """Count what each split holds, by its name; {} of a manifest that knows no splits. Raises DataError."""
    manifest, where = Manifest(Storage(data.root), ["state"]), data.where
    if "split" not in manifest.schema.names:
        return {}
    states = defaultdict[str, dict[str, int]](dict)
    for split, state, clips in manifest.asked("split, state, count(*)", where, "split, state"):
        states[split][state] = clips
    counted = (
        f"count(DISTINCT {c})" if c in manifest.schema.names else "0" for c in ("identity_id", "source_id")
    )  # fmt: skip
    rows = manifest.asked(f"split, count(*), {', '.join(counted)}", where, "split")
    return {split: Split(clips, people, sources, states[split]) for split, clips, people, sources in sorted(rows)}


def leaks(data: Data) -> list[Leak]:
    """Find people and sources that lie in two of `SPLITS`. Raises DataError."""
    manifest, out = Manifest(Storage(data.root), ["state"]), list[Leak]()
    for kept, held in combinations(SPLITS, 2):
        for column in ("identity_id", "source_id"):
            of: Shared = "identity_id" if column == "identity_id" else "source_id"
            if {of, "split"} - set(manifest.schema.names):
                continue
            rows = manifest.asked(
                f"{of}, count(*) FILTER (split = '{held}')", data.where, of,
                f"{of} <> '' AND bool_or(split = '{kept}') AND bool_or(split = '{held}')",
            )  # fmt: skip
            if rows:
                names = tuple(sorted(str(name) for name, _ in rows)[:_NAMED])
                out.append(Leak(of, kept, held, len(rows), names, sum(clips for _, clips in rows)))
    return out


def without(leak: Leak) -> str:
    """Return the condition (`--where`) that leaves out what leaks."""
    theirs = f"SELECT {leak.of} FROM manifest WHERE split = '{leak.kept}'"
    return f"NOT (split = '{leak.held}' AND {leak.of} IN ({theirs}))"


@dataclass(frozen=True)
class HeldOut:
    """See the module's text."""

    splits: dict[str, Split]
    leaks: tuple[Leak, ...]
    fitting: int  # clips of val that can be loaded
    advice: tuple[str, ...]  # what validation cannot tell, a sentence each

    @property
    def clean(self) -> bool:
        """Whether nobody and nothing lies in two splits."""
        return not self.leaks

    def lines(self) -> Iterator[str]:
        """Yield the findings for people."""
        for name, s in self.splits.items():
            states = ", ".join(f"{state} {n}" for state, n in sorted(s.states.items()))
            yield f"split {name}: {s.clips} clips ({states}), {s.people} people, {s.sources} sources"
        yield from (f"LEAK {leaking(leak)}" for leak in self.leaks)
        yield from (f"ADVICE {said}" for said in self.advice)

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        return asdict(self)


def leaking(leak: Leak) -> str:
    """Say what lies in two splits, and what to do."""
    what = _WORDS[leak.of][leak.number > 1]
    more = ", ..." * (leak.number > len(leak.names))
    return (
        f"{leak.number} {what} of {leak.kept} {'are' if leak.number > 1 else 'is'} in {leak.held} too "
        f"({', '.join(leak.names)}{more}; {leak.clips} clips there), so figures of {leak.held} look better than they "
        f'are: leave those clips out with --where "{without(leak)}", or curate the sources again in one dataset, whose '
        "splits share nobody"
    )


def look(data: Data, batch: int) -> HeldOut:
    """Look at the splits of a dataset.

    Args:
        data: as training would use it: what `where` selects, with sizes that are settled.
        batch: clips of a run's batch.

    Raises:
        DataError: the dataset cannot be opened.
    """
    val = of_split(data, "val")
    shapes = shapes_of(val.root, val.where) if val else None
    fitting = fit(shapes, data.sizes, Rule.of(data)).fitting if shapes else 0
    found = contents(data)
    return HeldOut(found, tuple(leaks(data)), fitting, tuple(_advice(found, fitting, batch)))


def _advice(splits: dict[str, Split], fitting: int, batch: int) -> Iterator[str]:
    train, val = splits.get("train"), splits.get("val")
    if train is None:
        yield "no clip is of the split train: `run` trains on all that is selected, held-out clips included"
    if val is None:
        yield (
            "no clip is of the split val: held-out figures and the run's page are of training clips, which show "
            f"neither overfitting nor how strangers come out: {_MORE}"
        )
        return
    if not fitting:
        yield (
            f"none of the {val.clips} clips of val fits a size (too short, or of another aspect), so `run` has nothing "
            f"to evaluate and ends: choose fewer data.frames, or {_MORE}"
        )
    elif fitting < EVALUATED * batch:
        yield (
            f"val has {fitting} clips that fit, and each evaluation looks at {EVALUATED} batches of {batch}: clips "
            f"come more than once, and figures over so few say little: {_MORE}"
        )
    if 0 < val.people < _LEAST_PEOPLE:
        who = "one person" if val.people == 1 else f"{val.people} people"
        yield f"val shows {who}: its figures tell how that looks, and not how people do: {_MORE}"
    for state in _STATES:
        if state not in val.states:
            mine = train.states.get(state, 0) if train else 0
            yield f"val has no clip of the state {state}, train {mine}: how that comes out is not measured: " + (
                _MORE if mine else f"curate sources in which people {_SHOWN[state]}"
            )
