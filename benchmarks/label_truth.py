"""The machine's states against imported human labels, frame by frame; part of benchmarks/accuracy.py.

The timeline holds human states where there are labels, so stage `pairing` runs once more in memory without them
(milliseconds a minute; nothing is written). Where several labels cover a frame, the newest is the truth.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from curation import Dataset
from curation.engine.inputs import StoreInputs
from curation.engine.workflow import resolve
from curation.stage import WorkItem
from schemas import tables as t
from schemas.table import Table
from schemas.tables.labels import LabelRow
from schemas.tables.pairing import TimelineRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval, grid_range
from schemas.workflow import Workflow
from stages.pairing.labels import match, oldest_first

STATES = ("speak", "listen", "idle", "both", "discard")


class _WithoutLabels(StoreInputs):
    def read(self, table: Table) -> Any:
        return table.empty() if table is t.LABELS else super().read(table)


def label_truth(labels: list[LabelRow], tracks: list[TrackRow]) -> dict[tuple[str, int], str]:
    """Return the labelled state by (track, grid index)."""
    out: dict[tuple[str, int], str] = {}
    for label in oldest_first(labels):
        for name in match(label, tracks):
            for k in grid_range(Interval(label.start_s, label.end_s)):
                out[name, k] = label.state
    return out


def machine_timeline(dataset: Dataset, source_id: str) -> list[TimelineRow]:
    """Return a source's TIMELINE rows as the machine alone makes them."""
    spec = dataset.store.read_json("workflow.json")
    if spec is None:
        raise SystemExit("the dataset has no workflow.json; run `lpm run` on it first")
    pipeline = resolve(Workflow.model_validate(spec["workflow"]))
    pairing = pipeline.writer(t.TIMELINE)
    if pairing is None:
        raise SystemExit("the dataset's workflow has no stage that writes timelines")
    windows = [f for f in dataset.files(t.FACE_FRAMES) if Path(f).name.startswith(f"{source_id}.w")]
    live = {r["track_id"] for r in dataset.table(t.TIMELINE).to_pylist() if r["source_id"] == source_id}
    item = WorkItem(source_id, n_windows=len(windows), units=tuple(sorted(live)))
    inputs = _WithoutLabels(dataset.store, item, lambda: Path(), keep={"track_id": frozenset(live)})
    return t.TIMELINE.rows(pairing.build().run(item, inputs).tables[t.TIMELINE])


def against_labels(dataset: Dataset) -> dict[str, Any]:
    """Return accuracy, recall and confusion of the machine's states on the labelled frames."""
    names = {r["source_id"]: r["name"] for r in dataset.table(t.INPUTS).to_pylist()}
    labels, tracks = t.LABELS.rows(dataset.table(t.LABELS)), t.TRACKS.rows(dataset.table(t.TRACKS))
    confusion: Counter[tuple[str, str]] = Counter()
    per_source: dict[str, dict[str, float]] = {}
    for sid in sorted({r.source_id for r in labels}):
        truth = label_truth([r for r in labels if r.source_id == sid], [r for r in tracks if r.source_id == sid])
        found: dict[tuple[str, int], str] = {}
        for r in machine_timeline(dataset, sid):
            for k in grid_range(Interval(r.start_s, r.end_s)):
                found[r.track_id, k] = r.state
        mine = Counter((state, found.get(at, "missing")) for at, state in truth.items())
        confusion += mine
        right = sum(n for (a, b), n in mine.items() if a == b)
        per_source[names[sid]] = {"accuracy": right / max(1, mine.total()), "frames": mine.total()}
    total = confusion.total()
    of = {s: sum(n for (a, _), n in confusion.items() if a == s) for s in STATES}
    return {
        "truth": "human labels",
        "authors": sorted({r.author for r in labels}),
        "labels": len(labels),
        "frames": total,
        "accuracy": sum(n for (a, b), n in confusion.items() if a == b) / total if total else None,
        "recall": {s: confusion[s, s] / of[s] if of[s] else None for s in STATES},
        "confusion": {s: {p: confusion[s, p] for p in (*STATES, "missing")} for s in STATES},
        "per_source": per_source,
    }


def show_labels(result: dict[str, Any]) -> str:
    """Return the result as text."""
    if result["accuracy"] is None:
        return "no human labels in this dataset: bring some in with `lpm labels import`"
    lines = [f"states against {result['labels']} human labels: accuracy {result['accuracy']:.4f} "
             f"over {result['frames']} frames"]  # fmt: skip
    lines += [f"  recall {s}: {v:.4f}" for s, v in result["recall"].items() if v is not None]
    lines += [f"  {n}: {json.dumps(v)}" for n, v in result["per_source"].items()]
    return "\n".join(lines)
