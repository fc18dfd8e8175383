"""Find workflows and policies: by the name of a built-in one, or by the path of a YAML file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from curation.engine.workflow import Pipeline, WorkflowError, resolve
from curation.pack.pack import PackSettings
from curation.plan.rates import Rates
from schemas.settings import yaml12
from schemas.settings.policy import Policy, PolicyError, load_policy
from schemas.settings.use import first_wrong, near
from schemas.settings.workflow import Workflow
from stages import SHIPPED

_HERE = Path(__file__).parent
Model = TypeVar("Model", bound=BaseModel)


def workflow(name: str) -> Workflow:
    """Return a workflow by built-in name or path. Raises WorkflowError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else _HERE / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _HERE.glob("*.yaml")))
        raise WorkflowError(f"no workflow {name!r}; built in are: {known}; or give the path of a .yaml file")
    try:
        data = yaml12.load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise WorkflowError(f"{path.name}: not valid YAML: {e}") from e
    spec = _valid(Workflow, data, path.name)
    _valid(PackSettings, spec.pack, path.name, "pack")  # else packing would tell it, at the end of a run
    return placed(spec)


def _valid(model: type[Model], data: Any, file: str, *block: str) -> Model:
    """Return a file's data, or a block of it, as a model. Raises WorkflowError."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        place, said = first_wrong(e, model)
        where = ".".join(map(str, (*block, *place)))
        raise WorkflowError(f"{file}, {where}: {said}" if where else f"{file}: {said}") from e


def pipeline(name: str, overrides: Iterable[str] = ()) -> Pipeline:
    """Return a workflow's stages with checked settings, by built-in name or path; loads no model.

    Raises WorkflowError, and OtherPythonError for a Python that is not there.
    """
    return resolve(workflow(name), overrides, folder=folder(name))


def placed(spec: Workflow) -> Workflow:
    """Return a workflow with our own stages where they lie now, whether named shortly or by where a class once lay."""
    classes = {use.rpartition(":")[2]: use for use in SHIPPED.values()}
    stages = {}
    for name, stage in spec.stages.items():
        short = stage.use or name
        if ":" not in short and short not in SHIPPED:
            raise WorkflowError(f"no stage {short!r} is shipped; {near(short, SHIPPED)} or write use: module:Class")
        ours = classes.get(short.rpartition(":")[2]) if short.startswith("stages.") else None
        stages[name] = stage.model_copy(update={"use": ours or SHIPPED.get(short, short)})
    return spec.model_copy(update={"stages": stages})


def rates(workflow: Workflow) -> Rates | None:
    """Return what a second of video costs by a workflow, as measured beforehand; None where nobody has."""
    file = _HERE / "rates" / f"{workflow.name}.json"
    return Rates.model_validate_json(file.read_text(encoding="utf-8")) if file.is_file() else None


def folder(name: str) -> Path:
    """Return where a workflow's own modules lie: beside its YAML; with a built-in one, in the working directory."""
    return Path(name).absolute().parent if name.endswith((".yaml", ".yml")) else Path.cwd()


def text_of(policy: Policy) -> str | None:
    """Return the text of a built-in policy, comments and all; None where the policy is another one."""
    path = _HERE / "policies" / f"{policy.name}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() and load_policy(path) == policy else None


def policy(name: str) -> Policy:
    """Return a policy by built-in name or path. Raises PolicyError."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return load_policy(Path(name))
    path = _HERE / "policies" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (_HERE / "policies").glob("*.yaml")))
        raise PolicyError(f"no policy {name!r}; built in are: {known}; or give the path of a .yaml file")
    return load_policy(path)
