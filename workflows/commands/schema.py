"""`lpm schema`: the JSON Schema of a table, of the view a rule reads, or of a model, from the schemas themselves."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.config import JsonDict

from curation.dataset import Dataset
from schemas import tables as t
from schemas.json_schema import column_schema, table_schema
from schemas.samples.caption import PerformanceCaption
from schemas.samples.sample import Sample
from schemas.settings.policy import Policy
from schemas.settings.workflow import Workflow
from schemas.units import UNITS, view_columns
from workflows.usage import UsageError

_MODELS: dict[str, type[BaseModel]] = {
    "sample": Sample, "caption": PerformanceCaption, "policy": Policy, "workflow": Workflow,
}  # fmt: skip


def schema(name: str, dataset: str | None = None) -> JsonDict:
    """Return the JSON Schema of a table, a rule's view (units_<kind>), or a model.

    With a dataset, tables of its user's own stages are known, and their columns that views and samples hold.
    """
    if dataset is not None:
        Dataset(dataset)
    if name == "list":
        views = [f"units_{k}" for k in UNITS]
        return {"models": [*sorted(_MODELS)], "tables": [*sorted(t.TABLES)], "views": [*views]}
    if name in _MODELS:
        return _MODELS[name].model_json_schema()
    if name in t.TABLES:
        return table_schema(t.TABLES[name])
    if name.startswith("units_") and name[6:] in UNITS:
        kind = next(k for k in UNITS if k == name[6:])
        columns = {n: column for n, (_, column, _) in view_columns(kind).items()}
        return {"title": name, "type": "object", "properties": {n: column_schema(c) for n, c in columns.items()}}
    raise UsageError(
        f"no schema {name!r}; `lpm schema list` names them all, `lpm schema list DATASET` those of your stages, too"
    )
