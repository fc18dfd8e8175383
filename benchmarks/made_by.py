"""Which back-ends and weights made the tables of a dataset, for results that name them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from curation import Dataset
from schemas.table import Table
from schemas.tables import TABLES


def backends(dataset: Dataset) -> dict[str, Any]:
    """Return the annotators that rows name, by table, and the stages' versions, back-ends and weights as recorded."""
    named = {table.name: found for table in TABLES.values() if (found := _annotators(dataset, table))}
    spec = dataset.store.read_json("workflow.json") or {}
    stages = spec.get("pipeline", {}).get("stages", {})
    return {
        "annotators": named,
        "stages": {n: {"version": s["version"], **s["provenance"]} for n, s in sorted(stages.items())},
        "policy": spec.get("policy", {}).get("name"),
    }


def _annotators(dataset: Dataset, table: Table) -> list[str]:
    if "annotator" not in table.column_names:
        return []
    return sorted(str(a) for a in pc.unique(dataset.table(table, ["annotator"])["annotator"]).to_pylist())
