"""How a stage is run: optimizer, length, ranks and checkpoints, and what is shown meanwhile."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lpm_train import parts
from lpm_train.config.errors import ConfigError, betas, not_negative, positive, share


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW, or Muon, on float32 weights."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    muon: bool = False  # Muon for the matrices of the blocks, at three times the rate; AdamW for all else
    weight_decay: float = 0.0
    warmup: int = 20
    clip: float = 1.0
    decay_to: float = 1.0  # share of the rate that a cosine reaches at the last step; 1: constant
    # Samples in one forward pass on a rank; 0: all. Gradients of parts add up to those of the whole batch.
    micro_batch: int = 0
    # Add parts pairwise, so that bits do not depend on the number of ranks; costs log2(parts) gradient copies.
    exact_sums: bool = True
    ema: float = 0.99

    def __post_init__(self) -> None:
        not_negative(self, "lr", "weight_decay", "warmup", "clip", "micro_batch")
        share(self, "decay_to", "ema")
        betas(self, "betas")


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long, where, and how often to look."""

    stage: parts.StagePart = field(default_factory=parts.stage)
    steps: int = 1000
    seed: int = 0
    device: str = ""  # empty: cuda if there is one, else cpu
    # Ranks that hold one copy of the weights between them; further ranks are replicas of these. 0: all ranks.
    shard: int = 0
    bf16: bool = False
    compile: bool = False
    checkpointing: bool = False
    attention: Literal["sdpa", "flex"] = "sdpa"
    context: int = 1  # ranks that share one sample's tokens (`lpm_train.network.context`)
    threads: int = 1  # CPU threads of torch; more than one core's worth stalls on a shared machine
    log_every: int = 20
    eval_every: int = 200
    save_every: int = 200
    keep: int = 3  # checkpoints kept, the best one besides
    # Where checkpoints go, in a folder named as the run: s3://bucket/prefix or a directory; empty: into the run's own.
    checkpoints: str = ""
    # Training goes on while a checkpoint is written, which takes memory of the CPU for a copy of the rank's state.
    background: bool = True
    select: str = "heldout_loss"  # the figure by which the best checkpoint is chosen; the smaller the better
    # A flow-matching stage is done when its held-out loss has fallen to this share of the first.
    exit_share: float = 0.5
    stop_when_passed: bool = False  # stop as soon as all exit criteria pass
    patience: int = 0  # stop after so many evaluations without a better figure; 0: never

    def __post_init__(self) -> None:
        positive(self, "threads", "log_every", "eval_every", "save_every", "keep")
        not_negative(self, "steps", "shard", "exit_share", "patience")
        if not re.fullmatch(r"(cpu|cuda(:\d+)?)?", self.device):
            raise ConfigError(
                f"run.device = {self.device!r}: write cpu, cuda or cuda:N, or nothing for a GPU where there is one"
            )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is shown while a run trains: held-out clips on the run's page, index.html."""

    every: int = 1  # evaluations between two showings; the first and the last are always shown; 0: no page
    clips: int = 4  # held-out clips that are generated each time; 0: no page

    def __post_init__(self) -> None:
        not_negative(self, "every", "clips")


@dataclass(frozen=True, kw_only=True)
class Log:
    """Where numbers go besides the run's log.jsonl."""

    tensorboard: bool = False  # needs the extra [tensorboard]
