"""Clips to look at: a draw of the loader as pictures and both sounds, and latents as pictures.

What the model is given is a window of a sample; people and face models need the same window as it was packed. Costs a
decode of the window.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from lpm_train.data.clip import frame_states, read_image, read_record, read_sound, read_video, to_pixels
from lpm_train.data.loader import Loader
from lpm_train.data.order import Draw
from lpm_train.data.shards import Row
from lpm_train.encoders.codec import Codec, latent_frames, latent_span
from lpm_train.streaming.decoding import Decoded, Decoding
from lpm_train.tools.judge.faces import F32, I8, U8
from schemas.samples.sample import SAMPLES_PER_FRAME, Sample


@dataclass(frozen=True)
class Clip:
    """One draw of the loader, as pictures and sound."""

    frames: U8  # [T, H, W, 3]
    speech_N: F32  # what is said in them, 48 kHz
    heard_N: F32  # what is heard in them, as long
    lead_N: F32  # what is said before, as long as a latent that covers one frame only falls short of the others
    state_T: I8  # values of `batch.STATES`, frame by frame
    references: list[U8]  # all that the sample has
    given: list[tuple[str, U8]]  # kind and picture of those that the model is given, as large as the frames
    told: list[tuple[str, int, int]]  # what it is told: text, first frame, frame after the last


def clip_of(loader: Loader, draw: Draw) -> Clip:
    """Read the clip that a draw stands for."""
    row, (frames, height, width), start = loader.shards[draw.sample_id], draw.bucket, loader.maker.window(draw)
    data = loader.shards.read(row, ["mp4", "speak.flac", "listen.flac", "json"])
    record = read_record(data["json"], row.segment_id)
    speech, heard = (read_sound(data[f"{n}.flac"], row.n_frames).numpy() for n in ("speak", "listen"))
    pictures = read_video(data["mp4"], (height, width), start, frames)
    shown = loader.shards.pictures(row, [r.member for r in record.references])
    references = [read_image(one, (row.height, row.width)).permute(1, 2, 0).numpy() for one in shown]
    given = loader.maker.chosen(record, draw, start)
    small = loader.shards.pictures(row, [r.member for r in given]) if given else []
    sides = (height, width)
    pairs: list[tuple[str, U8]] = [
        (r.kind, read_image(one, sides).permute(1, 2, 0).numpy()) for r, one in zip(given, small, strict=True)
    ]
    codec, at = loader.encoders.codec, start * SAMPLES_PER_FRAME
    lead = (codec.stride[0] - 1) * SAMPLES_PER_FRAME if codec.first_alone else 0
    before = np.concatenate([np.zeros(max(0, lead - at), np.float32), speech[max(0, at - lead) : at]])
    window = slice(at, at + frames * SAMPLES_PER_FRAME)
    return Clip(
        pictures.permute(0, 2, 3, 1).numpy(), speech[window], heard[window], before,
        frame_states(record)[start : start + frames], references, pairs, _told(loader, row, record, start, frames),
    )  # fmt: skip


def _told(loader: Loader, row: Row, record: Sample, start: int, frames: int) -> list[tuple[str, int, int]]:
    codec, out = loader.encoders.codec, list[tuple[str, int, int]]()
    texts, numbers = loader.maker.told(row, record, start, latent_frames(codec, frames))
    for number, group in groupby(enumerate(numbers), key=lambda numbered: numbered[1]):
        latents = [latent for latent, _ in group]
        out.append((texts[number], latent_span(codec, latents[0])[0], latent_span(codec, latents[-1])[1]))
    return out


def decoded(codec: Codec, latents_FCHW: Tensor, piece: int) -> Iterator[U8]:
    """Decode latents `piece` by piece, as a stream does: frames uint8 [H, W, 3]."""
    pieces = (part[None] for part in torch.split(latents_FCHW, piece))
    yield from filmed(pieces, Decoding(codec, latents_FCHW.device, beside=False))


def filmed(blocks: Iterable[Tensor], decoding: Decoding) -> Iterator[U8]:
    """Decode blocks [1, F, C, H, W] as they come: frames uint8 [H, W, 3].

    Where `decoding` is beside, a block is decoded while the next one is made.
    """
    for latents in blocks:
        decoding.put(latents, time.perf_counter())
        yield from _frames(decoding.take(int(decoding.beside)))
    yield from _frames(decoding.take(0))


def _frames(done: Iterable[Decoded]) -> Iterator[U8]:
    for *_, pictures in done:
        yield from map(np.ascontiguousarray, to_pixels(pictures))
