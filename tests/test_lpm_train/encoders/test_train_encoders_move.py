"""Frozen encoders on another device or in another number type: inputs go there, results come back in float32."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
import wan_case as wan
import wan_pipeline as pipeline
from torch import Tensor

from lpm_train import parts
from lpm_train.config import Data
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.codec import PatchCodec
from lpm_train.encoders.picture import Unseen
from lpm_train.encoders.text import HashedWords
from lpm_train.extras.picture_public import ClipPicture
from lpm_train.extras.text_minilm import MiniLM
from lpm_train.extras.text_public import PublicText
from lpm_train.parts import provenance
from lpm_train.session import make_encoders
from lpm_train.storage import DataError


class Elsewhere(torch.nn.Module):
    """A network that stands on "meta" in bfloat16, remembers where its inputs lay, and gives ones."""

    config = SimpleNamespace(hidden_size=4, image_size=8)
    device, dtype = torch.device("meta"), torch.bfloat16

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, x: Tensor, **more: Any) -> Any:
        self.given += [x, *(value for value in more.values() if isinstance(value, Tensor))]
        out = torch.ones(len(x), 3, 4, dtype=self.dtype)
        return SimpleNamespace(last_hidden_state=out, hidden_states=[out, out])


def tokens(texts: list[str], **_: Any) -> Any:
    """Take every text for three words."""
    ids = torch.ones(len(texts), 3, dtype=torch.int64)
    return SimpleNamespace(input_ids=ids, attention_mask=ids)


def back(x: Tensor) -> bool:
    return (x.device.type, x.dtype) == ("cpu", torch.float32)


def test_inputs_go_to_the_network_and_results_come_back() -> None:
    network = Elsewhere()
    x, mask = PublicText("stub", lambda: (network, tokens), 4, 3).to("meta")(["nods", ""])
    assert [t.device.type for t in network.given] == ["meta", "meta"]
    assert back(x) and mask.device.type == "cpu" and x.sum((1, 2)).tolist() == [12, 0]
    network = Elsewhere()
    assert back(ClipPicture(network, [0.5] * 3, [0.5] * 3)(torch.zeros(1, 3, 8, 8)))
    assert [(t.device.type, t.dtype) for t in network.given] == [("meta", torch.bfloat16)]


class Movable:
    """Remembers where it was moved."""

    place = "cpu"

    def to(self, device: str) -> Self:
        self.place = device
        return self


class Codec(Movable, PatchCodec):
    """A codec."""


class Sound(Movable, LogMel):
    """A sound encoder."""


class Text(Movable, HashedWords):
    """A text encoder."""


class Seen(Movable, Unseen):
    """A picture encoder."""


def test_a_device_is_for_all_encoders_that_can_move() -> None:
    choose = {"codec": parts.codec, "audio": parts.audio, "text": parts.text, "picture": parts.picture}
    names = zip(choose, (Codec, Sound, Text, Seen), strict=True)
    made = make_encoders(Data(**{n: choose[n](f"{__name__}:{cls.__name__}") for n, cls in names}), "meta")
    assert [getattr(made, n).place for n in choose] == ["meta"] * 4 and made.device == "meta"
    assert isinstance(make_encoders(Data(), "cpu").text, HashedWords)  # has nothing to move


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_another_number_type_is_another_encoder_of_nearly_the_same_numbers(tmp_path: Path) -> None:
    folder, texts = pipeline.of_words(tmp_path), ["a man nods", ""]
    whole, half = (parts.text("umt5", directory=folder, length=12, dtype=d).build() for d in ("", "bfloat16"))
    (x, mask), (y, same) = whole(texts), half(texts)
    assert back(y) and torch.equal(mask, same) and 0 < (x - y).abs().max() < 0.1 < x.abs().max()
    assert whole.name == "umt5 12x16" and half.name == "umt5 12x16, bfloat16"
    before = provenance(whole)
    assert before["settings"] == {"length": 12, "width": 16, "name": "umt5 12x16"}
    assert isinstance(whole, PublicText) and provenance(whole.to("cpu")) == before != provenance(half)
    unread = parts.text("umt5", directory=folder, length=12).build()
    assert isinstance(unread, PublicText) and provenance(unread.to("meta")) == before  # known where it was read
    assert torch.equal(whole(texts)[0], x)
    assert torch.equal(whole.to("cpu", torch.bfloat16)(texts)[0], y)
    wan.clip_vision(tmp_path / "clip")
    seen, coarse = (parts.picture("clip-vision", directory=str(tmp_path / "clip"), dtype=d).build() for d in
                    ("", "bfloat16"))  # fmt: skip
    picture = torch.rand(1, 3, 20, 16) * 2 - 1
    assert back(coarse(picture)) and 0 < (seen(picture) - coarse(picture)).abs().max() < 0.2
    with pytest.raises(DataError, match="use float32 or bfloat16"):
        parts.text("umt5", directory=folder, dtype="float8").build()


@pytest.mark.slow
def test_minilm_moves_with_its_weights(tmp_path: Path) -> None:
    import transformers as tf

    torch.manual_seed(0)
    shape = {"vocab_size": 100, "hidden_size": 24, "num_attention_heads": 12, "num_hidden_layers": 2}
    tf.BertModel(tf.BertConfig(**shape, intermediate_size=16)).save_pretrained(tmp_path)
    pipeline.words().save_pretrained(tmp_path)
    encoder = MiniLM(tmp_path, length=9)
    x, mask = encoder(["nods", ""])
    assert x.shape == (2, 9, 24) and mask.sum(1).tolist() == [4, 0]
    assert torch.equal(encoder.to("cpu")(["nods", ""])[0], x)
    y, same = encoder.to("cpu", torch.bfloat16)(["nods", ""])
    assert back(y) and torch.equal(mask, same) and 0 < (x - y).abs().max() < 0.1 < x.abs().max()
