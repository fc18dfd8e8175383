"""Turn a workflow's data into stage classes with validated settings, in an order that satisfies every read.

Stages are imported by the name the workflow gives them; the engine knows none of them. Wrong stage, class or setting
names are refused before any work, with the names that would have been right.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from curation.stage import Stage, StageSettings
from schemas import yaml12
from schemas.table import Table
from schemas.tables import GIVEN
from schemas.workflow import Resources, Workflow


class WorkflowError(ValueError):
    """A workflow or setting that cannot be used; the message says what to write instead."""


@dataclass(frozen=True)
class ResolvedStage:
    """A stage class with its settings and resources. Picklable; models are loaded by `build` only."""

    name: str
    use: str
    settings: StageSettings
    resources: Resources

    @property
    def cls(self) -> type[Stage]:
        """The stage class."""
        return _import(self.name, self.use)

    def build(self) -> Stage:
        """Construct the stage, loading its models."""
        return self.cls(self.settings)

    def identity(self) -> dict[str, str]:
        """Name the back-ends and weights that determine its outputs, beside settings and version."""
        return dict(self.cls.identity(self.settings))


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

    def writer(self, table: Table) -> ResolvedStage | None:
        """Return the stage that writes a table, or None."""
        return next((s for s in self.stages if table in s.cls.writes), None)


def resolve(workflow: Workflow, overrides: Iterable[str] = ()) -> Pipeline:
    """Import the stages of a workflow and validate their settings, with `stage.key=value` overrides applied.

    Raises:
        WorkflowError: a stage, setting, value or order that does not fit.
    """
    changed = _overrides(workflow, overrides)
    specs = {
        name: spec.model_copy(update={"settings": {**spec.settings, **changed.get(name, {})}})
        for name, spec in workflow.stages.items()
    }
    workflow = workflow.model_copy(update={"stages": specs})
    stages = []
    for name, spec in specs.items():
        cls = _import(name, spec.use)
        stages.append(ResolvedStage(name, spec.use, _settings(name, cls, spec.settings), spec.resources))
    return _ordered(workflow, stages)


def _import(name: str, use: str) -> type[Stage]:
    module, _, attribute = use.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as e:
        raise WorkflowError(f"stage {name!r} needs {use}, but {e}; run `make setup`, or correct the workflow") from e
    except AttributeError as e:
        raise WorkflowError(f"stage {name!r}: module {module} has no {attribute}") from e


def _overrides(workflow: Workflow, overrides: Iterable[str]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for text in overrides:
        key, eq, value = text.partition("=")
        stage, dot, setting = key.strip().partition(".")
        if not (eq and dot and setting):
            raise WorkflowError(f"--set {text!r}: write it as stage.setting=value, e.g. scan.portrait_hz=2")
        if stage not in workflow.stages:
            raise WorkflowError(f"--set {text!r}: no stage {stage!r}; {_near(stage, workflow.stages)}")
        out.setdefault(stage, {})[setting] = yaml12.load(value)
    return out


def _settings(name: str, cls: type[Stage], values: Mapping[str, Any]) -> StageSettings:
    known = list(cls.Settings.model_fields)
    unknown = [k for k in values if k not in known]
    if unknown:
        raise WorkflowError(f"stage {name!r} has no setting {unknown[0]!r}; {_near(unknown[0], known)}")
    try:
        return cls.Settings.model_validate(dict(values))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise WorkflowError(f"stage {name!r}, setting {where}: {first['msg']} (got {first['input']!r})") from e


def _near(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"


def _ordered(workflow: Workflow, stages: list[ResolvedStage]) -> Pipeline:
    written: dict[Table, str] = {}
    groups: dict[str, list[ResolvedStage]] = {"before": [], "windowed": [], "after": [], "dataset": []}
    position = {"before": 0, "windowed": 1, "after": 2, "dataset": 3}
    last = "before"
    for s in stages:
        cls = s.cls
        own = cls.writes if cls.unit == "dataset" else ()
        missing = [t.name for t in cls.reads if t not in written and t not in GIVEN and t not in own]
        if missing:
            raise WorkflowError(f"stage {s.name!r} reads {missing}, which no earlier stage writes")
        twice = [t.name for t in cls.writes if t in written]
        if twice:
            raise WorkflowError(f"stage {s.name!r} writes {twice}, which {written[cls.writes[0]]!r} writes already")
        written.update({t: s.name for t in cls.writes})
        kind = {"window": "windowed", "dataset": "dataset"}.get(cls.unit, "after" if groups["windowed"] else "before")
        if position[kind] < position[last]:
            raise WorkflowError(f"stage {s.name!r} ({cls.unit}) comes after a {last} stage; move it up")
        last = kind
        groups[kind].append(s)
    return Pipeline(workflow, *(tuple(groups[k]) for k in ("before", "windowed", "after", "dataset")))


def describe(pipeline: Pipeline) -> str:
    """Return the resolved workflow as JSON text: settings, versions, back-ends, weights and resources."""
    stages = {
        s.name: {
            "use": s.use,
            "version": s.cls.version,
            "settings": s.settings.model_dump(mode="json"),
            "identity": s.identity(),
            "resources": s.resources.model_dump(),
        }
        for s in pipeline.stages
    }
    return json.dumps({"workflow": pipeline.workflow.name, "stages": stages}, indent=1, sort_keys=True)
