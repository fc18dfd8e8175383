"""What a second of video costs, stage by stage, as the logs of runs tell it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.dataset import Dataset
from curation.runs.steps import Logged, by_run
from curation.stage import WorkItem
from curation.storage.commits import commit_file, commit_hash, read_commit
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
    cpu_s_per_gigapixel: float = Field(default=0.0, ge=0)
    """that a further 1e9 decoded pixels a second of video add"""


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
    pixels_per_s: float | None = Field(default=None, ge=0)
    """decoded a second of video; None where that was not yet told"""
    stages: Sequence[StageRate]


def with_slopes(rates: Rates, slopes: Mapping[str, float]) -> Rates:
    """Return rates with what pixels cost each stage, of those that are named."""
    stages = [r.model_copy(update={"cpu_s_per_gigapixel": slopes.get(r.stage, 0.0)}) for r in rates.stages]
    return rates.model_copy(update={"stages": stages})


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
    counts = "count(*), coalesce(sum(duration_s), 0), coalesce(sum(n_frames * width * height), 0)"
    sources, video_s, pixels = dataset.query(f"SELECT {counts} FROM sources").fetchall()[0]
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
        pixels_per_s=round(pixels / video_s),
        stages=[StageRate(stage=s, grain=grains[s], cpu_s=round(v / video_s, 5)) for s, v in cpu_s.items()],
    )


def _made(dataset: Dataset) -> dict[tuple[str, str, int | None], list[Logged]]:
    """Return, of each stage and item, the steps that made what the dataset holds of it, the newest first.

    That is the step whose commit stands: what was computed before it was replaced, and what was computed when a kill
    came before the commit is no part of it. Where a stage measures unit by unit, a step may have added some to those
    that were there; then steps count back to the one with which there were as many as the commit holds. Sources that
    are no more do not count. In memory is one entry a stage and item.
    """
    store = dataset.store
    ran: dict[tuple[str, str, int | None], list[Logged]] = {}
    killed: set[tuple[str, str, int | None]] = set()
    for run_id, steps in by_run(store):
        orderly = store.exists(f"runs/{run_id}/outcome.json")
        for step in steps:
            if step["status"] in ("ran", "error"):
                at = (step["stage"], step["source_id"], step["window"])
                ran.setdefault(at, []).append(step)
                if not orderly:
                    killed.add(at)
    known = {"", *(str(i) for (i,) in dataset.query("SELECT source_id FROM sources").fetchall())}
    made = {}
    for at, steps_of in ran.items():
        if at[1] in known:
            newest = steps_of[::-1]
            if len(newest) > 1 or at in killed:
                newest = _standing(store, newest)
            if newest and (newest[0]["status"] == "ran" or newest[0].get("units")):
                made[at] = [s for s in newest if s["status"] == "ran" or s.get("units")]
    return made


def _standing(store: Store, steps: list[Logged]) -> list[Logged]:
    """Return the steps, the newest first, that made the commit which stands; none where none stands."""
    stage, source_id, window = steps[0]["stage"], steps[0]["source_id"], steps[0]["window"]
    item = WorkItem(source_id, window_index=window or 0)
    commit = read_commit(store, commit_file(stage, item, windowed=window is not None))
    if commit is None:
        return []
    stands = commit_hash(commit)
    told = [n for n, step in enumerate(steps) if step.get("commit", stands) == stands]  # earlier logs do not tell
    steps = steps[told[0] :] if told else []
    if len(steps) < 2 or not any(step.get("units") for step in steps):
        return steps[:1]
    held = len(commit.units)
    added = itertools.accumulate(
        step.get("units", held) for step in steps
    )  # earlier logs do not tell: all, most likely
    return steps[: next((n for n, units in enumerate(added, start=1) if units >= held), len(steps))]


def _grain(step: Logged) -> Grain:
    if not step["source_id"]:
        return "dataset"
    return "source" if step["window"] is None else "window"
