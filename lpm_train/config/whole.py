"""All sections of a configuration, and how they must fit each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ConfigDict

from lpm_train import flow
from lpm_train.config.data import Data
from lpm_train.config.errors import ConfigError
from lpm_train.config.generation import Flow, Guide, Stream
from lpm_train.config.network import Base, Lora, Model
from lpm_train.config.running import Log, Optim, Run, Watch
from lpm_train.config.stages import Causal, Consistency, Distill, Pretrain


@dataclass(frozen=True, kw_only=True)
class Config:
    """All of it."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: Model
    base: Base = field(default_factory=Base)
    lora: Lora = field(default_factory=Lora)
    flow: Flow = field(default_factory=Flow)
    stream: Stream = field(default_factory=Stream)
    pretrain: Pretrain = field(default_factory=Pretrain)
    causal: Causal = field(default_factory=Causal)
    consistency: Consistency = field(default_factory=Consistency)
    distill: Distill = field(default_factory=Distill)
    optim: Optim = field(default_factory=Optim)
    run: Run = field(default_factory=Run)
    watch: Watch = field(default_factory=Watch)
    log: Log = field(default_factory=Log)
    data: Data = field(default_factory=Data)

    def __post_init__(self) -> None:
        """See that parts make up a batch, texts change with blocks, and guidance asks for no pass never shown."""
        if self.optim.micro_batch and self.data.batch % self.optim.micro_batch:
            raise ConfigError(
                f"optim.micro_batch {self.optim.micro_batch} does not divide data.batch {self.data.batch}: set a "
                "divisor of the samples that a rank has of a batch, or 0 for all of them at once"
            )
        if self.data.prompts == "timed" and self.data.prompt_latents % self.stream.block:
            raise ConfigError(
                f"data.prompt_latents {self.data.prompt_latents} must be a multiple of stream.block "
                f"{self.stream.block}: a stream takes new words from one block to the next"
            )
        two, before = self.distill.role != "student", self.run.stage.choice in ("pretrain", "causal", "consistency")
        if self.stream.refine != two or (two and before):
            raise ConfigError(
                f"distill.role={self.distill.role}, stream.refine={str(self.stream.refine).lower()} and the stage "
                f"{self.run.stage.choice} do not fit: backbone and refiner are for stream.refine=true in distillation, "
                "where one does stream.steps steps and the other the last; all else is for a student and false"
            )
        for section, part in (("flow", self.flow), ("distill", self.distill)):
            if part.guide == Guide():
                continue
            if part.guide.refs is not None and not self.data.max_refs:
                raise ConfigError(f"{section}.guide.refs has nothing to guide by: data.max_refs is 0")
            for given in flow.compared(part.scales):
                without = [n for n in flow.GUIDED[given:] if not getattr(self.pretrain.drop, n)]
                if given and without:
                    raise ConfigError(
                        f"{section}.guide weighs {flow.GUIDED[given - 1]} apart from {flow.GUIDED[given]}, which takes "
                        f"passes without {', '.join(flow.GUIDED[given:])}, and pretrain.drop.{without[0]} is 0: the "
                        "model never saw that; give both one scale, or train with that condition dropped at times"
                    )
