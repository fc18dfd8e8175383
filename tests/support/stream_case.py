"""A small stream with its parts, for the tests of streams."""

from __future__ import annotations

from dataclasses import replace

import torch
import train_case as case
from torch import Tensor

from lpm_train.batch import Conditions
from lpm_train.config import Config, Model, Stream
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.codec import PatchCodec
from lpm_train.encoders.text import HashedWords

RATE = 16_000
STREAM = Stream(block=2, window=4, sink=2, steps=2, cache="static")
CODEC, AUDIO, TEXT = PatchCodec((1, 2, 2)), LogMel(2, 6), HashedWords(5, 4)


def settings() -> Config:
    return Config(
        model=Model(
            channels=12, audio_width=6, audio_steps=2, text_width=5, depth=2, width=12, heads=2,
            speak_before=1, speak_after=1, listen_before=3,
        ),
        stream=STREAM,
    )  # fmt: skip


def references() -> Conditions:
    cond = case.batch(["a"]).cond
    return replace(cond, ref_BKCHW=torch.randn(1, 2, 12, 4, 4, generator=torch.Generator().manual_seed(0)))


def sound(seconds: float, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
