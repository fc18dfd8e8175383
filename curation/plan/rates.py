"""What a second of video costs, stage by stage, as the log of a finished run tells it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.dataset import Dataset

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
    """Return the rates of a dataset that `lpm run` made, from all its runs.

    Raises RatesError for one in which nothing was measured.
    """
    cpu_s: dict[str, float] = {}
    grains: dict[str, Grain] = {}
    for name in dataset.store.names("runs", "log.jsonl"):
        for step in map(json.loads, dataset.store.lines(name)):
            if step["status"] == "ran":
                cpu_s[step["stage"]] = cpu_s.get(step["stage"], 0.0) + step["cpu_s"]
                grains[step["stage"]] = _grain(step)
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


def _grain(step: dict[str, Any]) -> Grain:
    if not step["source_id"]:
        return "dataset"
    return "source" if step["window"] is None else "window"
