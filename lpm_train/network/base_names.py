"""Which weights of a Wan network each of ours is made of, and how: names, order of rows, what is joined.

Three things differ besides names: what is three layers there is one here (queries, keys, values); heads pair channel i
with i + E/2, not with its neighbour, so rows of queries and keys change places; pixels of a patch follow their channel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lpm_train.config import Model


@dataclass(frozen=True)
class Piece:
    """One of our weights, and those of the file that it is made of, one below the other."""

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...] = ()  # of each of theirs, where it is not that of its part of ours
    turned: int = 0  # so many of them, from the first, have rows in the order of neighbouring pairs
    by_pixel: bool = False  # rows are ordered by pixel, then channel

    def join(self, parts: Sequence[Tensor], c: Model, shape: torch.Size) -> Tensor:
        """Make our weight, float32."""
        rows = [_turn(p, c.heads, back=False) if i < self.turned else p for i, p in enumerate(parts)]
        whole = torch.cat([r.float() for r in rows]) if len(rows) > 1 else rows[0].float()
        if self.by_pixel:
            whole = whole.reshape(c.patch**2, -1, *whole.shape[1:]).transpose(0, 1)
        return whole.reshape(shape).contiguous()

    def split(self, weight: Tensor, c: Model) -> dict[str, Tensor]:
        """Make theirs."""
        if self.by_pixel:
            weight = weight.reshape(-1, c.patch**2, *weight.shape[1:]).transpose(0, 1).flatten(0, 1)
        parts = [_turn(p, c.heads, back=True) if i < self.turned else p for i, p in enumerate(self._cut(weight))]
        return {n: p.reshape(self.shape or p.shape).contiguous() for n, p in zip(self.theirs, parts, strict=True)}

    def _cut(self, weight: Tensor) -> Sequence[Tensor]:
        return weight.chunk(len(self.theirs)) if len(self.theirs) > 1 else (weight,)


def _turn(rows: Tensor, heads: int, back: bool) -> Tensor:
    """Reorder the channels of each head: neighbouring pairs (2i, 2i + 1) to (i, i + E/2), or back."""
    half = len(rows) // heads // 2
    return rows.reshape(heads, *((2, half) if back else (half, 2)), *rows.shape[1:]).transpose(1, 2).flatten(0, 2)


def pieces(c: Model) -> list[Piece]:
    """List what of a Wan network is its base's, with the names of diffusers."""
    entries = c.channels + c.image_channels
    out = [
        Piece("patch_in.weight", ("patch_embedding.weight",), (c.width, entries, 1, c.patch, c.patch)),
        Piece("patch_in.bias", ("patch_embedding.bias",)),
        Piece("head_table_2D", ("scale_shift_table",), (1, 2, c.width)),
    ]  # fmt: skip

    def layer(ours: str, *theirs: str, turned: int = 0, bias: bool = True, by_pixel: bool = False) -> None:
        for kind in ("weight", "bias") if bias else ("weight",):
            names = tuple(f"{t}.{kind}" for t in theirs)
            out.append(Piece(f"{ours}.{kind}", names, turned=turned, by_pixel=by_pixel))

    layer("patch_out", "proj_out", by_pixel=True)
    embedder = "condition_embedder"
    for ours, theirs in (
        ("time.0", "time_embedder.linear_1"), ("time.2", "time_embedder.linear_2"), ("time_6D", "time_proj"),
        ("text_in.0", "text_embedder.linear_1"), ("text_in.2", "text_embedder.linear_2"),
    ):  # fmt: skip
        layer(ours, f"{embedder}.{theirs}")
    if c.picture_width:
        for i, theirs in ((0, "norm1"), (1, "ff.net.0.proj"), (3, "ff.net.2"), (4, "norm2")):
            layer(f"picture_in.{i}", f"{embedder}.image_embedder.{theirs}")
    for i in range(c.depth):
        b = f"blocks.{i}"
        out.append(Piece(f"{b}.table_6D", (f"{b}.scale_shift_table",), (1, 6, c.width)))
        layer(f"{b}.qkv", f"{b}.attn1.to_q", f"{b}.attn1.to_k", f"{b}.attn1.to_v", turned=2)
        for n in "qk":
            layer(f"{b}.norm_{n}", f"{b}.attn1.norm_{n}", turned=1, bias=False)
            layer(f"{b}.text.norm_{n}", f"{b}.attn2.norm_{n}", bias=False)
        layer(f"{b}.out", f"{b}.attn1.to_out.0")
        layer(f"{b}.text.q", f"{b}.attn2.to_q")
        layer(f"{b}.text.kv", f"{b}.attn2.to_k", f"{b}.attn2.to_v")
        layer(f"{b}.text.out", f"{b}.attn2.to_out.0")
        if c.picture_width:
            layer(f"{b}.text.kv_picture", f"{b}.attn2.add_k_proj", f"{b}.attn2.add_v_proj")
            layer(f"{b}.text.norm_picture", f"{b}.attn2.norm_added_k", bias=False)
        layer(f"{b}.norm_text", f"{b}.norm2")
        layer(f"{b}.mlp.0", f"{b}.ffn.net.0.proj")
        layer(f"{b}.mlp.2", f"{b}.ffn.net.2")
    return out


_FIRST_NAMES = (  # diffusers' names, and those of the files as first published
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    (r"^scale_shift_table", "head.modulation"), (r"^proj_out", "head.head"), (r"\.scale_shift_table", ".modulation"),
    (r"\.attn1\.", ".self_attn."), (r"\.attn2\.", ".cross_attn."), (r"\.to_out\.0", ".o"), (r"\.to_([qkv])\.", r".\1."),
    (r"\.add_([kv])_proj", r".\1_img"), ("norm_added_k", "norm_k_img"), (r"\.norm2\.", ".norm3."),
    (r"ffn\.net\.0\.proj", "ffn.0"), (r"ffn\.net\.2", "ffn.2"),
)  # fmt: skip


def first_name(name: str) -> str:
    """Translate a name of diffusers to that of the files as first published."""
    for pattern, to in _FIRST_NAMES:
        name = re.sub(pattern, to, name)
    return name
