"""A tiny Wav2Vec2ForCTC with its processor as a directory: random weights in the real format."""

from __future__ import annotations

import json
from pathlib import Path

from annotators.models import torchvision_ops

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"etaonihsrdlumwcfgypbvk'xjqz")


def write_network(folder: Path, seed: int = 0) -> Path:
    """Write it, with frames of 20 ms as every published network has, and return its directory."""
    torchvision_ops.importable()
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: n for n, letter in enumerate(LETTERS)}), encoding="utf-8")
    torch.manual_seed(seed)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(vocabulary), pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
