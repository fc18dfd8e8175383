"""Make one sample's batch of one: window, latents, audio steps, text, references, modes.

A function of the sample's bytes and (seed, turn, sample id) alone; samples are encoded one by one, so that what a
sample becomes does not depend on its company, on the number of ranks, or on who works. Every random choice (which
window, which references, what counts as silence) has a generator of its own, seeded by its purpose besides. Latents
and features come from `Precomputed` where there are any, else from the pictures and sounds themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from lpm_train.batch import KINDS, Batch, Conditions, sample_seed
from lpm_train.config import Data
from lpm_train.data.clip import frame_states, latent_states, read_image, read_record, read_sound, read_video, to_unit
from lpm_train.data.cut import Cut
from lpm_train.data.order import Bucket, Draw
from lpm_train.data.prompts import block_prompts, frame_terms, frame_words
from lpm_train.data.shards import Row, Shards
from lpm_train.data.sizes import Rule, choose_bucket
from lpm_train.data.table.columns import Coded, Ints, distinct, joined, narrow
from lpm_train.encoders.audio import AudioEncoder, latent_steps
from lpm_train.encoders.codec import Codec, encode_images, grey, latent_frames, latent_size, latent_span
from lpm_train.encoders.deferred import Deferred
from lpm_train.encoders.picture import PictureEncoder, Unseen
from lpm_train.encoders.text import TextEncoder
from lpm_train.parts import provenance
from lpm_train.storage import DataError
from schemas.samples.members import FIRST
from schemas.samples.sample import FPS, ReferenceRef, Sample
from schemas.time import PACKED_AUDIO_HZ

_AT_ONCE = 1 << 20
"""Samples whose shapes are looked at together."""


@dataclass(frozen=True)
class Encoders:
    """What turns pictures, sound and text into numbers."""

    codec: Codec
    audio: AudioEncoder
    text: TextEncoder
    device: str = "cpu"
    picture: PictureEncoder = field(default_factory=Unseen)

    @cached_property
    def _greys(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def grey(self, height: int, width: int) -> Tensor:
        """Return the code of a lasting grey picture, [C, H, W]; computed once."""
        if (height, width) not in self._greys:
            self._greys[height, width] = grey(self.codec, height, width, self.device)
        return self._greys[height, width]

    @cached_property
    def _vouched(self) -> dict[str, dict[str, Any]]:
        return {}

    @cached_property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """What determines their numbers, each; read off them once."""
        text = self._vouched.get("text") or provenance(self.text)
        return {"codec": provenance(self.codec), "audio": provenance(self.audio), "text": text}

    def vouch(self, text: Mapping[str, Any], files: str) -> None:
        """Take the word of a precomputed set for the weights of a text encoder that need not be read.

        That is one whose weights are not in memory, and whose files are those of the set's encoder, or not here.

        Args:
            text: the provenance that the set has of its text encoder.
            files: `files_hash` of that encoder; "" where the set does not say.
        """
        deferred, known = self.text, "provenance" in vars(self) or "text" in self._vouched
        if known or not isinstance(deferred, Deferred) or deferred.loaded or deferred.files() not in ("", files):
            return
        self._vouched["text"] = provenance(deferred, weights=False) | {k: text[k] for k in ("weights",) if k in text}


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
        data = self.shards.pictures(row, members)
        images = torch.stack([to_unit(read_image(one, bucket[1:])) for one in data])
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
    def texts(self, row: Row, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the embeddings [n, L, Dt] and masks [n, L] of texts of a sample."""
        # One by one: the rounding of a text's embedding must not depend on its company.
        made = [self.encoders.text([text]) for text in texts]
        return torch.cat([x.float().cpu() for x, _ in made]), torch.cat([mask.cpu() for _, mask in made])


def generator(purpose: str, seed: int, turn: int, sample_id: str) -> np.random.Generator:
    """Return the generator of one choice for one sample on one turn."""
    return np.random.default_rng(sample_seed(purpose, seed, turn, sample_id))


def cut(shards: Shards, sizes: Sequence[Bucket], rule: Rule | None = None) -> Cut:
    """Choose the size of each sample; those that are shorter than all, or fit none by the rule, are left out."""
    columns, state = [shards.numbers(n) for n in ("n_frames", "width", "height")], shards.column("state")
    known: dict[tuple[int, ...], int] = {}
    chosen: dict[Bucket, int] = {}
    pieces = list[Ints]()
    for start in range(0, len(shards), _AT_ONCE):
        shapes, which, _ = distinct([c[start : start + _AT_ONCE] for c in columns])
        for shape in shapes:
            if shape not in known:
                bucket = choose_bucket(shape[0], shape[1], shape[2], sizes, rule)
                known[shape] = -1 if bucket is None else chosen.setdefault(bucket, len(chosen))
        pieces.append(narrow(np.array([known[shape] for shape in shapes])[which]))
    size = joined(pieces)
    fits = size >= 0
    if fits.all():
        return Cut(shards.ids, None, list(chosen), size, state)
    return Cut(
        shards.ids, narrow(np.flatnonzero(fits)), list(chosen), size[fits], Coded(state.names, state.codes[fits])
    )


def window_starts(n_frames: int, frames: int, hop: int) -> range:
    """Return the frames at which a window of `frames` may start, every `hop` frames."""
    if frames > n_frames:
        raise DataError(f"a window of {frames} frames does not fit a clip of {n_frames}")
    return range(0, n_frames - frames + 1, hop)


def choose_references(
    references: Sequence[ReferenceRef],
    window_s: tuple[float, float],
    source_id: str,
    rules: Data,
    rng: np.random.Generator,
) -> list[int]:
    """Choose reference pictures of a sample: indices into `references`, in the order of their slots.

    Pictures from outside of the clip are used alone where there are any; otherwise those outside of the window; else
    the one farthest from its middle. A picture out of the frames to be generated would be copied, not learnt from.

    Args:
        references: what the sample has.
        window_s: (start, end) of the window on its source's clock, seconds.
        source_id: the clip's source.
        rules: how many, and how often one is left out.
        rng: decides.
    """
    if not references or not rules.max_refs:
        return []
    outside = [i for i, r in enumerate(references) if not r.overlaps_clip]
    if not outside:

        def inside(r: ReferenceRef) -> bool:
            return r.source_id == source_id and window_s[0] <= r.time_s < window_s[1]

        farthest = max(range(len(references)), key=lambda i: abs(references[i].time_s - sum(window_s) / 2))
        outside = [i for i, r in enumerate(references) if not inside(r)] or [farthest]
    mixed = rng.permutation(outside).tolist()
    first = next((i for i in mixed if references[i].kind == "global"), mixed[0])  # always there, as in the paper
    rest = [i for i in mixed if i != first and rng.random() >= rules.drop_ref]
    chosen = [first, *rest[: int(rng.integers(0, rules.max_refs))]]
    return [int(i) for i in rng.permutation(chosen)]


@dataclass(frozen=True)
class Maker:
    """Make the batch of one that a draw stands for."""

    shards: Shards
    encoders: Encoders
    parts: Parts
    data: Data
    seed: int
    silence_A: Tensor  # features of a step of silence, [A]

    def __call__(self, draw: Draw) -> Batch:
        """Read, cut, encode and vary one sample."""
        row = self.shards[draw.sample_id]
        record = read_record(self.shards.read(row, ["json"])["json"], row.segment_id)
        codec, (frames, *_) = self.encoders.codec, draw.bucket
        F = latent_frames(codec, frames)
        start = self.window(draw)
        state_F = latent_states(frame_states(record)[start : start + frames], [latent_span(codec, i) for i in range(F)])
        sounds = self.heard(draw, self.parts.sounds(row), state_F, start)
        words = self._words(row, record, start, F)
        refs, ref_mask, ref_kind = self.references(row, record, draw, start)
        cond = Conditions(
            **sounds, **words, ref_BKCHW=refs[None], ref_mask_BK=ref_mask[None], ref_kind_BK=ref_kind[None],
        )  # fmt: skip
        x = self.parts.latents(row, draw.bucket, start)
        cond = self.begun(cond, row, draw.bucket, start, x[0])
        return Batch(x_BFCHW=x[None], cond=cond, state_BF=state_F[None], sample_ids=(row.segment_id,))

    def heard(self, draw: Draw, tracks: Sequence[Tensor], state_F: Tensor, start: int) -> dict[str, Tensor]:
        """Return both sounds and modes of a window as conditions.

        Args:
            draw: whose chance decides what is silence.
            tracks: features of what is said and of what is heard, [n_frames * q, A] each.
            state_F: each latent's state.
            start: the window's first frame within the tracks.
        """
        steps, on, F = [], [(state_F & 1).bool(), (state_F & 2).bool()], len(state_F)
        silences = (self.rng("silence", draw).random(2) < self.data.silence).tolist()
        for i, features in enumerate(tracks):
            q = self.encoders.audio.steps_per_frame
            steps.append(latent_steps(features, self.encoders.codec, start, F, q, self.silence_A))
            if silences[i]:  # off is given as true silence, not as null
                heard = on[i].repeat_interleave(len(steps[i]) // F)[:, None]
                steps[i], on[i] = torch.where(heard, steps[i], self.silence_A), torch.ones_like(on[i])
        return {
            "speak_BTA": steps[0][None], "listen_BTA": steps[1][None],
            "speak_on_BF": on[0][None], "listen_on_BF": on[1][None],
        }  # fmt: skip

    def _words(self, row: Row, record: Sample, start: int, latents: int) -> dict[str, Tensor]:
        """Return the caption as a condition, and where prompts are timed the others, and who is told which."""
        texts, told = self.told(row, record, start, latents)
        if self.data.prompts == "clip":
            text_BLD, mask_BL = self.parts.texts(row, texts)
            return {"text_BLD": text_BLD, "text_mask_BL": mask_BL}
        text_QLD, mask_QL = self.parts.texts(row, texts)
        empty = (0, 0) * 2 + (0, self.data.max_prompts - len(texts))
        return {
            "text_BLD": text_QLD[:1], "text_mask_BL": mask_QL[:1],
            "prompts_BQLD": fn.pad(text_QLD[1:], empty)[None], "prompts_mask_BQL": fn.pad(mask_QL[1:], empty[2:])[None],
            "prompt_BF": torch.tensor([told]),
        }  # fmt: skip

    def told(self, row: Row, record: Sample, start: int, latents: int) -> tuple[list[str], list[int]]:
        """Return the texts of a window from frame `start`, and the number of each latent's: 0 where none is timed."""
        data, codec = self.data, self.encoders.codec
        if data.prompts == "clip":
            return [row.caption], [0] * latents
        spans = [(start + a, start + b) for a, b in (latent_span(codec, i) for i in range(latents))]
        terms = frame_terms(record, row.n_frames)
        said = frame_words(record, row.n_frames) if data.prompt_words else ()
        return block_prompts(row.caption, terms, spans, data.prompt_latents, data.max_prompts, said)

    def begun(
        self, cond: Conditions, row: Row, bucket: Bucket, start: int, first_CHW: Tensor | None = None
    ) -> Conditions:  # fmt: skip
        """Give the first picture of a window, where the model is to begin with it.

        Args:
            cond: the window's conditions.
            row: the sample that it begins in.
            bucket: its size.
            start: its first frame there.
            first_CHW: its first latent; None: the picture is encoded by itself.
        """
        encoders, (_, height, width), given = self.encoders, bucket, self.data.first_frame
        if not (given or encoders.picture.width):
            return cond
        picture_BCHW = torch.empty(0)
        if encoders.picture.width or first_CHW is None:
            picture_BCHW = to_unit(self._shown(row, (height, width), start))
        if given:
            if first_CHW is None:
                first_CHW = encode_images(encoders.codec, picture_BCHW.to(encoders.device))[0].float().cpu()
            given_FCHW = encoders.grey(height, width).repeat(cond.frames, 1, 1, 1)
            given_FCHW[0], on = first_CHW, torch.arange(cond.frames) == 0
            cond = replace(cond, given_BFCHW=given_FCHW[None], given_on_BF=on[None])
        if encoders.picture.width:
            cond = replace(cond, picture_BIP=encoders.picture(picture_BCHW))
        return cond

    def _shown(self, row: Row, size: tuple[int, int], frame: int) -> Tensor:
        """Return one frame of a sample, uint8 [1, 3, H, W]; of one without pictures its reference."""
        if "mp4" in row.members:
            return read_video(self.shards.read(row, ["mp4"])["mp4"], size, frame, 1)
        return read_image(self.shards.pictures(row, [FIRST])[0], size)[None]

    def window(self, draw: Draw) -> int:
        """Return the first frame of a draw's window."""
        starts = window_starts(self.shards[draw.sample_id].n_frames, draw.bucket[0], self.parts.hop_frames)
        return starts[int(self.rng("window", draw).integers(len(starts)))]

    def rng(self, purpose: str, draw: Draw) -> np.random.Generator:
        """Return the generator of one choice for a draw."""
        return generator(purpose, self.seed, draw.turn, draw.sample_id)

    def chosen(self, record: Sample, draw: Draw, start: int) -> list[ReferenceRef]:
        """Return the reference pictures of a draw whose window begins at frame `start`, in the order of their slots."""
        begin_s, rng = record.source.start_s + start / FPS, self.rng("references", draw)
        window_s = (begin_s, begin_s + draw.bucket[0] / FPS)
        places = choose_references(record.references, window_s, record.source.source_id, self.data, rng)
        return [record.references[i] for i in places]

    def references(self, row: Row, record: Sample, draw: Draw, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return pictures for a window from frame `start` of a sample: latents [K, C, H, W], mask [K], kinds [K]."""
        (_, height, width), K, chosen = draw.bucket, self.data.max_refs, self.chosen(record, draw, start)
        H, W = latent_size(self.encoders.codec, height, width)
        refs = torch.zeros(K, self.encoders.codec.channels, H, W)
        mask, kind = torch.zeros(K, dtype=torch.bool), torch.zeros(K, dtype=torch.int64)
        if chosen:
            refs[: len(chosen)] = self.parts.references(row, draw.bucket, [r.member for r in chosen])
            mask[: len(chosen)] = True
            kind[: len(chosen)] = torch.tensor([KINDS[r.kind] for r in chosen])
        return refs, mask, kind
