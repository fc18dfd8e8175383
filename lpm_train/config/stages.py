"""What each stage of training does, by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lpm_train import parts
from lpm_train.batch import DropRates
from lpm_train.config.errors import ConfigError, betas, not_negative, positive, share
from lpm_train.config.generation import Guide


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of pretraining: conditions that are not yet taught are switched off."""

    share: float  # share of the stage's steps
    listen: bool = True
    refs: bool = True

    def __post_init__(self) -> None:
        share(self, "share")


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Bidirectional flow matching; speech first, then listening, then references."""

    phases: tuple[Phase, ...] = (Phase(share=1.0),)
    drop: DropRates = field(default_factory=DropRates)
    prefix_p: float = 0.0  # how often the first frames are given clean, so that the model can continue a clip
    prefix_max: int = 3  # most frames given so

    def __post_init__(self) -> None:
        positive(self, "prefix_max")
        share(self, "prefix_p")
        if not self.phases or sum(phase.share for phase in self.phases) > 1 + 1e-6:
            raise ConfigError("pretrain.phases: name one at least, with shares of the steps that add up to 1")


@dataclass(frozen=True, kw_only=True)
class Causal:
    """Teacher forcing by blocks."""

    # Clean context is noised by up to this level while still labelled clean: the remedy for drift.
    context_noise: float = 0.3
    drop: DropRates = field(default_factory=lambda: DropRates(speak=0, listen=0, text=0, refs=0, everything=0))

    def __post_init__(self) -> None:
        share(self, "context_noise")


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Optional: teach the causal model to jump along its own path."""

    grid: int = 48  # points of the path; a step is one interval
    context_noise: float = 0.3

    def __post_init__(self) -> None:
        positive(self, "grid")
        share(self, "context_noise")


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Distribution matching, on the student's own rollouts or off its policy."""

    # Which network learns: one that does all steps, or where `stream.refine` is on the backbone, which does all but the
    # last, or the refiner, which does the last one behind a frozen backbone.
    role: Literal["student", "backbone", "refiner"] = "student"
    # Whose latents the student's steps begin with and have in their past: its own rollout's, or, off its policy, the
    # data's or those that the teacher makes in `flow.steps` passes, noised again.
    policy: Literal["own", "data", "teacher"] = "own"
    # Latents of a rollout; 0: the clip's. Of more, conditions come from chains of clips (`lpm_train.data.chains`).
    rollout: int = 0
    loss_frames: int = 0  # last latents of it that carry the loss; 0: all, of a chain as many as a clip has
    # Where such conditions come from instead: whole recordings, as `lpm export conversations` writes them.
    conversations: str = ""
    gap_s: float = 1.0  # longest time between two clips of a chain, in which nobody talks then
    critic_steps: int = 5  # critic updates for each generator update
    lr: float = 0.0  # the student's learning rate; 0: optim.lr
    critic_lr: float = 3e-4
    critic_betas: tuple[float, float] | None = None  # None: those of optim
    critic_muon: bool | None = None
    teacher: Literal["pretrain", "causal"] = "pretrain"  # whose layout scores: both directions, or teacher forcing
    guidance: float = 1.0  # of the teacher; the student learns its result
    guide: Guide = field(default_factory=Guide)
    t_min: float = 0.02
    t_max: float = 0.98
    shift: float = 2.0
    context_noise: float = 0.0  # noise put on a finished block before it is remembered
    # Off the policy: how far the student's pictures are from those of the latents it began with, beside the loss.
    perceptual: parts.PerceptualPart = field(default_factory=parts.perceptual)
    perceptual_weight: float = 1.0
    perceptual_frames: int = 1  # latents of each clip that are decoded for it, drawn anew at each step

    def __post_init__(self) -> None:
        positive(self, "critic_steps", "shift", "perceptual_weight", "perceptual_frames")
        not_negative(self, "rollout", "loss_frames", "gap_s", "lr", "critic_lr", "guidance")
        share(self, "context_noise")
        if self.critic_betas is not None:
            betas(self, "critic_betas")
        if not 0 < self.t_min <= self.t_max <= 1:
            raise ConfigError(
                f"distill.t_min {self.t_min} and t_max {self.t_max}: levels rise from above 0 to 1 at most"
            )
        if self.perceptual.at_work and self.policy == "own":
            raise ConfigError(
                f"distill.perceptual={self.perceptual.choice} compares with given latents, and distill.policy=own has "
                "none: set distill.policy=data or teacher, or distill.perceptual=none"
            )
        if self.role == "backbone" and self.context_noise:
            raise ConfigError("distill.context_noise is for a clean past, and a backbone's is noisy: set it to 0")
        if self.policy == "teacher" and self.teacher == "causal":
            raise ConfigError("distill.policy=teacher asks for clips of a teacher that sees both directions")

    @property
    def scales(self) -> tuple[float, ...]:
        """The teacher's guidance of each condition."""
        return self.guide.scales(self.guidance)
