"""What a part runs on: a configuration with its encoders, a device, and the time until which measurements may begin.

Weights are random, for cost does not depend on them. On a CPU a tiny model goes the same ways in seconds; what would be
compiled is made into graphs that run as they are, so that no compiler is needed.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from lpm_train.config import Config, ConfigError, override
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import Codec, PatchCodec, latent_frames, latent_size
from lpm_train.encoders.text import HashedWords
from lpm_train.fitting import fitted
from lpm_train.presets import PRESETS
from lpm_train.session import make_encoders, usable

Figures = Iterator[tuple[str, Any]]
"""What a part gives, one after another as it is found: (name, figure)."""

TINY = [
    "data.codec=patch", "data.codec.stride=[2, 2, 2]", "data.audio.steps_per_frame=1", "data.audio.n_mels=8",
    "data.text=hashed-words", "data.text.width=8", "data.text.length=4", "data.frames=12", "data.height=8",
    "data.width=8", "data.max_refs=2", "model.width=32", "model.depth=1", "model.heads=2", "stream.block=2",
    "stream.window=2", "stream.steps=2", "distill.critic_steps=2",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """See the module's text."""

    config: Config
    encoders: Encoders
    device: torch.device
    tiny: bool
    deadline: float  # on `time.perf_counter`
    notes: tuple[str, ...] = ()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def late(self) -> bool:
        """Whether nothing new is to begin."""
        return time.perf_counter() > self.deadline

    @property
    def size(self) -> tuple[int, int, int]:
        """Latent frames of a clip, height and width."""
        d, codec = self.config.data, self.encoders.codec
        return (latent_frames(codec, d.frames), *latent_size(codec, d.height, d.width))

    def wait(self) -> float:
        """Let the device finish; returns the time."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, run: Callable[[], Any], times: int = 20, warm: int = 2) -> float:
        """Return the median seconds of a call, after `warm` others; fewer calls where time is up."""
        for _ in range(warm):
            run()
        seconds = list[float]()
        while len(seconds) < (2 if self.tiny else times) and (not seconds or not self.late):
            began = self.wait()
            run()
            seconds.append(self.wait() - began)
        return statistics.median(seconds)

    def peak_gb(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 1e9 if self.cuda else None


def tried(way: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure one way of several; what it raises is written down, and hides none of the others."""
    try:
        return way()
    except ConfigError as e:  # this machine has not what the way asks for
        return {"refused": str(e)}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def make_case(preset: str, tiny: bool, device: str, limit_s: float) -> Case:
    """Make the case of a preset, or a tiny one, on a device; `limit_s` from now on measurements may begin."""
    place, notes = usable(device), list[str]()
    if tiny:
        config = override(PRESETS["toy"](), TINY)
        encoders = make_encoders(config.data)
        config = fitted(config, encoders)
    else:
        config = PRESETS[preset]()
        text = HashedWords(config.model.text_width, 512 if config.model.kind == "wan" else 64)
        encoders = Encoders(_wan_codec(config, device, notes), config.data.audio.build(), text, device)
        steps = encoders.codec.stride[0] * encoders.audio.steps_per_frame
        config = replace(config, model=replace(config.model, audio_steps=steps, audio_width=encoders.audio.width))
    if device == "cpu":
        run = replace(config.run, bf16=False, compile=False, attention="sdpa", device="cpu")
    else:
        torch.set_float32_matmul_precision("high")
        run = replace(config.run, device=device)
    return Case(replace(config, run=run), encoders, place, tiny, time.perf_counter() + limit_s, tuple(notes))


def _wan_codec(config: Config, device: str, notes: list[str]) -> Codec:
    """Return Wan's codec with random weights where diffusers is here, else one that leaves latents undecoded."""
    try:
        import diffusers

        from lpm_train.extras.codec_public import WanCodec

        found: Codec = WanCodec(diffusers.AutoencoderKLWan()).to(device)
        return found
    except ImportError as e:
        notes.append(f"no diffusers ({e}): latents stay undecoded, which costs nothing")
    codec = PatchCodec((4, 8, 8))
    codec.channels, codec.first_alone = config.model.channels, True  # type: ignore[misc]
    codec.decode = lambda z, state=None: (  # type: ignore[method-assign]
        z.new_zeros(1, z.shape[1] * 4 - 3 * (state is None), 3, 1, 1), True
    )  # fmt: skip
    return codec


@contextmanager
def no_compiler(device: str) -> Iterator[None]:
    """On a CPU, let `torch.compile` make graphs and run them as they are."""
    compiled = torch.compile
    if device == "cpu":
        torch.compile = functools.partial(compiled, backend="eager")  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiled
