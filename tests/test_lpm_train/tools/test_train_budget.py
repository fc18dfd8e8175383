"""The budget counts what PyTorch counts, and says what is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import train_case as case
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lpm_train.config import Config, ConfigError, Stream, override
from lpm_train.encoders.codec import PatchCodec
from lpm_train.network.wan import make_model
from lpm_train.presets import PRESETS
from lpm_train.streaming.ring import StaticRollout
from lpm_train.tools.budget import (
    TEXTS,
    Budget,
    Work,
    attend,
    bare_codec,
    counted,
    encode_work,
    linear,
    lines,
    network,
    stream_budget,
    text_work,
)

STREAM = Stream(block=2, window=4, sink=2, steps=3)
PLACES = 7


def small(kind: str) -> Config:
    config = case.config(stream=STREAM)
    more: dict[str, Any] = {"kind": "wan", "width": 24, "heads": 2} if kind == "wan" else {}
    model = replace(config.model, depth=3, speak_after=1, **more)
    return replace(config, model=model, data=replace(config.data, max_refs=2))


@pytest.mark.parametrize("kind", ["lpm", "wan"])
def test_every_operation_of_a_block_is_counted(kind: str) -> None:
    config, frames = small(kind), 6
    cond = case.batch(["a"], frames=frames).cond
    cond = replace(cond, text_BLD=torch.zeros(1, PLACES, case.DT), text_mask_BL=torch.zeros(1, PLACES).bool())
    with torch.device("meta"):
        model = make_model(config.model)
    cond = cond.to("meta")
    rollout = StaticRollout.begin(model, cond, config.stream)

    def draw(purpose: str) -> Tensor:
        return torch.zeros(1, STREAM.block, case.C, case.H, case.W, device="meta")

    with FlopCounterMode(display=False) as counter:
        rollout.block(cond, 2, draw)
    found = network(config, case.H, case.W, PLACES, 2)
    assert sum(work.flops for work in found.values()) == counter.get_total_flops()
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    passes = STREAM.steps / (STREAM.steps + 1)
    parts = [("MLP", "mlp"), ("cross-attention to sound", "sound"), ("cross-attention to text", "text")]
    for part, module in parts[: 3 if kind == "lpm" else 2]:  # Wan's text goes by another method than `forward`
        name = next(n for n in by_module if n.endswith(f"Block.{module}"))
        assert found[part].flops == by_module[name] * passes, part
    held = rollout.cache.n_bytes / 4  # float32 here
    tokens = case.H * case.W // config.model.patch**2
    assert held == config.model.depth * config.model.width * tokens * (2 * 2 + 3 * 8)


def test_what_runs_without_memory_is_counted() -> None:
    a, b = torch.zeros(3, 5, device="meta"), torch.zeros(5, 7, device="meta")
    assert counted(lambda: a @ b) == linear(3, 5, 7) == Work(2 * 3 * 5 * 7, 2 * (15 + 35 + 21))
    q, k = torch.zeros(1, 2, 6, 4, device="meta"), torch.zeros(1, 2, 9, 4, device="meta")
    assert counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k)).flops == attend(6, 9, 8).flops


def test_encoding_is_counted_by_picture_and_by_word() -> None:
    config = override(PRESETS["h200_1b3"](), ["data.codec=taew", "data.codec.path=x"])
    codec = bare_codec(config)
    still, short, long = (encode_work(codec, n, 64, 96).flops for n in (1, 5, 9))
    assert long - short == short - still > 0 and encode_work(codec, 5, 128, 96).flops == 2 * short
    assert encode_work(PatchCodec((4, 8, 8)), 8, 32, 32).flops == 0  # folds, and multiplies nothing


@pytest.mark.slow
def test_the_work_of_umt5_is_that_of_its_own_class() -> None:
    import transformers as tf

    config = override(PRESETS["wan_1b3"](), [])
    places, layers, width, hidden = TEXTS["umt5"]
    shape = {"d_model": width, "d_kv": 64, "d_ff": hidden, "num_layers": layers, "num_heads": width // 64}
    with torch.device("meta"):
        model = tf.UMT5EncoderModel(tf.UMT5Config(vocab_size=8, **shape))
        ids = torch.zeros(1, places, dtype=torch.int64)
    assert counted(lambda: model(ids)).flops == text_work(config)[1].flops


def test_shares_are_those_of_the_slower_side() -> None:
    slow, moved = Work(flops=989e12 / 4), Work(bytes=4.8e12 / 10)
    found = Budget({"network": {"a": slow}, "codec": {"b": moved}}, pictures=25, cache_bytes=0.0)
    table = found.table(25.0, efficiency=0.5, bandwidth=0.5)
    assert table["parts"]["a"]["share"] == pytest.approx(0.5) and table["parts"]["a"]["bound"] == "operations"
    assert table["parts"]["b"]["share"] == pytest.approx(0.2) and table["parts"]["b"]["bound"] == "bytes"
    assert table["fits"] and not table["over"] and table["fps_reached"] == pytest.approx(25 / 0.7)
    fast = found.table(50.0, efficiency=0.5, bandwidth=0.5)
    assert not fast["fits"] and fast["over"] == ["network", "codec"]
    assert "does not fit" in lines(fast)[-1] and "over: network 100% of 75%" in lines(fast)[-1]


def test_presets_are_counted_and_settings_change_them() -> None:
    config = override(PRESETS["small"](), ["data.text=hashed-words"])
    few, many = (stream_budget(override(config, [f"stream.steps={n}"])) for n in (2, 4))
    parts = [b.parts["network"] for b in (few, many)]
    assert parts[1]["MLP"].flops == 2 * parts[0]["MLP"].flops
    assert parts[1]["cache pass"] == parts[0]["cache pass"] and few.parts["codec"] == many.parts["codec"]
    wan = override(PRESETS["h200_1b3"](), ["data.codec=taew", "data.codec.path=x", "data.height=64", "data.width=64"])
    pixels = 4 * wan.stream.block * 64 * 64
    assert 3e5 < stream_budget(wan).parts["codec"]["codec, decoding"].flops / pixels < 4e5
    with pytest.raises(ConfigError, match=r"data\.codec=ltx is not counted"):
        stream_budget(override(config, ["data.codec=ltx", "data.codec.directory=x"]))
