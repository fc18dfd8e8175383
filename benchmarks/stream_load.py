"""What a stream is fed in benchmarks: speaking, listening and idle by turns; part of `h200.py` and `stream.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from lpm_train.config import Config
from lpm_train.encoders.codec import Codec
from lpm_train.streaming.stream import StreamGenerator
from schemas.samples.sample import SAMPLES_PER_FRAME

_TURN = 10  # chunks: switching is part of the load


def block_sound(config: Config, codec: Codec) -> Tensor:
    """Draw faint noise as long as a block: [N] at 48 kHz."""
    return 0.05 * torch.randn(config.stream.block * codec.stride[0] * SAMPLES_PER_FRAME)


def push_turn(stream: StreamGenerator, sound_N: Tensor, chunk: int) -> None:
    """Push the sound as speech, as what is listened to, or as none, by the number of the chunk."""
    turn = chunk // _TURN % 3
    if turn == 2:
        stream.idle(len(sound_N))
    else:
        stream.push(sound_N if turn == 0 else None, sound_N if turn == 1 else None)
