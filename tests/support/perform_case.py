"""A tiny causal checkpoint, and made recordings of two voices, for tests of performances."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from lpm_train.config import Config, override
from lpm_train.fitting import fitted
from lpm_train.presets import PRESETS
from lpm_train.session import make_encoders
from lpm_train.tools.media import write_mp4, write_png
from lpm_train.training import checkpoint
from lpm_train.training.checkpoint import Meta
from lpm_train.training.stage import make_stage
from schemas.time import PACKED_AUDIO_HZ

SETTINGS = [
    "data.codec=patch", "data.codec.stride=[2, 4, 4]", "data.audio.steps_per_frame=1", "data.audio.n_mels=8",
    "data.text=hashed-words", "data.text.width=8", "data.text.length=4", "data.frames=16", "data.height=16",
    "data.width=16", "data.max_refs=2", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=2",
    "stream.block=4", "stream.window=4", "stream.steps=1", "run.device=cpu",
]  # fmt: skip


def config(stage: str = "causal") -> Config:
    """Settings of a model of some 30,000 parameters that makes pictures of 16 x 16, eight frames a block."""
    chosen = override(PRESETS["toy"](), [*SETTINGS, f"run.stage={stage}"])
    return fitted(chosen, make_encoders(chosen.data))


def write_checkpoint(run: Path, stage: str = "causal") -> Path:
    """Write a run whose model knows nothing, but in which nothing is zero, so that every condition shows."""
    settings = config(stage)
    made = make_stage(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for p in made.student.parameters():
            nn.init.normal_(p, std=0.15)
    made.ema.weights.update({n: p.detach().clone() for n, p in made.student.named_parameters()})
    checkpoint.save(run, made, settings, Meta(step=0), keep=1)
    return run


def write_faces(folder: Path) -> tuple[Path, Path]:
    """Write two pictures."""
    files = folder / "a.png", folder / "b.png"
    for file, level in zip(files, (60, 180), strict=True):
        write_png(file, np.full((20, 16, 3), level, np.uint8))
    return files


def voice(seconds: float, pitch_hz: float, seed: int, rate_hz: int = PACKED_AUDIO_HZ) -> NDArray[np.float32]:
    """Return a made voice: harmonics that come and go some four times a second, never wholly silent."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in range(1, 6))
    level = 0.12 + 0.08 * np.sin(2 * np.pi * 4 * t + seed)
    return np.asarray(level * tone, np.float32)


TURNS = [("a", 0.3, 1.7), ("b", 2.4, 3.9), ("a", 3.5, 4.6)]
"""(who, start_s, end_s) of `write_talk`: they talk over each other from 3.5 to 3.9 s; 1.7 to 2.4 s is silent."""
SECONDS = 5.5


@cache
def tracks(rate_hz: int = PACKED_AUDIO_HZ) -> NDArray[np.float32]:
    """Return both people's voices, [2, N], with a room's faint tone."""
    rng = np.random.default_rng(0)
    out = (1e-3 * rng.standard_normal((2, round(SECONDS * rate_hz)))).astype(np.float32)
    for who, start_s, end_s in TURNS:
        row, first = "ab".index(who), round(start_s * rate_hz)
        said = voice(end_s - start_s, (120, 210)[row], row, rate_hz)
        out[row, first : first + len(said)] += said
    return out


def write_talk(file: Path) -> Path:
    """Write the recording of two voices as one track."""
    soundfile.write(file, tracks().sum(axis=0), PACKED_AUDIO_HZ)
    return file


def write_rttm(file: Path) -> Path:
    """Write its true turns."""
    lines = [f"SPEAKER talk 1 {a:.3f} {b - a:.3f} <NA> <NA> {who} <NA> <NA>\n" for who, a, b in TURNS]
    file.write_text("".join(lines))
    return file


def write_silent(file: Path) -> Path:
    """Write a video without sound."""
    write_mp4(file, [np.full((16, 16, 3), 90, np.uint8)] * 10)
    return file


class Quarters:
    """A separator that gives a quarter of the mixture, and the rest."""

    name, weights, rate_hz = "quarters", (), 8000

    def __init__(self) -> None:
        self.calls = 0

    def separate(self, mixture: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls += 1
        return np.stack([mixture / 4, 3 * mixture / 4])
