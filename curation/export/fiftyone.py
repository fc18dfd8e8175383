"""Packed clips as FiftyOne imports them: `fiftyone.types.FiftyOneTemporalDetectionDataset`, states over time.

    fo.Dataset.from_dir("OUT", dataset_type=fo.types.FiftyOneTemporalDetectionDataset)

Written as a folder and not through the package, which starts a MongoDB. Costs a copy of every clip's video.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from curation.dataset import Dataset
from curation.export.samples import Packed, fresh, read
from schemas.samples.sample import FPS
from schemas.tables.output import ManifestRow


def export(dataset: Dataset, rows: Collection[ManifestRow], out: Path) -> int:
    """Write samples into an empty folder; return how many. Raises ExportError."""
    data = fresh(out) / "data"
    data.mkdir()
    labels: dict[str, Any] = {}
    for one in read(dataset, rows, ["mp4"]):
        (data / f"{one.row.segment_id}.mp4").write_bytes(one.members["mp4"])
        labels[one.row.segment_id] = _states(one)
    (out / "labels.json").write_text(json.dumps({"classes": None, "labels": labels}, indent=1), encoding="utf-8")
    return len(labels)


def _states(one: Packed) -> list[dict[str, Any]]:
    row, n = one.row, one.sample.video.n_frames
    said = {"identity": row.identity_id, "split": row.split, "source": row.name, "category": row.category}
    out = []
    for run in one.sample.states:
        first, last = round(run.start_s * FPS) + 1, min(n, round(run.end_s * FPS))
        if first <= last:
            more = {**said, "reason": run.reason}
            support = {"support": [first, last], "confidence": run.confidence, "attributes": more}
            out.append({"label": run.state, **support})
    return out
