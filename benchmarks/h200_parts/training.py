"""What a step of each stage costs, and how much of the peak it reaches."""

from __future__ import annotations

import statistics
from dataclasses import replace

from train import random_batch

from h200_parts.case import Case, Figures
from lpm_train import parts
from lpm_train.tools.flops import H200_BF16, distill_flops, forward_flops
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage


def train_part(case: Case, name: str) -> Figures:
    """Time steps of a stage; of distillation, a student's update and the critic's that belong to it."""
    config = replace(case.config, run=replace(case.config.run, stage=parts.stage(name)))
    (F, H, W), forced = case.size, name == "causal"
    began = case.wait()
    stage = make_stage(config, Ranks(device=case.device))
    yield "parameters", sum(p.numel() for p in stage.student.parameters())
    yield "latents", [F, H, W]
    yield "settings", {"compile": config.run.compile, "bf16": config.run.bf16, "attention": config.run.attention}
    yield "make_s", case.wait() - began
    batch = random_batch(config, (F, H, W), 1)
    every = config.distill.critic_steps if name == "distill" else 1
    began, step = case.wait(), 0
    for step in range(every):  # compiles
        stage.step(batch, step)
    yield "warm_s", case.wait() - began
    times = list[float]()
    while len(times) < (1 if case.tiny else 8) and (not times or not case.late):
        began = case.wait()
        for _ in range(every):
            step += 1
            stage.step(batch, step)
        times.append(case.wait() - began)
    if name == "distill":
        flops = every * distill_flops(config, F, H, W, refs=config.data.max_refs, text=6)
    else:
        s = config.stream
        flops = 3 * forward_flops(
            config.model, F, H, W, refs=config.data.max_refs, text=6, block=s.block if forced else 0,
            window=s.window if forced else 0,
        )  # fmt: skip
    took = statistics.median(times)
    yield "steps", every
    yield "step_s", took
    yield "tflop", flops / 1e12
    yield "tflops", flops / took / 1e12
    yield "mfu", flops / took / H200_BF16
    yield "memory_gb", case.peak_gb()
