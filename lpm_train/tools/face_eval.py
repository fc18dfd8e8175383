"""Hold a generated video against the clip that drove it: the same person, and lips that follow its voice?

The clip's own pictures are measured the same way (`data.`), for no generator is nearer to its references or better in
sync than the people it learnt from. Costs what the `FaceReader` costs, for at most four clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lpm_train.batch import Batch
from lpm_train.clip import read_image, read_record, read_sound, read_video, to_pixels
from lpm_train.codec import Codec, picture_frames
from lpm_train.loader import Loader
from lpm_train.order import Draw
from lpm_train.tools.faces import (
    EVERY,
    F32,
    U8,
    Bools,
    FaceReader,
    Figures,
    identity_figures,
    lip_figures,
    mean_of,
    reference_of,
)
from schemas.sample import SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ

_MOST = 4  # clips that are looked at


@dataclass(frozen=True)
class Clip:
    """One draw of the loader, as pictures and sound."""

    frames: U8  # [T, H, W, 3]
    speech_N: F32  # what is said in them, 48 kHz
    lead_N: F32  # what is said before, as long as a latent that covers one frame only falls short of the others
    references: list[U8]


def clip_of(loader: Loader, draw: Draw) -> Clip:
    """Read the clip that a draw stands for."""
    row, (frames, height, width), start = loader.shards[draw.sample_id], draw.bucket, loader.maker.window(draw)
    data = loader.shards.read(row, ["mp4", "speak.flac", "json"])
    record, speech = read_record(data["json"], row.segment_id), read_sound(data["speak.flac"], row.n_frames).numpy()
    pictures = read_video(data["mp4"], (height, width), start, frames)
    shown = loader.shards.pictures(row, [r.member for r in record.references])
    references = [read_image(one, (row.height, row.width)).permute(1, 2, 0).numpy() for one in shown]
    codec, at = loader.encoders.codec, start * SAMPLES_PER_FRAME
    lead = (codec.stride[0] - 1) * SAMPLES_PER_FRAME if codec.first_alone else 0
    before = np.concatenate([np.zeros(max(0, lead - at), np.float32), speech[max(0, at - lead) : at]])
    return Clip(
        pictures.permute(0, 2, 3, 1).numpy(), speech[at : at + frames * SAMPLES_PER_FRAME], before, references
    )  # fmt: skip


def decoded(codec: Codec, latents_FCHW: Tensor, piece: int) -> Iterator[U8]:
    """Decode latents `piece` by piece, as a stream does: frames uint8 [H, W, 3]."""
    state = None
    for part in torch.split(latents_FCHW, piece):
        pictures, state = codec.decode(part[None], state)
        yield from map(np.ascontiguousarray, to_pixels(pictures[0]))


@torch.no_grad()
def face_figures(reader: FaceReader, loader: Loader, batch: Batch, generated_BFCHW: Tensor) -> Figures:
    """Measure generated videos of the loader's first batch, and the clips that drove them.

    Args:
        reader: the face models.
        loader: gave `batch` first.
        batch: the conditions, played from their start as often as the videos are long.
        generated_BFCHW: latents, a whole number of clip lengths.

    Returns:
        See `faces.identity_figures` and `faces.lip_figures`, and all of them as `data.NAME` for the clips themselves.
    """
    codec, F = loader.encoders.codec, batch.x_BFCHW.shape[1]
    times, t, window = generated_BFCHW.shape[1] // F, codec.stride[0], picture_frames(codec, F)
    made: list[Figures] = []
    real: list[Figures] = []
    for draw, row in zip(loader.order.batch(*loader.order.normal(0, 0))[:_MOST], range(len(batch)), strict=False):
        clip, speaks_F = clip_of(loader, draw), (batch.state_BF[row] & 1).bool().numpy()
        reference = reference_of(reader, clip.references)
        # Sound and modes are played again and again; a first latent of one frame has no sound before it.
        sound = np.tile(np.concatenate([clip.lead_N, clip.speech_N]), times)[len(clip.lead_N) :]
        speaks: Bools = np.tile(speaks_F.repeat(t), times)[len(clip.lead_N) // SAMPLES_PER_FRAME :]
        for out, frames in ((made, decoded(codec, generated_BFCHW[row], F)), (real, iter(clip.frames))):
            look = reader.look(frames, EVERY)
            n = len(look.opening_T)
            lips = lip_figures(reader, look, sound[: n * SAMPLES_PER_FRAME], PACKED_AUDIO_HZ, speaks[:n])
            who = identity_figures(look, reference, window, reader.same_person_distance)
            out.append(Figures(who.values | lips.values, who.reasons | lips.reasons))
    ours, data = mean_of(made), mean_of(real, "data.")
    return Figures(ours.values | data.values, ours.reasons | data.reasons)
