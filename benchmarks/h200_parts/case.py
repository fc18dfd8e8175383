"""What a part runs on: a configuration with its encoders, a device, and the time until which measurements may begin.

Weights are random, for cost does not depend on them. On a CPU a tiny model of the same form goes the same ways in
seconds; what would be compiled is made into graphs that run as they are, so that no compiler is needed.
"""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from h200_parts.codec import wan_codec
from lpm_train.config import Config, ConfigError, Lora, override
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import latent_frames, latent_size
from lpm_train.encoders.text import HashedWords
from lpm_train.fitting import fitted
from lpm_train.presets import PRESETS
from lpm_train.session import make_encoders, usable
from lpm_train.tools.budget import TEXTS

Figures = Iterator[tuple[str, Any]]
"""What a part gives, one after another as it is found: (name, figure)."""

TINY = [
    "data.codec=patch", "data.codec.stride=[2, 2, 2]", "data.audio.steps_per_frame=1", "data.audio.n_mels=8",
    "data.text=hashed-words", "data.text.width=8", "data.text.length=4", "data.frames=12", "data.height=8",
    "data.width=8", "data.max_refs=2", "model.width=32", "model.depth=1", "model.heads=2", "stream.block=2",
    "stream.window=2", "stream.steps=2", "distill.critic_steps=2",
]  # fmt: skip
MASKS = 4
"""Channels that say where a picture is given, beside those of its latents."""


def _with_picture() -> Config:
    """Wan 2.1 I2V 14B: channels for a given first picture, and CLIP's tokens of it."""
    c = PRESETS["wan_14b"]()
    model = replace(c.model, image_channels=c.model.channels + MASKS, picture_width=1280)
    return replace(c, model=model, data=replace(c.data, first_frame=True))


CONFIGS = {**PRESETS, "wan_14b_i2v": _with_picture}
"""What can be measured: the presets, and the form of an image-to-video base."""


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

    def freed(self) -> None:
        """Give back what nobody holds any more, and measure the memory's peak anew."""
        gc.collect()  # streams and stages hold themselves in cycles
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def tried(way: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure one way of several; what it raises is written down, and hides none of the others."""
    try:
        return way()
    except ConfigError as e:  # this machine has not what the way asks for
        return {"refused": str(e)}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def make_case(preset: str, tiny: bool, device: str, limit_s: float) -> Case:
    """Make the case of a preset, or a tiny one of its form; `limit_s` from now on measurements may begin."""
    place, notes = usable(device), list[str]()
    if tiny:
        config, encoders = _tiny(CONFIGS[preset]())
    else:
        config = CONFIGS[preset]()
        text = HashedWords(config.model.text_width, TEXTS[config.data.text.choice][0])
        encoders = Encoders(wan_codec(config.model.channels, device, notes), config.data.audio.build(), text, device)
        steps = encoders.codec.stride[0] * encoders.audio.steps_per_frame
        config = replace(config, model=replace(config.model, audio_steps=steps, audio_width=encoders.audio.width))
    if device == "cpu":
        run = replace(config.run, bf16=False, compile=False, attention="sdpa", device="cpu")
    else:
        torch.set_float32_matmul_precision("high")
        run = replace(config.run, device=device)
    return Case(replace(config, run=run), encoders, place, tiny, time.perf_counter() + limit_s, tuple(notes))


def _tiny(like: Config) -> tuple[Config, Encoders]:
    """Return the smallest configuration that has the parts of another one."""
    config = override(PRESETS["toy"](), [f"data.first_frame={str(like.data.first_frame).lower()}", *TINY])
    encoders = make_encoders(config.data)
    m = fitted(config, encoders).model
    picture = m.channels + MASKS if like.model.image_channels else 0
    m = replace(m, kind=like.model.kind, image_channels=picture, picture_width=6 * bool(like.model.picture_width))
    return replace(config, model=m, lora=Lora(rank=2 * bool(like.lora.rank))), encoders


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
