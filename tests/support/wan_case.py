"""Tiny Wan networks of diffusers with random weights, saved as their users have them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from lpm_train.batch import Batch, Conditions
from lpm_train.config import Base, Config, Lora
from lpm_train.network.base import open_base
from lpm_train.network.base_names import first_name
from lpm_train.network.model import DiT
from lpm_train.training.start import build

CHANNELS, WIDTH, HEADS, TEXT, PICTURE = 4, 24, 2, 8, 10
T2V: dict[str, Any] = {}
I2V = {"in_channels": 2 * CHANNELS + 4, "image_dim": PICTURE, "added_kv_proj_dim": WIDTH}  # Wan 2.1
I2V_22 = {"in_channels": 2 * CHANNELS + 4}


def network(**form: Any) -> Any:
    torch.manual_seed(1)
    made: Any = diffusers.WanTransformer3DModel(
        **{
            "num_attention_heads": HEADS, "attention_head_dim": WIDTH // HEADS, "in_channels": CHANNELS,
            "out_channels": CHANNELS, "text_dim": TEXT, "ffn_dim": 40, "num_layers": 3, "rope_max_seq_len": 64, **form,
        }
    )  # fmt: skip
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made.eval()


def settings(place: Path, settings: Config, **lora: Any) -> Config:
    """Put a base into settings."""
    found = open_base(f"wan:{place}")
    base = Base(weights=found.weights, sha256=found.files.sha256)
    return replace(settings, model=replace(settings.model, **found.form), base=base, lora=Lora(**lora))


def model(place: Path, like: Config, **lora: Any) -> DiT:
    return build(settings(place, like, **lora), None, {}).eval()


def as_first_published(network: Any, folder: Path) -> Path:
    """Save in the layout of the first files."""
    from safetensors.torch import save_file

    folder.mkdir()
    c = network.config
    save_file({first_name(n): w.contiguous() for n, w in network.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({
            "_class_name": "WanModel", "dim": WIDTH, "eps": 1e-6, "ffn_dim": c.ffn_dim, "freq_dim": 256,
            "in_dim": c.in_channels, "model_type": "t2v", "num_heads": HEADS, "num_layers": c.num_layers,
            "out_dim": c.out_channels, "text_len": 512,
        })
    )  # fmt: skip
    return folder


def shown(batch: Batch, level: float, beside: bool) -> tuple[Batch, Tensor]:
    """Return what a network of diffusers is shown at a noise level, and the levels that it is told.

    Where a picture is given and stands not `beside` the latents it is put among them, and its tokens are told 0.
    """
    cond = batch.cond
    if beside or cond.given_BFCHW is None or cond.given_on_BF is None:
        return batch, torch.tensor(level)
    x = torch.where(cond.given_on_BF[..., None, None, None], cond.given_BFCHW, batch.x_BFCHW)
    tokens = x.shape[3] * x.shape[4] // 4
    t = torch.where(cond.given_on_BF, 0.0, level).repeat_interleave(tokens, dim=1)
    return replace(batch, x_BFCHW=x, cond=replace(cond, given_BFCHW=None, given_on_BF=None)), t


def theirs(network: Any, x_BFCHW: Tensor, t: float | Tensor, cond: Conditions) -> Tensor:
    """Ask diffusers for the velocity, its inputs made as its pipelines make them."""
    x = x_BFCHW
    if cond.given_BFCHW is not None and cond.given_on_BF is not None:
        on = cond.given_on_BF[..., None, None, None].to(x.dtype).expand(-1, -1, 4, *x.shape[3:])
        x = torch.cat([x, on, cond.given_BFCHW], dim=2)
    words = cond.text_BLD * cond.text_mask_BL[..., None]
    time = torch.as_tensor(t) * 1000
    with torch.no_grad():
        out = network(
            x.transpose(1, 2), time.expand(len(x)) if time.dim() == 0 else time, words, cond.picture_BIP
        ).sample  # fmt: skip
    return out.transpose(1, 2)


def clip_vision(folder: Path) -> Path:
    """Save a tiny image encoder."""
    import transformers as tf

    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = tf.CLIPVisionConfig(hidden_size=PICTURE, intermediate_size=8, **shape)
    tf.CLIPVisionModel(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    tf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder
