"""T5, umT5 and CLIP text encoders through transformers, as an extra; read from a directory, nothing is downloaded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lpm_train.encoders.deferred import files_hash
from lpm_train.extras.audio_public import pretrained
from lpm_train.storage import DataError


class PublicText:
    """Last hidden states of a frozen text encoder, whose weights are read when a text is first encoded."""

    def __init__(
        self, kind: str, read: Callable[[], tuple[Any, Any]], width: int, length: int, dtype: str = "",
        directory: str = "",
    ) -> None:  # fmt: skip
        """Describe an encoder.

        Args:
            kind: what it is called.
            read: reads the network and its tokenizer.
            width: features of a token.
            length: token places of a text.
            dtype: the number type, where one is chosen; it is said in the name, for it decides the numbers.
            directory: where the weights lie.
        """
        self._read, self._directory, self._lock = read, directory, threading.Lock()
        self._model: Any = None
        self._tokenizer: Any = None
        self._device: torch.device | str = "cpu"
        self._dtype: torch.dtype | None = None
        self.length, self.width = length, width
        self.name = f"{kind} {length}x{self.width}" + f", {dtype}" * bool(dtype)

    @classmethod
    def t5(cls, directory: str, length: int = 128, dtype: str = "") -> Self:
        """Take T5's encoder from a directory that transformers wrote.

        Args:
            directory: config, weights and tokenizer.
            length: token places of a text.
            dtype: float32 or bfloat16, in which it computes; empty: as transformers reads it.

        Raises:
            DataError: there is none, or it is an umT5, whose layers have position biases of their own.
        """
        file = Path(directory) / "config.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("model_type") == "umt5":
            raise DataError(f"{directory} holds an umT5: choose data.text=umt5")
        return cls._of("t5", "T5EncoderModel", "T5Config", directory, directory, length, dtype)

    @classmethod
    def umt5(cls, directory: str, tokenizer: str = "", length: int = 512, dtype: str = "") -> Self:
        """Take umT5's encoder, which Wan reads; its tokenizer is there too, or in `tokenizer` beside it."""
        beside = Path(directory).parent / "tokenizer"
        words = tokenizer or (str(beside) if beside.is_dir() else directory)
        return cls._of("umt5", "UMT5EncoderModel", "UMT5Config", directory, words, length, dtype)

    @classmethod
    def clip(cls, directory: str, length: int = 77, dtype: str = "") -> Self:
        """Take CLIP's text encoder."""
        return cls._of("clip", "CLIPTextModel", "CLIPTextConfig", directory, directory, length, dtype)

    @classmethod
    def _of(cls, kind: str, model: str, config: str, directory: str, words: str, length: int, dtype: str) -> Self:
        def read() -> tuple[Any, Any]:
            return pretrained(model, directory, dtype), pretrained("AutoTokenizer", words)

        if (Path(directory) / "config.json").is_file():
            return cls(kind, read, int(pretrained(config, directory, dtype).hidden_size), length, dtype, directory)
        found = read()  # no folder of transformers: a name that it knows, or an error that says what is not there
        made = cls(kind, lambda: found, int(found[0].config.hidden_size), length, dtype, directory)
        made.load()
        return made

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    def load(self) -> None:
        """Read weights and tokenizer, if they are not in memory. Raises DataError where they cannot be read."""
        with self._lock:
            if self._model is None:
                model, self._tokenizer = self._read()
                self._model = model.eval().requires_grad_(False).to(dtype=self._dtype)

    def files(self) -> str | None:
        """Return a quick hash of the weights' files: "" where there are none, None where it cannot tell the numbers."""
        return None if self._dtype else files_hash(self._directory)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """Choose where texts are encoded, and change the number type if one is given.

        The network goes there with the first text: read for its hash alone, it takes no memory of a GPU. Embeddings
        come back in float32 on the CPU.
        """
        with self._lock:
            self._device, self._dtype = device, dtype or self._dtype
            if self._model is not None:
                self._model.to(dtype=self._dtype)
        return self

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode: -> (token states [B, L, Dt], mask [B, L]); an empty text has no token.

        Raises:
            DataError: the weights cannot be read.
        """
        self.load()
        with self._lock:
            coded = self._tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
            )
            model = self._model.to(self._device)
            ids, seen = (x.to(model.device) for x in (coded.input_ids, coded.attention_mask))
            hidden = model(ids, attention_mask=seen).last_hidden_state.float().cpu()
        mask = coded.attention_mask.bool() & torch.tensor([bool(t.strip()) for t in texts])[:, None]
        return hidden * mask[..., None], mask
