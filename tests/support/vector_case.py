"""An embedder that knows three colours, and packed datasets whose samples have vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from table_rows import row

from annotators.protocols import FloatArray, Image
from curation.dataset import Dataset
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.settings.workflow import StageSpec, Workflow
from stages import SHIPPED

COLOURS = ("red", "green", "blue")


class ColourWords:
    """Pictures by their mean colour, texts by the colours that they name: vectors of one space."""

    weights: tuple[str, ...] = ()
    name = "colours"
    dimension = 3

    def __init__(self, flavour: str = "") -> None:
        self.seen: list[tuple[int, ...]] = []

    def pictures(self, pictures: Sequence[Image]) -> FloatArray:
        self.seen += [p.shape for p in pictures]
        return _unit([p.reshape(-1, 3).mean(axis=0) for p in pictures])

    def texts(self, texts: Sequence[str]) -> FloatArray:
        return _unit([[float(c in text) for c in COLOURS] for text in texts])


class OtherColours(ColourWords):
    """The same under another name."""

    name = "other-colours"


def _unit(values: Sequence[Any]) -> FloatArray:
    found = np.asarray(values, np.float32).reshape(-1, 3) + 1e-6
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def searchable(embedder: Mapping[str, Any]) -> Workflow:
    """Return a workflow of the shipped stages, with an embedder."""
    stages = {name: StageSpec(use=use) for name, use in SHIPPED.items() if name != "verification"}
    return Workflow(name="search", policy="default", stages=stages, shared={"image_text": dict(embedder)})


def packed(folder: Path, samples: Mapping[str, Mapping[str, Any]], use: str = "vector_case:ColourWords") -> Dataset:
    """Write a dataset with a manifest of these samples (id -> values) and a workflow that names the embedder."""
    store = Store(str(folder))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    workflow = searchable({"use": use})
    stored = {"workflow": workflow.model_dump(mode="json"), "policy": {"name": "none", "rules": []}, "tables": []}
    store.write_json("workflow.json", stored, sort=False)
    empty = dict(row(t.MANIFEST))
    filled = [t.MANIFEST.row.of({**empty, "segment_id": i, "source_id": i[:16], **v}) for i, v in samples.items()]
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(filled))
    return Dataset(store.uri)


def shown(*colour: float, model: str = "colours", **values: Any) -> dict[str, Any]:
    """Return the values of a sample that shows a colour."""
    return {"vector": _unit([colour])[0].tolist(), "vector_model": model, **values}
