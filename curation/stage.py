"""What a stage is: a named, versioned, pure function from tables (and one source's media) to tables.

A stage only measures. The runner owns everything else: fingerprints, resume, atomic commits, errors, progress and
resources. Stages are constructed once a worker and hold their models; `run` is called per work item and must give
the same tables for the same inputs, whatever engine, worker or order it runs in.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from curation.faults import fault_of
from schemas.settings.parts import MEASURED
from schemas.table import Row, Table
from schemas.time import Interval

Grain = Literal["source", "window", "dataset"]
Gate = Literal["sources", "shots", "tracks", "segments"]
GateMode = Literal["once", "together", "each"]


@runtime_checkable
class Exchangeable(Protocol):
    """A setting that chooses what a stage is made of: a back-end, with its own settings."""

    def provenance(self, label: str) -> Mapping[str, str]:
        """Name what is at work under `label`, with its weights' SHA-256. No model is loaded."""
        ...


class StageSettings(BaseModel):
    """Base of every stage's settings: immutable; an unknown name is an error, and so is a number that is not finite.

    A setting to which infinity means something says `Field(..., allow_inf_nan=True)`, with a bound that no nan passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def measured(self) -> dict[str, object]:
        """Return the settings as JSON, without what changes no number."""
        return self.model_dump(mode="json", context=MEASURED)

    def parts(self) -> dict[str, Exchangeable]:
        """Return the settings that choose back-ends, by name; those that are never asked are left out."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: v for name, v in values.items() if isinstance(v, Exchangeable)}

    def provenance(self) -> dict[str, str]:
        """Name the back-ends that determine a stage's numbers, with their weights' SHA-256. No model is loaded."""
        out: dict[str, str] = {}
        for name, chosen in self.parts().items():
            out |= chosen.provenance(name)
        return out


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unit of work: a source, a window of it, or (both None) the whole dataset.

    `units` are the ids (of the stage's gate kind) that the policy lets through and that are to be measured now.
    """

    source_id: str = ""
    window: Interval | None = None
    window_index: int = 0
    n_windows: int = 1
    units: tuple[str, ...] = ()


class Inputs(Protocol):
    """What a stage may read. Tables come filtered to the item's source and, for gated tables, to live units."""

    @property
    def media(self) -> Path:
        """Local path of the source's file (fetched first when the source is remote); source and window stages."""
        ...

    def read(self, table: Table) -> pa.Table:
        """Return a table of this item's source (all windows of it; all sources for a dataset stage)."""
        ...

    def parts(self, table: Table) -> Iterator[pa.Table]:
        """Yield a window-grained table window by window, in order: bounded memory for heavy tables."""
        ...

    def save(self, file: str, data: bytes) -> None:
        """Write a binary file of this item (path under the dataset, named after its unit) and let go of it.

        Binary outputs are too large to be held until the end; the commit that follows makes them official.
        """
        ...


@dataclass(frozen=True, slots=True)
class UnitError:
    """A unit of the item that failed while its neighbours went on."""

    unit_id: str
    error: str
    message: str
    traceback: str


@dataclass(slots=True)
class Outputs:
    """What a stage gives back: its tables and the units that failed. Binary files go through `Inputs.save`."""

    tables: dict[Table, pa.Table] = field(default_factory=dict)
    errors: list[UnitError] = field(default_factory=list)


class Stage(Protocol):
    """The contract every stage fulfils.

    Class attributes:
        name: the stage's name in workflows, commits and errors.
        version: raise it when the same inputs give other tables.
        grain: what one work item is.
        reads, writes: tables it reads and writes; the order of stages follows from them. A dataset stage may read a
            table of its own: what it wrote there the last time.
        gate: the kind of unit that must be alive under the policy for this stage to run; None = always.
        gate_mode: "once": runs once for the source when any unit is alive; "together": depends on which are alive and
            sees only those; "each": measures each unit on its own, so that only missing ones are computed (its
            tables must carry the unit's id column).
        Settings: the stage's settings model.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    grain: ClassVar[Grain]
    reads: ClassVar[tuple[Table, ...]]
    writes: ClassVar[tuple[Table, ...]]
    gate: ClassVar[Gate | None]
    gate_mode: ClassVar[GateMode]
    Settings: ClassVar[type[StageSettings]]

    def __init__(self, settings: Any) -> None:
        """Load models; raise here, not in `run`, when a weight or dependency is missing."""
        ...

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Measure one item. Raise to quarantine the item."""
        ...


class Together(Protocol):
    """What a stage may offer besides: to measure items of several sources at once (`resources.batch` of a workflow)."""

    def run_many(self, work: Sequence[tuple[WorkItem, Inputs]]) -> list[Outputs]:
        """Measure items, each as `run` would. Raise to have them measured one by one instead."""
        ...


def error_of(unit_id: str, e: BaseException) -> UnitError:
    """Describe an exception for the quarantine: its code or class, message, and last traceback frames.

    What can only be a fault of the program is called a bug.
    """
    code = str(getattr(e, "code", "")) or type(e).__name__
    frames = traceback.format_exception(type(e), e, e.__traceback__)
    # Paths differ between machines and engines; file names and lines are what a reader needs.
    short = [line for line in "".join(frames[-4:]).splitlines()][-12:]
    short = [strip_directory(line) for line in short]
    message = str(e).removeprefix(f"{code}: ") or type(e).__name__
    if fault_of(e) == "bug":
        code, message = "bug", f"{code}: {message}"
    return UnitError(unit_id, code, message, "\n".join(short))


def strip_directory(line: str) -> str:
    """Return a line of a traceback with the last folder and the name of its file alone."""
    if '  File "' not in line:
        return line
    head, rest = line.split('  File "', 1)
    path, tail = rest.split('"', 1)
    return f'{head}  File "{"/".join(Path(path).parts[-2:])}"{tail}'


Rows = Mapping[Table, Iterable[Row]]


def each_unit(units: Iterable[str], measure: Callable[[str], Rows]) -> Outputs:
    """Measure units one by one; a unit that raises is recorded as failed and its neighbours go on.

    `measure(unit_id)` returns rows per table. Returns the merged, validated tables of all units that worked. What is no
    fault of the unit (too little memory, the network, the machine) is raised.
    """
    parts: dict[Table, list[pa.Table]] = {}
    out = Outputs()
    for unit in units:
        try:
            # At once: rows of numbers take fifty times the memory as Python objects.
            made = {table: table.from_rows(rows) for table, rows in measure(unit).items()}
        except Exception as e:  # recorded with stage, class and message: the quarantine is the handler
            if fault_of(e) not in ("item", "bug"):
                raise
            out.errors.append(error_of(unit, e))
            continue
        for table, part in made.items():
            parts.setdefault(table, []).append(part)
    out.tables = {table: table.validated(pa.concat_tables(p).combine_chunks()) for table, p in parts.items()}
    return out
