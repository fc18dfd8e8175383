"""Rollouts longer than a clip: windows of chains as conditions, made and ordered as clips are.

Sounds and modes are those of the clips, put one after another on the grid of video frames and only then cut into
latents, so no latent of a window is off by a part of one. Features of a clip's first sound are as if silence came
before it, as in training on clips and as precomputed sets hold them: with log-mel that concerns the first step, with
windowed encoders as much as their window looks back. References are those of the window's first clip. A text lasts for
whole blocks: each is told the text of the clip that fills most of it. What a draw becomes depends on it and the seed
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as fn

from lpm_train.batch import Conditioned, Conditions
from lpm_train.config import Data
from lpm_train.data.chains import Chain, Link, Piece, figures, join, said
from lpm_train.data.clip import frame_states, latent_states, read_record
from lpm_train.data.loader import Feed, silence
from lpm_train.data.make import Encoders, Maker
from lpm_train.data.order import Bucket, Draw, Order
from lpm_train.data.prompts import block_prompts, frame_terms, frame_words
from lpm_train.data.shards import Row, Shards
from lpm_train.encoders.codec import latent_frames, latent_span, picture_frames
from lpm_train.storage import DataError
from schemas.samples.sample import Sample


def chains_of(shards: Shards, clips: Mapping[str, tuple[Bucket, str]], gap_s: float) -> list[Chain]:
    """Join the clips of a dataset that fit a bucket."""
    seen = (s for s in shards.sightings() if s.sample_id in clips)
    return join(
        (
            Link(s.source_id, s.identity_id or "", clips[s.sample_id][0][1:], s.start_s, s.sample_id, s.n_frames)
            for s in seen
        ),
        gap_s,
    )


def survey(data: Data, encoders: Encoders, latents: int, gap_s: float) -> tuple[dict[str, Any], str]:
    """Look for chains of so many latents without reading a clip; returns their figures and a sentence."""
    with Feed[Conditioned](data, encoders) as feed:
        frames = picture_frames(encoders.codec, latents)
        found = figures(chains_of(feed.shards, feed.clips, gap_s), frames)
    return found, said(found, latents, frames)


@dataclass(frozen=True)
class _Read:
    """A piece with what is read of it."""

    piece: Piece
    row: Row
    record: Sample


@dataclass(frozen=True)
class ChainMaker:
    """Make the conditions of one window of a chain."""

    of_clips: Maker
    chains: Mapping[str, Chain]  # by the ids of draws
    block: int  # latents that are told one text
    texts: int  # of a window at most

    def window(self, draw: Draw) -> int:
        """Return the first frame of a draw's window within its chain."""
        return int(self.of_clips.rng("window", draw).integers(self.chains[draw.sample_id].frames - draw.bucket[0] + 1))

    def __call__(self, draw: Draw) -> Conditioned:
        """Read, join, cut and vary the clips of one window."""
        make, frames, start = self.of_clips, draw.bucket[0], self.window(draw)
        codec = make.encoders.codec
        spans = [latent_span(codec, i) for i in range(latent_frames(codec, frames))]
        read = [self._read(piece) for piece in self.chains[draw.sample_id].over(start, start + frames)]
        base, first = read[0].piece.start, read[0]
        tracks, states_T = self._joined(read, start + frames)
        state_F = latent_states(states_T[start - base : start - base + frames], spans)
        refs, ref_mask, ref_kind = make.references(first.row, first.record, draw, start - base)
        cond = Conditions(
            **make.heard(draw, tracks, state_F, start - base),
            **self._words(read, [(start + a, start + b) for a, b in spans]),
            ref_BKCHW=refs[None], ref_mask_BK=ref_mask[None], ref_kind_BK=ref_kind[None],
        )  # fmt: skip
        at = min(max(start - base, 0), first.piece.n_frames - 1)  # a window may begin in a gap
        cond = make.begun(cond, first.row, draw.bucket, at)
        return Conditioned(cond=cond, sample_ids=(f"{draw.sample_id}.{draw.turn}",))

    def _read(self, piece: Piece) -> _Read:
        shards = self.of_clips.shards
        row = shards[piece.sample_id]
        return _Read(piece, row, read_record(shards.read(row, ["json"])["json"], row.segment_id))

    def _joined(self, read: list[_Read], stop: int) -> tuple[list[Tensor], NDArray[np.int8]]:
        """Put features of both sounds, [n_frames * q, A] each, and states in a row; gaps are silent and idle.

        They reach frame `stop` at least, which may lie in a gap.
        """
        make, states = self.of_clips, list[NDArray[np.int8]]()
        tracks: tuple[list[Tensor], list[Tensor]] = ([], [])
        q, at = make.encoders.audio.steps_per_frame, read[0].piece.start
        for one in read:
            gap, at = one.piece.start - at, one.piece.stop
            states += [np.zeros(gap, np.int8), frame_states(one.record)]
            for track, features in zip(tracks, make.parts.sounds(one.row), strict=True):
                track += [make.silence_A.expand(gap * q, -1), features]
        if (gap := stop - at) > 0:
            states.append(np.zeros(gap, np.int8))
            for track in tracks:
                track.append(make.silence_A.expand(gap * q, -1))
        return [torch.cat(track) for track in tracks], np.concatenate(states)

    def _words(self, read: list[_Read], spans: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Return texts as conditions, and which one each latent is told; `spans` are on the chain's clock."""
        texts, masks, told, count = [], [], [], 0
        for index, blocks in groupby(self._owners(read, spans), key=lambda pair: pair[0]):
            one = read[index]
            mine = [spans[i] for _, latents in blocks for i in latents]
            said, number = self._said(one, mine)
            embedded, mask = self.of_clips.parts.texts(one.row, said)
            texts.append(embedded)
            masks.append(mask)
            told += [count + n for n in number]
            count += len(said)
        text_QLD, mask_QL = torch.cat(texts), torch.cat(masks)
        words = {"text_BLD": text_QLD[:1], "text_mask_BL": mask_QL[:1]}
        if self.texts == 1:
            return words
        empty = (0, 0) * 2 + (0, self.texts - count)
        return words | {
            "prompts_BQLD": fn.pad(text_QLD[1:], empty)[None], "prompts_mask_BQL": fn.pad(mask_QL[1:], empty[2:])[None],
            "prompt_BF": torch.tensor([told]),
        }  # fmt: skip

    def _owners(self, read: list[_Read], spans: list[tuple[int, int]]) -> list[tuple[int, range]]:
        """Return the piece of each block and its latents: the one that fills most of it, in a gap the one before."""
        out, last = list[tuple[int, range]](), 0
        for first in range(0, len(spans), self.block):
            latents = range(first, min(first + self.block, len(spans)))
            a, b = spans[latents[0]][0], spans[latents[-1]][1]
            shares = [min(b, one.piece.stop) - max(a, one.piece.start) for one in read]
            best = max(range(len(read)), key=lambda i: shares[i])
            last = max(last, best) if shares[best] > 0 else last
            out.append((last, latents))
        return out

    def _said(self, one: _Read, spans: list[tuple[int, int]]) -> tuple[list[str], list[int]]:
        """Return the texts of a piece for some latents, and the number of each latent's."""
        data, n = self.of_clips.data, one.piece.n_frames
        if data.prompts == "clip":
            return [one.row.caption], [0] * len(spans)
        terms = frame_terms(one.record, n)
        terms_F = [*terms, ()]  # what is after it: a gap, of which nothing is told
        own = [tuple(min(max(at - one.piece.start, 0), n) for at in span) for span in spans]
        whole = [(a, max(b, a + 1)) for a, b in own]
        words = frame_words(one.record, n) if data.prompt_words else ()
        return block_prompts(one.row.caption, terms_F, whole, self.block, data.max_prompts, words)


class ChainLoader(Feed[Conditioned]):
    """Conditions of chains: one batch after another, for rollouts of more latents than a clip has."""

    def __init__(
        self, data: Data, encoders: Encoders, *, latents: int, gap_s: float, block: int, seed: int = 0, rank: int = 0,
        world_size: int = 1,
    ) -> None:  # fmt: skip
        """Open the chains of the dataset `data.root`.

        A chain is drawn once an epoch for each rollout that it holds end to end, each time from another first frame.
        `data.balance` does not count: most chains hold all states.

        Args:
            data: what is read; chains are made of the clips that training on clips would take.
            encoders: of sound, text and references.
            latents: of a rollout.
            gap_s: the longest time between two clips.
            block: latents that a stream generates at once, and that are told one text.
            seed: of order and sampling.
            rank: this one of the ranks.
            world_size: how many ranks there are.

        Raises:
            DataError: no chain is long enough, and as `Feed` does.
        """
        super().__init__(data, encoders, seed=seed, rank=rank, world_size=world_size)
        frames, chains = picture_frames(encoders.codec, latents), chains_of(self.shards, self.clips, gap_s)
        self.rollout, self.figures = latents, figures(chains, frames)
        long = {chain.name: chain for chain in chains if chain.frames >= frames}
        if not long:
            raise DataError(
                f"{said(self.figures, latents, frames)}. Lower distill.rollout, raise distill.gap_s ({gap_s:g} s), or "
                "pack longer stretches of a conversation"
            )
        by_draw = {f"{name}.{k}": chain for name, chain in long.items() for k in range(chain.frames // frames)}
        self.order = Order({i: ((frames, *chain.size), "") for i, chain in by_draw.items()}, data.batch, seed)
        met = max(chain.most_pieces(frames) for chain in long.values())
        timed = data.prompts == "timed"
        self.maker = ChainMaker(
            Maker(self.shards, encoders, self._parts(), data, seed, silence(encoders)), by_draw,
            data.prompt_latents if timed else block, met * (data.max_prompts if timed else 1),
        )  # fmt: skip

    @property
    def summary(self) -> str:
        """Say what is loaded."""
        return said(self.figures, self.rollout, picture_frames(self.encoders.codec, self.rollout))
