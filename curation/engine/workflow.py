"""Turn a workflow's data into stage classes with validated settings, in an order that satisfies every read.

Stages are imported by the name the workflow gives them; the engine knows none of them. Wrong stage, class or setting
names are refused before any work, with the names that would have been right.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import ValidationError

from curation.engine.user_code import FOLDER, Code, collect, install, words
from curation.pythons.find import located
from curation.pythons.worker import worker
from curation.stage import Stage, StageSettings
from schemas.extensions import declare
from schemas.settings.use import Shared, UseError, assign, code_sha256, load, near, read_setting
from schemas.settings.workflow import Resources, StageSpec, Workflow
from schemas.table import Table, TableError
from schemas.tables import GIVEN

P = ParamSpec("P")
R = TypeVar("R")
SHARED = "shared"
"""The block of a workflow with the settings that stages have in common."""


class WorkflowError(ValueError):
    """A workflow or setting that cannot be used; the message says what to write instead."""


@dataclass(frozen=True)
class ResolvedStage:
    """A stage class with its settings and resources, and the Python that runs it ("" = this one).

    Models are loaded by `build` only. It travels to workers as plain data, with the user's own code that it needs.
    """

    name: str
    use: str
    settings: StageSettings
    resources: Resources
    code: Code = field(default_factory=dict, repr=False)
    python: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        settings = self.settings.model_dump(exclude_unset=True)
        return _arrived, (self.code, self.name, self.use, settings, self.resources, self.python)

    @cached_property
    def cls(self) -> type[Stage]:
        """The stage class; asked for tens of times a source."""
        return _import(self.name, self.use)

    def build(self) -> Stage:
        """Construct the stage, loading its models."""
        return self.cls(self.settings)

    def at_home(self) -> ResolvedStage:
        """Return it as its own Python sees it."""
        return replace(self, python="")

    def ask(self, function: Callable[Concatenate[ResolvedStage, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function(stage, *args)` in the stage's own Python. Raises what it raises, and as `Worker.ask` does."""
        if not self.python:
            return function(self, *args, **kwargs)
        return worker(self.python).ask(function, self.at_home(), *args, **kwargs)

    def provenance(self) -> dict[str, str]:
        """Name what determines its outputs beside its settings: version, back-ends, weights, code that is not ours."""
        return self.ask(_provenance)


def _provenance(stage: ResolvedStage) -> dict[str, str]:
    out = {"version": str(stage.cls.version), **stage.settings.provenance()}
    code = code_sha256(stage.cls.__module__)
    return out if code is None else {**out, "code": code}


@dataclass(frozen=True)
class Pipeline:
    """Stages in order, by what one work item is: sources, then windows, then sources again, then the dataset."""

    workflow: Workflow
    before: tuple[ResolvedStage, ...]
    windowed: tuple[ResolvedStage, ...]
    after: tuple[ResolvedStage, ...]
    dataset: tuple[ResolvedStage, ...]

    @property
    def stages(self) -> tuple[ResolvedStage, ...]:
        """All stages in order."""
        return (*self.before, *self.windowed, *self.after, *self.dataset)

    @property
    def code(self) -> Code:
        """The user's own modules that its stages and back-ends need."""
        return self.stages[0].code if self.stages else {}

    @property
    def tables(self) -> list[Table]:
        """Every table that its stages write."""
        return [table for s in self.stages for table in s.cls.writes]

    def writer(self, table: Table) -> ResolvedStage | None:
        """Return the stage that writes a table, or None."""
        return self._writers.get(table)

    @cached_property
    def _writers(self) -> dict[Table, ResolvedStage]:
        return {table: s for s in reversed(self.stages) for table in s.cls.writes}


def resolve(
    workflow: Workflow, overrides: Iterable[str] = (), *, folder: Path | None = None, code: Code | None = None
) -> Pipeline:
    """Import the stages of a workflow and validate their settings, with `stage.key=value` overrides applied.

    Args:
        workflow: the stages by name.
        overrides: settings laid over the workflow's.
        folder: where modules of the user's own are looked for.
        code: such modules as a dataset keeps them; they come before the folder's.

    Raises:
        WorkflowError: a stage, setting, value or order that does not fit.
    """
    try:
        changed, shared, pythons = _overrides(workflow, overrides)
    except UseError as e:
        raise WorkflowError(str(e)) from e
    pythons = {n: located(s.python, folder or Path.cwd()) for n, s in workflow.stages.items()} | pythons
    specs = {
        name: spec.model_copy(update={"settings": changed[name], "python": pythons[name]})
        for name, spec in workflow.stages.items()
    }
    workflow = workflow.model_copy(update={"stages": specs, "shared": shared})
    uses = list(words([shared, *([s.use, s.settings] for s in specs.values())]))
    code = {**(collect(folder, uses) if folder is not None else {}), **(code or {})}
    install(code, FOLDER if folder is None else str(folder))
    given = _given(specs, shared)
    return _ordered(workflow, [_stage(code, n, s.use, given[n], s.resources, s.python) for n, s in specs.items()])


def _arrived(
    code: Code, name: str, use: str, settings: Mapping[str, Any], resources: Resources, python: str
) -> ResolvedStage:
    install(code)
    return _stage(code, name, use, settings, resources, python)


def _stage(
    code: Code, name: str, use: str, settings: Mapping[str, Any], resources: Resources, python: str
) -> ResolvedStage:
    """Import a stage, make its tables known, and check its settings."""
    cls = _import(name, use)
    try:
        for table in cls.writes:
            declare(table)
    except TableError as e:
        raise WorkflowError(f"stage {name!r}: {e}") from e
    if resources.batch > 1 and not hasattr(cls, "run_many"):
        raise WorkflowError(
            f"stage {name!r} measures one item at a time (it has no run_many): leave out resources.batch"
        )
    return ResolvedStage(name, use, _settings(name, cls, settings), resources, code, python)


def _import(name: str, use: str) -> type[Stage]:
    try:
        cls = load(use)
    except UseError as e:
        raise WorkflowError(f"stage {name!r}: {e}") from e
    lacks = [said for said in Stage.__annotations__ if not hasattr(cls, said)]
    if lacks:
        raise WorkflowError(f"stage {name!r}: {use} is no stage: it has no {lacks[0]!r} (see curation.stage.Stage)")
    return cls  # type: ignore[return-value]


def _overrides(
    workflow: Workflow, overrides: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, str]]:
    """Return each stage's settings, the shared ones, and the stages' Pythons that are named (`stage.python=PATH`).

    `stage.setting=value` (or deeper) is laid over what the workflow says.
    """
    stages = {name: copy.deepcopy(spec.settings) for name, spec in workflow.stages.items()}
    sections = {**stages, SHARED: copy.deepcopy(workflow.shared)}
    pythons: dict[str, str] = {}
    for text in overrides:
        (section, *path), value = read_setting(text)
        if section not in sections:
            raise WorkflowError(f"--set {text!r}: no stage {section!r}; {near(section, sections)}")
        if path == ["python"] and section in stages:
            pythons[section] = located("" if value is None else str(value), Path.cwd())
        else:
            assign(sections[section], path, value)
    return stages, sections[SHARED], pythons


def _given(specs: Mapping[str, StageSpec], shared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each stage's settings with those that it has in common with others.

    Raises WorkflowError for a shared setting that no stage has, and for one that a single stage sets on its own.
    """
    used: dict[str, list[tuple[str, str]]] = {}
    for name, spec in specs.items():
        for setting, info in _import(name, spec.use).Settings.model_fields.items():
            for mark in (m for m in info.metadata if isinstance(m, Shared)):
                used.setdefault(mark.name, []).append((name, setting))
    unknown = [key for key in shared if key not in used]
    if unknown:
        raise WorkflowError(f"no stage has a shared setting {unknown[0]!r}; {near(unknown[0], used)}")
    out = {name: dict(spec.settings) for name, spec in specs.items()}
    for key, places in used.items():
        for stage, setting in places:
            if setting in out[stage]:
                where = " and ".join(f"{s}.{x}" for s, x in places)
                raise WorkflowError(f"{stage}.{setting} is one setting of {where}: write it as {SHARED}.{key}")
            if key in shared:
                out[stage][setting] = shared[key]
    return out


def _settings(name: str, cls: type[Stage], values: Mapping[str, Any]) -> StageSettings:
    known = list(cls.Settings.model_fields)
    unknown = [k for k in values if k not in known]
    if unknown:
        raise WorkflowError(f"stage {name!r} has no setting {unknown[0]!r}; {near(unknown[0], [*known, *_inner(cls)])}")
    try:
        return cls.Settings.model_validate(dict(values))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "them together"
        said = first["msg"].removeprefix("Value error, ")
        raise WorkflowError(f"stage {name!r}, setting {where}: {said} (got {first['input']!r})") from e


def _inner(cls: type[Stage]) -> list[str]:
    """Return the settings of a stage's back-ends, as `--set` names them."""
    fields = cls.Settings.model_fields.items()
    return [f"{f}.{s}" for f, info in fields for m in info.metadata for s in getattr(m, "settings", list)()]


def _ordered(workflow: Workflow, stages: list[ResolvedStage]) -> Pipeline:
    written: dict[Table, str] = {}
    groups: dict[str, list[ResolvedStage]] = {"before": [], "windowed": [], "after": [], "dataset": []}
    position = {"before": 0, "windowed": 1, "after": 2, "dataset": 3}
    last = "before"
    for s in stages:
        cls = s.cls
        own = cls.writes if cls.grain == "dataset" else ()
        missing = [t.name for t in cls.reads if t not in written and t not in GIVEN and t not in own]
        if missing:
            raise WorkflowError(f"stage {s.name!r} reads {missing}, which no earlier stage writes")
        twice = [t.name for t in cls.writes if t in written]
        if twice:
            raise WorkflowError(f"stage {s.name!r} writes {twice}, which {written[cls.writes[0]]!r} writes already")
        written.update({t: s.name for t in cls.writes})
        kind = {"window": "windowed", "dataset": "dataset"}.get(cls.grain, "after" if groups["windowed"] else "before")
        if position[kind] < position[last]:
            raise WorkflowError(f"stage {s.name!r} ({cls.grain}) comes after a {last} stage; move it up")
        last = kind
        groups[kind].append(s)
    return Pipeline(workflow, *(tuple(groups[k]) for k in ("before", "windowed", "after", "dataset")))


def describe(pipeline: Pipeline) -> str:
    """Return the resolved workflow as JSON text: settings, versions, back-ends, weights, resources and Pythons."""
    stages = {
        s.name: {
            "use": s.use,
            "version": s.cls.version,
            "grain": s.cls.grain,
            "settings": s.settings.model_dump(mode="json"),
            "provenance": s.provenance(),
            "resources": s.resources.model_dump(),
            "python": s.python,
        }
        for s in pipeline.stages
    }
    return json.dumps({"workflow": pipeline.workflow.name, "stages": stages}, indent=1, sort_keys=True)
