"""What a step of each stage costs, and how much of the peak it reaches."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any, Literal

import torch
from train import random_batch

from h200_parts.base import drawn_base
from h200_parts.case import Case, Figures, tried
from lpm_train import parts
from lpm_train.config import Config
from lpm_train.tools.flops import H200_BF16, sample_flops
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage

_TIMES = 8


def train_part(case: Case, name: str, role: Literal["student", "backbone", "refiner"] = "student") -> Figures:
    """Time steps of a stage; of distillation, an update of what learns and the critic's that belong to it."""
    yield from _steps(case, _staged(case.config, name, role))


def attention_step_part(case: Case) -> Figures:
    """Time teacher-forced steps with each way to compute attention, one after another."""
    config = _staged(case.config, "causal")
    for attention in ("sdpa", "flex"):
        if case.late:
            yield attention, {"refused": "the time of this part was up"}
            continue
        way = replace(config, run=replace(config.run, attention=attention))
        yield attention, tried(lambda way=way: dict(_steps(case, way)))  # type: ignore[misc]
        torch._dynamo.reset()
        case.freed()


def _staged(config: Config, name: str, role: Literal["student", "backbone", "refiner"] = "student") -> Config:
    """Return the configuration of a stage."""
    return replace(
        config, run=replace(config.run, stage=parts.stage(name)), distill=replace(config.distill, role=role),
        stream=replace(config.stream, refine=role != "student"),
    )  # fmt: skip


def _steps(case: Case, config: Config) -> Figures:
    """Make a stage and time its steps; figures of time come again after each."""
    (F, H, W), texts, refs = case.size, case.encoders.text.length, config.data.max_refs
    began = case.wait()
    with drawn_base(config) as based:
        stage = make_stage(based, Ranks(device=case.device))
    yield "parameters", sum(p.numel() for p in stage.student.parameters())
    yield "latents", [F, H, W]
    yield "texts", texts
    yield "begins_with_picture", config.data.first_frame
    if config.lora.rank:
        yield "lora", {"rank": config.lora.rank, "counted": "as if all weights had gradients"}
    yield "settings", {"compile": config.run.compile, "bf16": config.run.bf16, "attention": config.run.attention}
    yield "make_s", case.wait() - began
    batch = random_batch(config, (F, H, W), 1, texts)
    every = config.distill.critic_steps if config.run.stage.choice == "distill" else 1
    began, step = case.wait(), 0
    for step in range(every):  # compiles
        stage.step(batch, step)
    yield "warm_s", case.wait() - began
    flops = every * sample_flops(config, F, H, W, refs=refs, text=texts)
    yield "steps", every
    yield "tflop", flops / 1e12
    times = list[float]()
    while len(times) < (1 if case.tiny else _TIMES) and (not times or not case.late):
        began = case.wait()
        for _ in range(every):
            step += 1
            stage.step(batch, step)
        times.append(case.wait() - began)
        yield from _speed(flops, times).items()
    yield "memory_gb", case.peak_gb()


def _speed(flops: float, times: list[float]) -> dict[str, Any]:
    took = statistics.median(times)
    return {"timed": len(times), "step_s": took, "tflops": flops / took / 1e12, "mfu": flops / took / H200_BF16}
