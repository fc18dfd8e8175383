"""How noise becomes frames: levels, guidance, and the layout of a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lpm_train import flow
from lpm_train.config.errors import ConfigError, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Guide:
    """How strongly each condition counts in guidance (`lpm_train.flow.guided`); None: as much as `guidance` says."""

    refs: float | None = None
    text: float | None = None
    speak: float | None = None
    listen: float | None = None

    def __post_init__(self) -> None:
        for name, scale in vars(self).items():
            if scale is not None and not 0 <= scale < math.inf:
                raise ConfigError(
                    f"guide.{name} = {scale}: 0 leaves the condition out, 1 takes it as it is, more exaggerates it; "
                    "a negative scale would show its opposite"
                )

    def scales(self, guidance: float) -> tuple[float, ...]:
        """Return a scale for each of `flow.GUIDED`."""
        given = (getattr(self, name) for name in flow.GUIDED)
        return tuple(guidance if scale is None else scale for scale in given)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Noise levels: where training looks, and how a full sampler walks."""

    shift: float = 2.0  # moves mass to high noise; 1 none, 5 usual for 480p
    steps: int = 20  # of the undistilled sampler
    solver: Literal["euler", "dpmpp_2m"] = "dpmpp_2m"  # how it walks between them: `lpm_train.flow`
    guidance: float = 1.0
    guide: Guide = field(default_factory=Guide)

    def __post_init__(self) -> None:
        positive(self, "shift", "steps")
        not_negative(self, "guidance")

    @property
    def scales(self) -> tuple[float, ...]:
        """Guidance of each condition."""
        return self.guide.scales(self.guidance)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """How frames are generated one block after another, and what a block sees: also the layout of teacher forcing."""

    block: int = 3  # latent frames generated at once
    window: int = 9  # latent frames of the recent past that stay visible
    sink: int = 0  # latent frames of the stream's start that stay visible; references always do
    steps: int = 4  # denoising steps of the student
    shift: float = 3.0  # spacing of those steps
    resample: bool = True  # draw new noise between steps (as distilled) instead of following the path
    # One more step, by a second network on a clean past of its own. The first, the backbone, then has a noisy past:
    # what its last step saw of each block (`lpm_train.streaming.rollout.BackboneRollout`).
    refine: bool = False
    # How streams and `lpm train eval` compute it (`lpm_train.streaming.playing`); what comes out is the same.
    cache: Literal["eager", "static"] = "eager"  # what grows to the window (the reference), or buffers of fixed size
    compile: bool = False  # one compiled graph a pass, on CUDA one CUDA graph a block; static alone
    bf16: bool = False  # weights, activations and cache in bfloat16; levels, positions and latents stay float32
    fp8: bool = False  # the blocks' large matrices in float8 besides, on GPUs that multiply it (`network.fp8`)
    decode: Literal["after", "beside"] = "after"  # pictures of a block: before the next one begins, or while it runs

    def __post_init__(self) -> None:
        positive(self, "block", "steps", "shift")
        if self.window < self.block or self.window % self.block or self.sink < 0 or self.sink % self.block:
            raise ConfigError(f"stream.window {self.window} and sink {self.sink} must be multiples of {self.block}")
        if self.fp8 and not self.bf16:
            raise ConfigError("stream.fp8 goes with bfloat16 for all that is not in float8: set stream.bf16=true")
        if self.compile and self.cache != "static":
            raise ConfigError("stream.compile needs shapes that stay the same: set stream.cache=static")

    @property
    def levels(self) -> list[float]:
        """Noise levels from 1 down of all steps, the refiner's last where there is one."""
        return [float(t) for t in flow.levels(self.steps + self.refine, self.shift)]

    @property
    def history(self) -> float:
        """The noise level of a backbone's past."""
        return self.levels[self.steps - 1]

    def kept(self, frames: int) -> list[tuple[int, int]]:
        """Return the frame ranges that are visible once `frames` frames lie in the past."""
        whole = frames <= self.sink + self.window
        ranges = [(0, frames)] if whole else [(0, self.sink), (frames - self.window, frames)]
        return [r for r in ranges if r[0] < r[1]]

    def blocks(self, frames: int) -> int:
        """Return how many blocks a clip has."""
        if frames % self.block:
            raise ConfigError(
                f"{frames} frames are not a multiple of block {self.block}: set stream.block or the clip length"
            )
        return frames // self.block
