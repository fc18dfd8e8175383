"""Make one sample's batch of one: window, latents, audio steps, text, references, modes.

A function of the sample's bytes and (seed, turn, sample id) alone; samples are encoded one by one, so that what a
sample becomes does not depend on its company, on the number of ranks, or on who works. Latents and features come from
`Precomputed` where there are any, else from the pictures and sounds themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lpm_train.audio import AudioEncoder, LogMel, latent_steps
from lpm_train.batch import KINDS, Batch, Conditions, DropRates, drop_conditions
from lpm_train.clip import frame_states, latent_states, read_image, read_record, read_sound, read_video, to_unit
from lpm_train.codec import Codec, PatchCodec, encode_images, latent_frames, latent_size, latent_span
from lpm_train.order import Bucket, Draw
from lpm_train.sampling import Sampling, choose_references, generator, window_starts
from lpm_train.shards import Row, Shards
from lpm_train.text import HashedWords, TextEncoder
from schemas.sample import FPS, Sample
from schemas.time import PACKED_AUDIO_HZ


@dataclass(frozen=True)
class Encoders:
    """What turns pictures, sound and text into numbers."""

    codec: Codec = field(default_factory=PatchCodec)
    audio: AudioEncoder = field(default_factory=LogMel)
    text: TextEncoder = field(default_factory=HashedWords)
    device: str = "cpu"


class Parts:
    """The encoded parts of a sample: decoded and encoded from the members of the shards, see also `Precomputed`."""

    def __init__(self, shards: Shards, encoders: Encoders, hop_frames: int = 1) -> None:
        self.shards, self.encoders, self.hop_frames = shards, encoders, hop_frames

    @torch.no_grad()
    def latents(self, row: Row, bucket: Bucket, start: int) -> Tensor:
        """Return a window's latents [F, C, H, W]."""
        frames = read_video(self.shards.read(row, ["mp4"])["mp4"], bucket[1:], start, bucket[0])
        return self.encoders.codec.encode(to_unit(frames).to(self.encoders.device)[None])[0].float().cpu()

    @torch.no_grad()
    def references(self, row: Row, bucket: Bucket, members: list[str]) -> Tensor:
        """Return pictures as latents [K, C, H, W]."""
        data = self.shards.read(row, members)
        images = torch.stack([to_unit(read_image(data[m], bucket[1:])) for m in members])
        # One by one: the rounding of a picture's latent must not depend on how many there are.
        codec, device = self.encoders.codec, self.encoders.device
        return torch.cat([encode_images(codec, i[None].to(device)).float().cpu() for i in images])

    @torch.no_grad()
    def sounds(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return features of both sounds of the whole clip, each [n_frames * q, A]."""
        data = self.shards.read(row, ["speak.flac", "listen.flac"])
        waves = (read_sound(data[f"{n}.flac"], row.n_frames) for n in ("speak", "listen"))
        speak, listen = (self.encoders.audio(w, PACKED_AUDIO_HZ).float() for w in waves)
        return speak, listen

    @torch.no_grad()
    def text(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return the caption's embedding [L, Dt] and mask [L]."""
        embedding, mask = self.encoders.text([row.caption])
        return embedding[0].float().cpu(), mask[0].cpu()


@dataclass(frozen=True)
class Maker:
    """Make the batch of one that a draw stands for."""

    shards: Shards
    encoders: Encoders
    parts: Parts
    sampling: Sampling
    seed: int
    drop: DropRates | None
    silence_A: Tensor  # features of a step of silence, [A]

    def __call__(self, draw: Draw) -> Batch:
        """Read, cut, encode and vary one sample."""
        row = self.shards[draw.sample_id]
        record = read_record(self.shards.read(row, ["json"])["json"], row.sample_id)
        codec, (frames, *_) = self.encoders.codec, draw.bucket
        F = latent_frames(codec, frames)
        starts = window_starts(row.n_frames, frames, self.parts.hop_frames)
        start = starts[int(self._rng("window", draw).integers(len(starts)))]
        state_F = latent_states(frame_states(record)[start : start + frames], [latent_span(codec, i) for i in range(F)])
        steps, on = [], [(state_F & 1).bool(), (state_F & 2).bool()]
        silences = (self._rng("silence", draw).random(2) < self.sampling.silence).tolist()
        for i, features in enumerate(self.parts.sounds(row)):
            q = self.encoders.audio.steps_per_frame
            steps.append(latent_steps(features, codec, start, F, q, self.silence_A))
            if silences[i]:  # off is given as true silence, not as null
                heard = on[i].repeat_interleave(len(steps[i]) // F)[:, None]
                steps[i], on[i] = torch.where(heard, steps[i], self.silence_A), torch.ones_like(on[i])
        text_LD, mask_L = self.parts.text(row)
        refs, ref_mask, ref_kind = self._references(row, record, draw, start)
        cond = Conditions(
            speak_BTA=steps[0][None], listen_BTA=steps[1][None], speak_on_BF=on[0][None], listen_on_BF=on[1][None],
            text_BLD=text_LD[None], text_mask_BL=mask_L[None], ref_BKCHW=refs[None], ref_mask_BK=ref_mask[None],
            ref_kind_BK=ref_kind[None],
        )  # fmt: skip
        x = self.parts.latents(row, draw.bucket, start)
        batch = Batch(x_BFCHW=x[None], cond=cond, state_BF=state_F[None], sample_ids=(row.sample_id,))
        return batch if self.drop is None else drop_conditions(batch, self.drop, self.seed, draw.turn)

    def _rng(self, purpose: str, draw: Draw) -> np.random.Generator:
        return generator(purpose, self.seed, draw.turn, draw.sample_id)

    def _references(self, row: Row, record: Sample, draw: Draw, start: int) -> tuple[Tensor, Tensor, Tensor]:
        (frames, height, width), K = draw.bucket, self.sampling.max_refs
        begin_s, rng = record.source.start_s + start / FPS, self._rng("references", draw)
        window_s = (begin_s, begin_s + frames / FPS)
        chosen = choose_references(record.references, window_s, record.source.source_id, self.sampling, rng)
        H, W = latent_size(self.encoders.codec, height, width)
        refs = torch.zeros(K, self.encoders.codec.channels, H, W)
        mask, kind = torch.zeros(K, dtype=torch.bool), torch.zeros(K, dtype=torch.int64)
        if chosen:
            refs[: len(chosen)] = self.parts.references(row, draw.bucket, [record.references[i].member for i in chosen])
            mask[: len(chosen)] = True
            kind[: len(chosen)] = torch.tensor([KINDS[record.references[i].kind] for i in chosen])
        return refs, mask, kind
