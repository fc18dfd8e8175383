"""The diffusion transformer: noisy latents, a noise level for every frame, and what drives them -> velocity.

A block is self-attention, sound, text, and an MLP. Even blocks hear what the character says, odd blocks what it hears:
half the parameters of hearing both everywhere, and lips and posture do not compete. A frame's tokens see their own
window of sound only. References pass through the same blocks but see only themselves and neither sound, text nor
noise, so a stream computes them once. Whatever is absent is a learned null token: no masks, no empty sums. Gates and
output projections start at zero, hence a new condition does not move an untrained model. `checkpointing` trades a
third more compute for memory. `lpm_train.network.wan` is the same network in the form that Wan's weights fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as fn
from torch.utils.checkpoint import checkpoint

from lpm_train.batch import KINDS, Conditions
from lpm_train.config import Model as ModelConfig
from lpm_train.config import Stream
from lpm_train.network import attention
from lpm_train.network.attention import KV, Cache, Held, Space
from lpm_train.network.begun import Begun
from lpm_train.network.context import Context, Split

Attend = Callable[[Tensor, KV, KV | None, Space, Stream], Tensor]  # how teacher forcing is computed


class Output(NamedTuple):
    """What a pass gives: a velocity, and keys and values by layer where a cache was read."""

    v_BFCHW: Tensor
    block: tuple[KV, ...]


class Drive(NamedTuple):
    """Conditions as tokens."""

    sounds: tuple[Tensor, Tensor]  # windows of speech and of the user's voice, [B, F, M, D]
    text_RLD: Tensor  # a row for each sample; with prompts, (1 + Q) rows for each
    text_mask: Tensor | None  # bool [R, 1, 1, L]; None: all count
    told_N: Tensor | None  # the row that each of the B F frames is told; None: its sample's
    picture_BID: Tensor | None  # what an image encoder saw in the picture that the clip begins with

    def twice(self) -> Drive:
        """Repeat along the batch axis, for the clean and the noisy copy."""
        sounds = torch.cat([self.sounds[0]] * 2), torch.cat([self.sounds[1]] * 2)
        mask, picture = (None if x is None else torch.cat([x, x]) for x in (self.text_mask, self.picture_BID))
        told = None if self.told_N is None else torch.cat([self.told_N, self.told_N + len(self.text_RLD)])
        return Drive(sounds, torch.cat([self.text_RLD] * 2), mask, told, picture)


class Video(NamedTuple):
    """Video tokens on their way through the blocks, and what drives them in one."""

    x_BFSD: Tensor
    e_BF6D: Tensor  # modulation
    sound_BFMD: Tensor  # a window of sound for each frame
    text_RLD: Tensor
    text_mask: Tensor | None
    told_N: Tensor | None
    picture_BID: Tensor | None


def _norm(x: Tensor) -> Tensor:
    return fn.layer_norm(x, x.shape[-1:], eps=1e-6)


def wide(x: Tensor) -> Tensor:
    """Lift half precision to float32; leave float32 and float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class HeadNorm(nn.RMSNorm):
    """Scale queries or keys, of a head or of all, to unit RMS in their type (the fused kernel wants one)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return fn.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class CrossAttention(nn.Module):
    """Queries from video tokens, keys and values from a condition; starts at zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm_q, self.norm_k = HeadNorm(width // heads), HeadNorm(width // heads)

    def forward(
        self, x_BLD: Tensor, tokens_RMD: Tensor, mask: Tensor | None = None, rows_B: Tensor | None = None
    ) -> Tensor:
        """Attend: [B, L, D], [R, M, D] -> [B, L, D], each to the row of `rows_B`, or to its own."""
        q = self.q(x_BLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(tokens_RMD).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        k = self.norm_k(k)
        if rows_B is not None:
            k, v, mask = k[rows_B], v[rows_B], None if mask is None else mask[rows_B]
        out = fn.scaled_dot_product_attention(self.norm_q(q), k, v, attn_mask=mask)
        result: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    """One layer, for video and for references."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.qkv, self.out = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.norm_q, self.norm_k = HeadNorm(c.width // c.heads), HeadNorm(c.width // c.heads)
        self.sound, self.text = CrossAttention(c.width, c.heads), CrossAttention(c.width, c.heads)
        hidden = round(c.width * c.mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(c.width, hidden), nn.GELU("tanh"), nn.Linear(hidden, c.width))
        self.table_6D = nn.Parameter(torch.zeros(6, c.width))

    def _split(self, x_BLD: Tensor) -> tuple[Tensor, KV]:
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2).chunk(3, dim=1)
        return self.norm_q(q), KV(self.norm_k(k), v)

    def _told(self, x_BLD: Tensor, video: Video) -> Tensor:
        told: Tensor = self.text(_norm(x_BLD), video.text_RLD, video.text_mask, video.told_N)
        return told

    def _modulation(self, e: Tensor, dtype: torch.dtype) -> list[Tensor]:
        return [m.to(dtype) for m in (e + wide(self.table_6D)).unbind(-2)]

    def _refs(self, r_BKSD: Tensor, e_6D: Tensor, space: Space) -> tuple[Tensor, KV]:
        """Run references: each sees itself alone."""
        B, K, S, D = r_BKSD.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self._modulation(e_6D, r_BKSD.dtype)
        q, own = self._split((_norm(r_BKSD) * (1 + scale1) + shift1).reshape(B * K, S, D))
        heard = attention.attend_block(q, own, None, None, space).transpose(1, 2).reshape(B, K, S, D)
        r_BKSD = r_BKSD + gate1 * self.out(heard)
        r_BKSD = r_BKSD + gate2 * self.mlp(_norm(r_BKSD) * (1 + scale2) + shift2)
        return r_BKSD, KV(*(x.reshape(B, K, self.heads, S, -1).transpose(1, 2).flatten(2, 3) for x in own))

    def forward(
        self, video: Video | None, r_BKSD: Tensor | None, e_6D: Tensor, refs: KV | None, past: KV | Held | None,
        space: Space, forced: tuple[Attend, Stream] | None, keep: bool,
    ) -> tuple[Tensor | None, Tensor | None, KV | None, KV | None]:  # fmt: skip
        """Run one layer over references, video, or both; returns (video, references, their KV, the video's KV).

        `forced` names the attention and the layout of teacher forcing. The references' KV come back where there is no
        video, the video's where it is to be kept.
        """
        if r_BKSD is not None:
            r_BKSD, refs = self._refs(r_BKSD, e_6D, space)
        if video is None:
            return None, r_BKSD, refs, None
        x_BFSD, e_BF6D, sound_BFMD = video[:3]
        B, F, S, D = x_BFSD.shape
        modulation = self._modulation(e_BF6D[:, :, None], x_BFSD.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        q, own = self._split((_norm(x_BFSD) * (1 + scale1) + shift1).reshape(B, F * S, D))

        def attend(q: Tensor, own: KV, refs: KV | None, space: Space) -> Tensor:
            if forced is None:  # over the whole clip, that is one block without a past, or over a block and its past
                return attention.attend_block(q, own, past, refs, space)
            return forced[0](q, own, refs, space, forced[1])

        seen = attention.attend_split(attend, q, own, refs, space)
        x_BFSD = x_BFSD + gate1 * self.out(seen.transpose(1, 2).reshape(B, F, S, D))
        heard = self.sound(_norm(x_BFSD).reshape(B * F, S, D), sound_BFMD.flatten(0, 1))
        x_BFSD = x_BFSD + heard.reshape(B, F, S, D)
        whole = x_BFSD.reshape(B, F * S, D) if video.told_N is None else x_BFSD.reshape(B * F, S, D)
        x_BFSD = x_BFSD + self._told(whole, video).reshape(B, F, S, D)
        x_BFSD = x_BFSD + gate2 * self.mlp(_norm(x_BFSD) * (1 + scale2) + shift2)
        return x_BFSD, r_BKSD, None, own if keep else None


class Sound(nn.Module):
    """Audio features to a window of tokens for each frame; null tokens where nothing is to be heard."""

    def __init__(self, c: ModelConfig, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after, self.steps = before, after, c.audio_steps
        self.embed = nn.Sequential(nn.Linear(c.audio_width, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.null_D = nn.Parameter(torch.randn(c.width) * 0.02)
        self.place_MD = nn.Parameter(torch.randn(before + c.audio_steps + after, c.width) * 0.02)

    def forward(self, audio_BTA: Tensor, on_BF: Tensor, start: int, frames: int) -> Tensor:
        """Cut the windows of frames [start, start + frames): -> [B, frames, M, D]; beyond the sound stand nulls."""
        low, high = start * self.steps - self.before, (start + frames) * self.steps + self.after
        T = audio_BTA.shape[1]
        embedded = self.embed(audio_BTA[:, max(0, low) : min(T, high)])
        null = self.null_D.to(embedded.dtype)
        edge = [null.expand(len(audio_BTA), n, -1) for n in (max(0, -low), max(0, high - T))]
        padded = torch.cat([edge[0], embedded, edge[1]], dim=1)
        windows = padded.unfold(1, self.before + self.steps + self.after, self.steps).transpose(2, 3)
        on = on_BF[:, start : start + frames, None, None]
        return torch.where(on, windows, null) + self.place_MD.to(embedded.dtype)


class DiT(nn.Module):
    """See the module's text. Latents may be of any size that the patch divides."""

    block: ClassVar[type[Block]] = Block
    frozen: frozenset[str] = frozenset()  # names of weights that are another's and are never trained
    context: Context | None = None  # ranks that share clips with this one
    place: str = ""  # where its weights were read from

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = self.config = config
        self.checkpointing, self.attend_forced = False, attention.attend_forced
        self.patch_in = nn.Linear((c.channels + c.image_channels) * c.patch**2, c.width)
        self.time = nn.Sequential(nn.Linear(256, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.time_6D = nn.Linear(c.width, 6 * c.width)
        self.speech = Sound(c, c.speak_before, c.speak_after)
        self.user = Sound(c, c.listen_before, c.listen_after)
        self.text_in: nn.Module = nn.Linear(c.text_width, c.width)
        self.text_null_D = nn.Parameter(torch.randn(c.width) * 0.02)
        self.ref_null_D = nn.Parameter(torch.randn(c.width) * 0.02)
        self.ref_kind = nn.Embedding(len(KINDS), c.width)
        self.blocks = nn.ModuleList(self.block(c) for _ in range(c.depth))
        self.head_2D = nn.Linear(c.width, 2 * c.width)
        self.patch_out = nn.Linear(c.width, c.channels * c.patch**2)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        zero = [self.time_6D, self.head_2D, self.patch_out, self.ref_kind]
        for silent in zero + [m.out for m in self.modules() if isinstance(m, CrossAttention)]:
            for weight in silent.parameters():
                nn.init.zeros_(weight)

    def _fold(self, x_BFCHW: Tensor, beside_BFGHW: Tensor | None = None) -> Tensor:
        p = self.config.patch
        if x_BFCHW.shape[2] != self.config.channels or x_BFCHW.shape[3] % p or x_BFCHW.shape[4] % p:
            raise ValueError(
                f"latents {list(x_BFCHW.shape)} do not fit a model of {self.config.channels} channels, patch {p}"
            )
        if more := self.config.image_channels:
            nothing = x_BFCHW.new_zeros(()).expand(*x_BFCHW.shape[:2], more, *x_BFCHW.shape[3:])
            x_BFCHW = torch.cat([x_BFCHW, nothing if beside_BFGHW is None else beside_BFGHW.to(x_BFCHW)], dim=2)
        B, F, C, H, W = x_BFCHW.shape
        x = x_BFCHW.reshape(B, F, C, H // p, p, W // p, p).permute(0, 1, 3, 5, 2, 4, 6)
        tokens: Tensor = self.patch_in(x.flatten(4).flatten(2, 3).to(self.patch_in.weight.dtype))
        return tokens

    def _unfold(self, x_BFSP: Tensor, height: int, width: int) -> Tensor:
        p, c = self.config.patch, self.config.channels
        x = x_BFSP.reshape(*x_BFSP.shape[:2], height // p, width // p, c, p, p).permute(0, 1, 4, 2, 5, 3, 6)
        return x.flatten(5, 6).flatten(3, 4).clone()  # never a view: sharding hooks hang on the result

    def _time(self, t: Tensor) -> Tensor:
        """Embed noise levels in [0, 1]: sinusoids of 1000 t, then an MLP; [...] -> [..., D]."""
        rate = torch.exp(torch.arange(128, dtype=t.dtype, device=t.device) * (-math.log(10_000) / 128))
        phase = 1000 * t[..., None] * rate
        weight = self.time_6D.weight.dtype
        embedded: Tensor = self.time(torch.cat([phase.cos(), phase.sin()], -1).to(weight))
        return embedded

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Embed noise levels: [...] -> [..., D], and the modulation of the blocks by them, [..., 6, D]."""
        e = self._time(t)
        return e, wide(self.time_6D(fn.silu(e))).reshape(*t.shape, 6, -1)

    def _drive(self, cond: Conditions, start: int, frames: int) -> Drive:
        """Embed the conditions of frames [start, start + frames)."""
        dtype = self.patch_in.weight.dtype
        speech = self.speech(cond.speak_BTA.to(dtype), cond.speak_on_BF, start, frames)
        user = self.user(cond.listen_BTA.to(dtype), cond.listen_on_BF, start, frames)
        text_RLD, mask_RL, told = cond.text_BLD, cond.text_mask_BL, None
        if cond.prompt_BF is not None and cond.prompts_BQLD is not None and cond.prompts_mask_BQL is not None:
            text_RLD = torch.cat([text_RLD[:, None], cond.prompts_BQLD], dim=1).flatten(0, 1)
            mask_RL = torch.cat([mask_RL[:, None], cond.prompts_mask_BQL], dim=1).flatten(0, 1)
            first = torch.arange(0, len(mask_RL), len(mask_RL) // len(cond), device=mask_RL.device)
            told = (first[:, None] + cond.prompt_BF[:, start : start + frames].long()).flatten()
        return Drive((speech, user), *self._words(text_RLD.to(dtype), mask_RL), told, self._picture(cond, dtype))

    def _words(self, text_RLD: Tensor, mask_RL: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed texts; returns tokens [R, M, D], and which count, [R, 1, 1, M]."""
        words = self.text_in(text_RLD)
        null = self.text_null_D.to(words.dtype).expand(len(words), 1, -1)
        return torch.cat([null, words], dim=1), fn.pad(mask_RL, (1, 0), value=True)[:, None, None]

    def _picture(self, cond: Conditions, dtype: torch.dtype) -> Tensor | None:
        """Return tokens of the picture that the clip begins with, where the network reads such."""
        return None

    def _beside(self, cond: Conditions, start: int, frames: int) -> Tensor | None:
        """Return channels that stand beside the latents of frames [start, start + frames), where there are such."""
        return None

    def _modulate_end(self, e_BFD: Tensor) -> Tensor:
        """Return shift and scale of the last layer, [B, F, 2 D]."""
        return wide(self.head_2D(fn.silu(e_BFD)))

    def _reference_tokens(self, cond: Conditions) -> Tensor | None:
        if cond.ref_BKCHW.shape[1] == 0:
            return None
        tokens = self._fold(cond.ref_BKCHW) + self.ref_kind(cond.ref_kind_BK.long())[:, :, None]
        return torch.where(cond.ref_mask_BK[..., None, None], tokens, self.ref_null_D.to(tokens.dtype))

    def forward(
        self, x: Tensor | None, t: Tensor | None, cond: Conditions, *, layout: Stream | None = None,
        cache: Cache | None = None, start: int = 0,
    ) -> Output | Cache:  # fmt: skip
        """Run the model.

        Args:
            x: latents [B, F, C, H, W]; with a layout [2B, ...], the clean copies first; None: references alone.
            t: noise level of each frame, [B, F] or [2B, F], 0 clean, 1 noise.
            cond: conditions of B samples; with a cache those of a window of frames that contains the block.
            layout: None: both directions, or the cache's; else teacher forcing.
            cache: what a stream remembers; the block's own keys and values come back beside the velocity.
            start: the block's first frame within `cond`'s frames.

        Returns:
            The velocity [B, F, C, H, W] (that of the noisy half under a layout), float32 or wider; for x None an
            empty cache that holds the references.
        """
        space = self._space(x, cond, cache)
        zero = torch.zeros((), dtype=wide(cond.speak_BTA[:0]).dtype, device=cond.speak_BTA.device)
        e_6D = self._levels(zero)[1]
        refs = None if cache is not None else self._reference_tokens(cond)
        tokens: Tensor | None = None
        begun: Begun | None = None
        if x is not None and t is not None:
            noisy = x, t
            if (begun := Begun.of(self.config, cond, start, x.shape[1])) is not None:
                x, t = begun.seen(x, t)
            (H, W), here = x.shape[-2:], slice(None)
            if (split := space.split) is not None:  # this rank's frames
                here, start = slice(split.first, split.first + split.count), start + split.first
            drive, tokens = self._video(x[:, here], cond, start, layout is not None)
            e_BFD, e_BF6D = self._levels(t[:, here])
        forced = None if layout is None else (self.attend_forced, layout)
        ref_kvs, own_kvs = [], []
        for i, block in enumerate(self.blocks):
            kvs = (cache.refs[i], cache.past[i]) if cache is not None else (None, None)
            video = None if tokens is None else Video(tokens, e_BF6D, drive.sounds[i % 2], *drive[1:])
            tokens, refs, ref_kv, own = self._layer(block, video, refs, e_6D, *kvs, space, forced, cache is not None)
            ref_kvs.append(ref_kv)
            own_kvs.append(own)
        if tokens is None:
            assert layout is not None
            return Cache(layout, space.tokens, tuple(ref_kvs), (None,) * len(ref_kvs))
        if layout is not None:
            tokens, e_BFD = tokens.chunk(2)[1], e_BFD.chunk(2)[1]
        v = self._end(tokens, e_BFD, H, W, space.split)
        if begun is not None:
            v = begun.toward(noisy[0][-len(v) :], noisy[1][-len(v) :], v)
        return Output(v, tuple(own_kvs) if cache is not None else ())

    def _space(self, x: Tensor | None, cond: Conditions, cache: Cache | None) -> Space:
        """Place the tokens of references and frames; ranks that share a clip have some of its frames each."""
        c, weight = self.config, self.patch_in.weight
        H, W = cond.ref_BKCHW.shape[-2:] if x is None else x.shape[-2:]
        frames = 1 if x is None else x.shape[1] + (0 if cache is None else cache.frames)
        space = Space.make(
            H // c.patch, W // c.patch, c.width // c.heads, c.theta, c.ref_gap, cond.ref_BKCHW.shape[1], frames,
            weight.device, weight.dtype == torch.float64,
        )  # fmt: skip
        if x is None or cache is not None or self.context is None:
            return space
        return space._replace(split=self.context.split(frames))

    def _video(self, x: Tensor, cond: Conditions, start: int, twice: bool) -> tuple[Drive, Tensor]:
        """Embed frames [start, ...) and what drives them; `twice`: x holds a clean and a noisy copy."""
        here = start, x.shape[1]
        drive, beside = self._drive(cond, *here), self._beside(cond, *here)
        if twice:
            drive, beside = drive.twice(), None if beside is None else torch.cat([beside, beside])
        return drive, self._fold(x, beside)

    def _layer(self, block: nn.Module, *inputs: Any) -> Any:
        """Run one layer; with `checkpointing` its inside is computed again for gradients, not kept."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)

    def _end(self, tokens: Tensor, e_BFD: Tensor, height: int, width: int, split: Split | None = None) -> Tensor:
        shift, scale = self._modulate_end(e_BFD)[:, :, None].chunk(2, dim=-1)
        out = self.patch_out((_norm(tokens) * (1 + scale) + shift).to(self.patch_out.weight.dtype))
        if split is not None:
            out = split.gathered(out)
        return self._unfold(wide(out), height, width)

    def driven(self, cond: Conditions, start: int, frames: int) -> tuple[Drive, Tensor | None, Begun | None]:
        """Embed the conditions of frames [start, start + frames), once for all passes of a block."""
        here = start, frames
        return self._drive(cond, *here), self._beside(cond, *here), Begun.of(self.config, cond, *here)

    def against(
        self, x: Tensor, t: Tensor, drive: Drive, beside: Tensor | None, begun: Begun | None,
        layers: tuple[Held, ...], space: Space,
    ) -> Tensor:  # fmt: skip
        """Run a block against buffers of fixed size, in which its keys and values are left: one graph, nothing grows.

        Args:
            x: latents [B, b, C, H, W].
            t: noise level of each frame, [B, b].
            drive: what `driven` made of the conditions.
            beside: likewise.
            begun: likewise.
            layers: a `Held` for each layer.
            space: rotates the block's own tokens.

        Returns:
            The velocity [B, b, C, H, W], float32 or wider.
        """
        noisy = x, t
        if begun is not None:
            x, t = begun.seen(x, t)
        tokens, (e_BFD, e_BF6D) = self._fold(x, beside), self._levels(t)
        for i, block in enumerate(self.blocks):
            video = Video(tokens, e_BF6D, drive.sounds[i % 2], *drive[1:])
            tokens = block(video, None, e_BF6D[0, 0], None, layers[i], space, None, False)[0]
        v = self._end(tokens, e_BFD, *x.shape[-2:])
        return v if begun is None else begun.toward(*noisy, v)
