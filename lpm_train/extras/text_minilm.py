"""all-MiniLM-L6-v2 in plain torch: a six-layer BERT encoder read from its published files.

The directory holds `model.safetensors` and `tokenizer.json`; `lpm models fetch minilm` puts them where models are, and
there they are found without a directory being named. What a
diffusion transformer reads are the token states, not the pooled sentence vector, so all tokens are given; the pooled
vector (mean over tokens, unit length) is there to compare sentences. Architecture: Devlin et al. 2018; weights: Wang et
al. 2020, sentence-transformers. 22 M weights, about 10 ms a caption on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lpm_train.storage import DataError
from schemas.files.model_files import cache_directory, model_directories

_HEADS, _EPS = 12, 1e-12  # of the published configuration


class MiniLM:
    """Captions to 384 features a token."""

    def __init__(self, directory: str | Path = "", length: int = 64) -> None:
        """Load weights and tokenizer from a directory, or from where `lpm models` keeps them.

        Raises:
            DataError: the directory does not hold them.
        """
        kept = [root / "minilm" for root in (*model_directories(), cache_directory())]
        roots = [Path(directory)] if directory else kept
        found = [[next(iter(sorted(r.rglob(n))), None) for n in ("model.safetensors", "tokenizer.json")] for r in roots]
        files = next((pair for pair in found if None not in pair), [None])
        if files[0] is None or files[1] is None:
            raise DataError(
                f"no MiniLM in {directory or ' or '.join(map(str, roots))} (model.safetensors and tokenizer.json): get "
                "it with `lpm models fetch minilm`, or use data.text=hashed-words, which knows no meaning"
            )
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
        except ImportError as e:
            raise DataError(f"{e}: pip install 'openlpm[encoders]', or use data.text=hashed-words") from e
        try:
            stored = load_file(files[0])
        except (SafetensorError, ValueError) as e:
            raise DataError(f"{files[0].name} is no readable safetensors file: {e}") from e
        self._w = weights = {k.removeprefix("bert."): v.float() for k, v in stored.items() if v.is_floating_point()}
        self._tokenizer = Tokenizer.from_file(str(files[1]))
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length)
        self.length, self.width = length, weights["embeddings.word_embeddings.weight"].shape[1]
        self._layers = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.layer."))
        self.name = f"minilm {length}"

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """Move the weights, and change their number type if one is given; states come back in float32 on the CPU."""
        self._w = {name: w.to(device=device, dtype=dtype) for name, w in self._w.items()}
        return self

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode: -> (token states [B, L, 384], mask [B, L]); an empty text has no token."""
        coded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([c.ids for c in coded])
        mask = torch.tensor([c.attention_mask for c in coded], dtype=torch.bool)
        place = self._w["embeddings.word_embeddings.weight"].device
        x = self._encode(ids.to(place), mask.to(place)).float().cpu()
        mask &= torch.tensor([bool(t.strip()) for t in texts])[:, None]
        return x * mask[..., None], mask

    def sentence(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors [B, 384], one a sentence, to be compared by dot product."""
        x, mask = self(texts)
        return F.normalize(x.sum(1) / mask.sum(1, keepdim=True).clamp_min(1), dim=1)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._w[f"{name}.weight"], self._w[f"{name}.bias"], _EPS)

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        table = {n: self._w[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")}
        x = table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for i in range(self._layers):
            at = f"encoder.layer.{i}"
            q, k, v = (
                self._linear(x, f"{at}.attention.self.{n}").reshape(*x.shape[:2], _HEADS, -1).transpose(1, 2)
                for n in ("query", "key", "value")
            )
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
            y = self._linear(y.transpose(1, 2).flatten(2), f"{at}.attention.output.dense")
            x = self._norm(x + y, f"{at}.attention.output.LayerNorm")
            y = self._linear(F.gelu(self._linear(x, f"{at}.intermediate.dense")), f"{at}.output.dense")
            x = self._norm(x + y, f"{at}.output.LayerNorm")
        return x
