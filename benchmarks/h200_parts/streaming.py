"""What a stream costs: pictures a second, latency, memory at any length, and each way to compute a block."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from stream_load import block_sound, push_turn
from torch import Tensor
from train import PICTURE

from h200_parts.case import Case, Figures, tried
from lpm_train.batch import Conditions
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.streaming.stream import StreamGenerator, Timing
from lpm_train.tools.budget import network

FASTEST: dict[str, Any] = {"cache": "static", "compile": True, "bf16": True, "decode": "beside"}
STARTS, ENOUGH = 200, 100
"""Streams that are begun, where there is time for so many; and how many tell the slowest hundredth."""
WAYS: dict[str, dict[str, Any]] = {
    "eager, fp32": {"cache": "eager"}, "static, fp32": {"cache": "static"},
    "eager, bf16": {"cache": "eager", "bf16": True}, "static, bf16": {"cache": "static", "bf16": True},
    "static, bf16, beside": {"cache": "static", "bf16": True, "decode": "beside"},
    "static, bf16, compiled": {"cache": "static", "bf16": True, "compile": True},
    "static, bf16, compiled, beside": FASTEST, "static, fp8, compiled, beside": {**FASTEST, "fp8": True},
}  # fmt: skip


def references(case: Case) -> Conditions:
    """Draw reference pictures, and where streams begin with a picture that picture."""
    m, d, (_, H, W) = case.config.model, case.config.data, case.size
    off, quiet = torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, m.audio_steps, m.audio_width)
    more = dict[str, Tensor]()
    if d.first_frame:
        more |= {"given_BFCHW": torch.randn(1, 1, m.channels, H, W), "given_on_BF": ~off}
    if m.picture_width:
        more |= {"picture_BIP": torch.randn(1, PICTURE, m.picture_width)}
    return Conditions(
        speak_BTA=quiet, listen_BTA=quiet, speak_on_BF=off, listen_on_BF=off, text_BLD=torch.zeros(1, 1, m.text_width),
        text_mask_BL=off, ref_BKCHW=torch.randn(1, d.max_refs, m.channels, H, W),
        ref_mask_BK=~off.expand(1, d.max_refs), ref_kind_BK=torch.zeros(1, d.max_refs, dtype=torch.long), **more,
    )  # fmt: skip


def network_of(case: Case) -> DiT:
    with case.device:
        model = make_model(case.config.model)
    return model.eval().requires_grad_(False)


def generator(case: Case, model: DiT, **stream: Any) -> StreamGenerator:
    config = replace(case.config, stream=replace(case.config.stream, **stream))
    e = case.encoders
    return StreamGenerator(model, config, e.codec, e.audio, e.text, references(case), device=case.device)


def feed(case: Case, stream: StreamGenerator, chunks: int, at: Callable[[int], None] = lambda chunk: None) -> int:
    """Push a block's sound again and again, speaking, listening and idle by turns; returns the chunks pushed."""
    sound = block_sound(case.config, case.encoders.codec)
    for chunk in range(1, chunks + 1):
        push_turn(stream, sound, chunk)
        at(chunk)
        if case.late:
            return chunk
    return chunks


def stream_part(case: Case) -> Figures:
    """Time a stream that lasts; `fps` is of a saturated one."""
    model, began = network_of(case), case.wait()
    stream = generator(case, model, **FASTEST)
    yield "settings", FASTEST
    yield "set_up_s", case.wait() - began
    yield "chunks", feed(case, stream, 12 if case.tiny else 300)
    stream.rest()
    yield from stream.timing.report().items()
    yield "memory_gb", case.peak_gb()
    yield "cache_gb", stream.rollout.cache.n_bytes / 1e9


def start_part(case: Case) -> Figures:
    """Time the first chunk of streams that begin anew, each captured anew of what was compiled once.

    Figures come again every ten starts. A hundredth of fewer than `ENOUGH` starts is none: then it is left out.
    """
    model, firsts = network_of(case), list[float]()
    while len(firsts) < (3 if case.tiny else STARTS) and not (firsts and case.late):
        stream = generator(case, model, **FASTEST)
        feed(case, stream, 2)
        stream.rest()
        firsts.append(stream.timing.report()["first_chunk_s"])
        yield "wait_s", stream.timing.wait_s
        del stream
        if len(firsts) % 10 == 0:
            case.freed()
            yield from first_chunks(firsts).items()
    yield from first_chunks(firsts).items()


def first_chunks(seconds: list[float]) -> dict[str, float]:
    """Sum up the first chunks of streams."""
    shares = {"p50": 0.5, "p90": 0.9} | ({"p99": 0.99} if len(seconds) >= ENOUGH else {})
    taken = torch.tensor(seconds, dtype=torch.float64)
    found = {f"first_chunk_{name}_s": float(taken.quantile(share)) for name, share in shares.items()}
    return {"starts": len(seconds), **found, "first_chunk_max_s": max(seconds)}


def memory_part(case: Case) -> Figures:
    """See that a stream of 1,000 chunks holds at its end what it held at its tenth."""
    stream = generator(case, network_of(case), **FASTEST)
    last, held = (14 if case.tiny else 1000), dict[int, dict[str, float]]()

    def look(chunk: int) -> None:
        if chunk in (10, last):
            stream.rest()
            case.wait()
            held[chunk] = {"cache": stream.rollout.cache.n_bytes}
            if case.cuda:
                held[chunk] |= {"allocated": torch.cuda.memory_allocated(), "peak": torch.cuda.max_memory_allocated()}

    yield "chunks", feed(case, stream, last, look)
    yield "bytes", {f"chunk_{n}": values for n, values in held.items()}
    yield "equal", held[10] == held[last] if last in held else {"refused": "time was up before the last chunk"}
    yield from stream.timing.report().items()


def cache_part(case: Case) -> Figures:
    """Compare ways to compute a block, with a full window: growing or fixed cache, compiled or not, decoded when."""
    _, H, W = case.size
    counted = network(case.config, H, W, case.encoders.text.length, case.config.data.max_refs)
    yield "network_tflop_a_block", sum(work.flops for work in counted.values()) / 1e12
    for name, settings in WAYS.items():
        if case.late:
            yield name, {"refused": "the time of this part was up"}
            continue
        yield name, tried(lambda settings=settings: _way(case, settings))  # type: ignore[misc]
        case.freed()


def _way(case: Case, settings: dict[str, Any]) -> dict[str, Any]:
    began, stream = case.wait(), generator(case, network_of(case), **settings)
    set_up_s = case.wait() - began
    feed(case, stream, case.config.stream.window // case.config.stream.block + 2)
    stream.rest()
    stream.timing = Timing(stream.timing.wait_s, done_s=time.perf_counter())
    feed(case, stream, 4 if case.tiny else 30)
    stream.rest()
    return {**stream.timing.report(), "set_up_s": set_up_s, "memory_gb": case.peak_gb()}
