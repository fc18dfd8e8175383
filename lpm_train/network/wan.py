"""The transformer in the form of Wan 2.1 and 2.2, with sound and references added that change nothing at first.

It differs from `network.model` in what the weights dictate: queries and keys are normed over the whole width, text
passes an MLP and is attended through an affine norm without a mask (places without a word are zeros, as in Wan's own
training), the end is modulated by a table, and an image-to-video network reads a given picture as more channels and,
in Wan 2.1, as tokens of an image encoder. References are attended beside the video, in a softmax of their own behind a
gain that starts at zero; sound enters as it does there. Per-frame noise levels, teacher forcing and the cache are those
of the parent: Wan's one level for a clip is the case of equal ones.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lpm_train.batch import Conditions
from lpm_train.config import Model as ModelConfig
from lpm_train.network.attention import KV, Held, Space
from lpm_train.network.model import Block, CrossAttention, DiT, HeadNorm, Video, wide

PICTURE_NORM = 1e-5  # epsilon of the image embedding's first and last norm


class Told(CrossAttention):
    """Attention to text, and in image-to-video networks to an image encoder's tokens, with the same queries."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__(c.width, c.heads)
        self.norm_q, self.norm_k = HeadNorm(c.width), HeadNorm(c.width)
        if c.picture_width:
            self.kv_picture, self.norm_picture = nn.Linear(c.width, 2 * c.width), HeadNorm(c.width)

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
        return heads

    def both(self, x_BLD: Tensor, text_RMD: Tensor, rows_B: Tensor | None, picture_BID: Tensor | None) -> Tensor:
        """Attend to text and, where there is one, to a picture: [B, L, D] -> [B, L, D]; `rows_B` as in the parent."""
        q, (k, v) = self._heads(self.norm_q(self.q(x_BLD))), self.kv(text_RMD).chunk(2, dim=-1)
        k = self.norm_k(k)
        if rows_B is not None:
            k, v = k[rows_B], v[rows_B]
        out = fn.scaled_dot_product_attention(q, self._heads(k), self._heads(v))
        if picture_BID is not None:
            k, v = self.kv_picture(picture_BID).chunk(2, dim=-1)
            k, v = (p.repeat_interleave(len(x_BLD) // len(p), dim=0) for p in (self.norm_picture(k), v))
            out = out + fn.scaled_dot_product_attention(q, self._heads(k), self._heads(v))
        result: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return result


class WanBlock(Block):
    """One layer."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__(c)
        self.norm_q, self.norm_k = HeadNorm(c.width), HeadNorm(c.width)
        self.norm_text, self.text = nn.LayerNorm(c.width, eps=1e-6), Told(c)
        self.ref_gain_D = nn.Parameter(torch.zeros(c.width))

    def _split(self, x_BLD: Tensor) -> tuple[Tensor, KV]:
        q, k, v = self.qkv(x_BLD).chunk(3, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.norm_q(q), self.norm_k(k), v))
        return q, KV(k, v)

    def _told(self, x_BLD: Tensor, video: Video) -> Tensor:
        assert isinstance(self.text, Told)
        return self.text.both(self.norm_text(x_BLD).to(x_BLD.dtype), video.text_RLD, video.told_N, video.picture_BID)

    def forward(
        self, video: Video | None, r_BKSD: Tensor | None, e_6D: Tensor, refs: KV | None, past: KV | Held | None,
        space: Space, *rest: Any,
    ) -> tuple[Tensor | None, Tensor | None, KV | None, KV | None]:  # fmt: skip
        """Do as the parent, with references beside the rest."""
        space = space._replace(beside_N1E=self.ref_gain_D.reshape(self.heads, 1, -1))
        return super().forward(video, r_BKSD, e_6D, refs, past, space, *rest)


class WanDiT(DiT):
    """See the module's text."""

    block: ClassVar[type[Block]] = WanBlock

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        c = config
        del self.head_2D, self.text_null_D
        self.text_in = nn.Sequential(nn.Linear(c.text_width, c.width), nn.GELU("tanh"), nn.Linear(c.width, c.width))
        self.head_table_2D = nn.Parameter(torch.zeros(2, c.width))
        if P := c.picture_width:
            self.picture_in = nn.Sequential(
                nn.LayerNorm(P, PICTURE_NORM), nn.Linear(P, P), nn.GELU(), nn.Linear(P, c.width),
                nn.LayerNorm(c.width, PICTURE_NORM),
            )  # fmt: skip

    def _words(self, text_RLD: Tensor, mask_RL: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.text_in(text_RLD * mask_RL[..., None]), None

    def _picture(self, cond: Conditions, dtype: torch.dtype) -> Tensor | None:
        if cond.picture_BIP is None or not self.config.picture_width:
            return None
        tokens: Tensor = self.picture_in(cond.picture_BIP.to(dtype))
        return tokens

    def _beside(self, cond: Conditions, start: int, frames: int) -> Tensor | None:
        if cond.given_BFCHW is None or cond.given_on_BF is None or not self.config.image_channels:
            return None
        x = cond.given_BFCHW[:, start : start + frames]
        on = cond.given_on_BF[:, start : start + frames, None, None, None].to(x.dtype)
        mask = on.expand(-1, -1, self.config.image_channels - x.shape[2], *x.shape[3:])
        return torch.cat([mask, x], dim=2)

    def _modulate_end(self, e_BFD: Tensor) -> Tensor:
        return (wide(self.head_table_2D) + wide(e_BFD)[..., None, :]).flatten(-2)


def make_model(config: ModelConfig) -> DiT:
    """Make the network that a configuration describes, with fresh weights."""
    return WanDiT(config) if config.kind == "wan" else DiT(config)
