"""What a second of video costs, stage by stage, as the log of a finished run tells it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.dataset import Dataset
from curation.stage import WorkItem
from curation.storage.commits import commit_file, read_commit
from curation.storage.store import Store

Grain = Literal["window", "source", "dataset"]


class RatesError(ValueError):
    """A dataset that tells no rates; the message says what to do."""


class StageRate(BaseModel):
    """One stage: `cpu_s` a second of video that was given in, whatever of it the policy let through to the stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    grain: Grain
    cpu_s: float = Field(ge=0)


class Rates(BaseModel):
    """Measured rates: where, of what, and what was written a second of video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workflow: str
    policy: str
    video_s: float = Field(gt=0)
    sources: int = Field(ge=1)
    measured_on: str
    bytes_out: float = Field(ge=0)
    """bytes of tables, clips and shards a second of video"""
    stages: Sequence[StageRate]


def measured(dataset: Dataset, measured_on: str) -> Rates:
    """Return the rates of a dataset that `lpm run` made, from all its runs: what it cost to make what is there now.

    Raises RatesError for one in which nothing was measured.
    """
    cpu_s: dict[str, float] = {}
    grains: dict[str, Grain] = {}
    for steps in _made(dataset).values():
        stage = steps[0]["stage"]
        cpu_s[stage] = cpu_s.get(stage, 0.0) + sum(step["cpu_s"] for step in steps)
        grains[stage] = _grain(steps[0])
    sources, video_s = dataset.query("SELECT count(*), coalesce(sum(duration_s), 0) FROM sources").fetchall()[0]
    if not cpu_s or not video_s:
        raise RatesError(f"{dataset.store.uri} tells no rates: name a dataset in which `lpm run` has finished sources")
    made = dataset.store.read_json("workflow.json") or {}
    written = sum(dataset.store.size(n) for top in ("tables", "clips", "shards") for n in dataset.store.names(top))
    return Rates(
        workflow=str(made.get("workflow", {}).get("name", "")),
        policy=str(made.get("policy", {}).get("name", "")),
        video_s=round(video_s, 1),
        sources=sources,
        measured_on=measured_on,
        bytes_out=round(written / video_s),
        stages=[StageRate(stage=s, grain=grains[s], cpu_s=round(v / video_s, 5)) for s, v in cpu_s.items()],
    )


def _made(dataset: Dataset) -> dict[tuple[str, str, int | None], list[dict[str, Any]]]:
    """Return, of each stage and item, the steps that made what the dataset holds of it, the newest first.

    That is the last step that ran: what was computed before it was replaced. Where a stage measures unit by unit, a
    step may have added some to those that were there; then steps count back to the one with which there were as many as
    the commit holds. Sources that are no more do not count. In memory is one entry a stage and item.
    """
    store = dataset.store
    ran: dict[tuple[str, str, int | None], list[dict[str, Any]]] = {}
    for run in _runs(store):
        for step in map(json.loads, store.lines(f"{run}/log.jsonl")):
            if step["status"] == "ran":
                ran.setdefault((step["stage"], step["source_id"], step["window"]), []).insert(0, step)
    known = {"", *(str(i) for (i,) in dataset.query("SELECT source_id FROM sources").fetchall())}
    return {at: steps[: _counted(store, steps)] for at, steps in ran.items() if at[1] in known}


def _runs(store: Store) -> list[str]:
    """Return the folders of the runs that have a log, in the order in which they were started."""
    runs = [name.rpartition("/")[0] for name in store.names("runs", "/log.jsonl")]
    return sorted(runs, key=lambda run: str((store.read_json(f"{run}/run.json") or {}).get("started", "")))


def _counted(store: Store, steps: list[dict[str, Any]]) -> int:
    """Return how many of an item's steps, the newest first, made the units that its commit holds."""
    if len(steps) == 1 or not any(step.get("units") for step in steps):
        return 1
    commit = read_commit(store, commit_file(steps[0]["stage"], WorkItem(steps[0]["source_id"]), windowed=False))
    held = 0 if commit is None else len(commit.units)
    added = itertools.accumulate(step.get("units", held) for step in steps)  # older logs do not tell: all, most likely
    return next((n for n, units in enumerate(added, start=1) if units >= held), len(steps))


def _grain(step: dict[str, Any]) -> Grain:
    if not step["source_id"]:
        return "dataset"
    return "source" if step["window"] is None else "window"
