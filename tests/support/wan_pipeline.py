"""Whole pipelines of Wan with tiny random networks, as diffusers saves them: what a user downloads, in small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import tokenizers
import torch
import transformers as tf
import wan_case as wan

LATENT, TEXT = 4, 16  # channels of a latent, width of a word


def words() -> Any:
    """Make a tokenizer of letters, which knows every word."""
    letters = {c: i for i, c in enumerate(["<pad>", "</s>", "<unk>", *map(chr, range(32, 127))])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(letters, "<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def umt5() -> Any:
    """Make umT5's encoder, with a position bias in every layer."""
    torch.manual_seed(2)
    shape = {"vocab_size": 100, "d_model": TEXT, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return tf.UMT5EncoderModel(tf.UMT5Config(**shape)).eval()


def of_words(folder: Path) -> str:
    """Save umT5's encoder with a tokenizer beside it; returns its directory."""
    umt5().save_pretrained(folder / "text_encoder")
    words().save_pretrained(folder / "tokenizer")
    return str(folder / "text_encoder")


def vae(**form: Any) -> Any:
    """Make the autoencoder of Wan 2.1, or with `TI2V_VAE` that of Wan 2.2's 5B."""
    torch.manual_seed(3)
    small = {"base_dim": 8, "z_dim": LATENT, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    scale = {"latents_mean": [0.0] * LATENT, "latents_std": [0.2] * LATENT}  # brings its latents near unit size
    made: Any = diffusers.AutoencoderKLWan(**{**small, **scale, **form})
    return made.eval()


TI2V_VAE = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}


def save(folder: Path, kind: str) -> Any:
    """Save a pipeline; returns its transformer.

    Args:
        folder: where to.
        kind: t2v (Wan 2.1, text to video), i2v (Wan 2.1, image to video) or ti2v (the form of Wan 2.2's 5B).
    """
    form: dict[str, Any] = {"in_channels": LATENT, "out_channels": LATENT, "text_dim": TEXT}
    if kind == "i2v":
        form |= {"in_channels": 2 * LATENT + 4, "image_dim": wan.PICTURE, "added_kv_proj_dim": wan.WIDTH}
    network = wan.network(**form)
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.mul_(1.0 if "norm" in name or "table" in name else 0.5)
    parts = {"tokenizer": words(), "text_encoder": umt5(), "transformer": network}
    parts |= {"vae": vae(**(TI2V_VAE if kind == "ti2v" else {})), "scheduler": diffusers.UniPCMultistepScheduler()}
    made: Any
    if kind != "i2v":
        made = diffusers.WanPipeline(**parts, expand_timesteps=kind == "ti2v")
    else:
        shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 1}
        torch.manual_seed(4)
        seen = tf.CLIPVisionModel(tf.CLIPVisionConfig(hidden_size=wan.PICTURE, intermediate_size=8, **shape))
        size = {"height": 16, "width": 16}
        processor = tf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)
        made = diffusers.WanImageToVideoPipeline(**parts, image_encoder=seen, image_processor=processor)
    made.save_pretrained(folder)
    return network
