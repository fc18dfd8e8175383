"""Workflow: a named pipeline as data: which stages run, with which settings and on what resources."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Resources(BaseModel):
    """What one worker of a stage needs; contiguous stages with equal needs and one Python share a worker (a lane)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpus: float = Field(default=1.0, gt=0, description="CPU cores")
    gpus: float = Field(default=0.0, ge=0, description="GPUs; fractions share one")
    batch: int = Field(default=1, ge=1, description="items that a worker takes at once, by stages with run_many")
    memory_gb: float = Field(default=0.0, ge=0, description="reserved memory in GiB; 0 = unreserved")
    attempts: int = Field(
        default=3, ge=1, description="attempts that may end without a result (a crash, no memory, no end) for one item"
    )
    interruptions: int = Field(
        default=10,
        ge=1,
        description="attempts that may end with their whole run, worker or machine for one item",
    )
    max_memory_gb: float = Field(
        default=0.0,
        ge=0,
        description="memory in GiB, with that of what it started, that ends an attempt; 0 = 9/10 of the machine's",
    )
    max_s: float = Field(
        default=0.0, ge=0,
        description="seconds after which an attempt is ended; 0 = ten minutes, and two more for each second of media",
    )  # fmt: skip
    max_cpu_s: float = Field(
        default=0.0,
        ge=0,
        description="CPU seconds, with those of what it started, that end an attempt; 0 = any",
    )
    custom: dict[str, float] = Field(default_factory=dict, description="custom Ray resources")


class StageSpec(BaseModel):
    """One stage of a workflow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str = Field(
        default="", pattern=r"^([\w.]+:\w+|\w*)$", description="a shipped stage, or module:Class; default: its own name"
    )
    settings: dict[str, Any] = Field(default_factory=dict)
    python: str = Field(
        default="",
        description="the Python that runs it, or its environment's folder, relative to this file; default: this one",
    )
    resources: Resources = Resources()


class Workflow(BaseModel):
    """A pipeline: stages by name, in order, and the policy used when none is given."""

    # A stage's setting may be infinite where the stage says so, and is kept as that.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

    name: str
    description: str = ""
    policy: str = Field(description="name of a built-in policy, or a path")
    window_s: float = Field(default=120.0, gt=1.0, description="length of scan windows for long sources, seconds")
    shared: dict[str, Any] = Field(default_factory=dict, description="settings that stages have in common")
    stages: dict[str, StageSpec]
    pack: dict[str, Any] = Field(default_factory=dict, description="settings of shard assembly")
